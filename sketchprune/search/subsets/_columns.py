"""What the heuristics share: the columns w_i x_i of a linear model, and the error of a mask on them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sketchprune import _checks
from sketchprune._arithmetic import product


def columns_of(
    x: Float[Array | np.ndarray, "n d"], w: Float[Array | np.ndarray, "d"], keep: int
) -> Float[Array, "n d"]:
    """The columns w_i x_i. ValueError for d = 0, ``keep`` below 0 or above d, and entries that are not finite."""
    if not len(w):
        raise ValueError("w has 0 weights; it takes at least 1")
    _checks.whole("keep", keep, least=0)
    if keep > len(w):
        raise ValueError(f"keep is {keep}; it takes at most {len(w)}, the number of weights")
    _checks.finite("x", x)
    _checks.finite("w", w)
    return jnp.asarray(x) * jnp.asarray(w)


def squared_error(columns: Float[Array, "n d"], mask: Float[Array, "d"] | Bool[Array, "d"]) -> Float[Array, ""]:
    """‖Σ(m_i − 1)w_i x_i‖²."""
    return jnp.sum(product(columns, mask.astype(columns.dtype) - 1) ** 2)
