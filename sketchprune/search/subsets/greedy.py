"""Greedy selection: keep the weight that lowers the error most, again and again."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.search.subsets._columns import columns_of, squared_error


@checked
def greedy(
    x: Float[Array | np.ndarray, "n d"], w: Float[Array | np.ndarray, "d"], keep: int
) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    """A 0/1 mask built by adding, one at a time, the weight that lowers the error ‖X(m∘w) − Xw‖² most.

    Stops after ``keep`` weights, or earlier when no addition lowers the error. Of equal weights the first is added.

    Args:
        x: data, [n, d].
        w: weights of the linear model, [d].
        keep: the most weights that the mask keeps, 0 to d. One compiled program serves every value.

    Returns:
        The boolean mask [d] and its error.

    Raises:
        ValueError: for d = 0, and for ``keep`` outside 0 … d.

    Cost: O(nd² + keep·d), memory d².

    Example:
        >>> mask, error = greedy(jnp.eye(3), jnp.array([1.0, -3.0, 2.0]), 2)
        >>> mask.tolist(), float(error)
        ([False, True, True], 1.0)
    """
    return _greedy(columns_of(x, w, keep), keep)


@jax.jit
def _greedy(columns: Float[Array, "n d"], keep: int | Int[Array, ""]) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    gram = product(columns.T, columns)
    norms = jnp.diagonal(gram)

    def add(_, carry):
        kept, slope = carry
        change = jnp.where(kept, jnp.inf, 2 * slope + norms)
        item = jnp.argmin(change)
        better = change[item] < 0
        return kept.at[item].set(kept[item] | better), slope + better * gram[item]

    # The slope is G(m − 1); adding item i changes the error by 2·slope_i + G_ii.
    kept, _ = lax.fori_loop(0, keep, add, (jnp.zeros(len(gram), bool), -jnp.sum(gram, axis=1)))
    return kept, squared_error(columns, kept)
