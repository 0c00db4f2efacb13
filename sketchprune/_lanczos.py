"""Ritz values of a symmetric operator, from its products with vectors."""

from collections.abc import Callable

import jax.numpy as jnp
import matfree.decomp
from jax import lax
from jaxtyping import Array, Float


def ritz_values(
    times: Callable[[Float[Array, " d"]], Float[Array, " d"]],
    start: Float[Array, " d"],
    num_products: int,
    *,
    filler: Float[Array, ""] | None = None,
) -> Float[Array, " products"]:
    """Ascending Ritz values on the Krylov space of ``start``, with full orthogonalisation.

    Where the space is exhausted after fewer than min(``num_products``, d) products its values are exact, and
    ``filler`` stands in for those that are missing: without it a number between the extremes.
    """
    iterate = matfree.decomp.tridiag_sym(min(num_products, start.size), materialize=False, custom_vjp=False)
    diagonal, beside = iterate(times, start).J_small
    # Once the Krylov space is exhausted matfree goes on with normalised rounding errors, or with 0/0. The
    # space found before is invariant: what follows is cut off; an entry between the extremes fills up.
    least = start.size * jnp.finfo(start.dtype).eps * lax.cummax(jnp.abs(diagonal))[:-1]
    going_on = jnp.cumprod(beside > least).astype(bool)
    diagonal = diagonal.at[1:].set(jnp.where(going_on, diagonal[1:], diagonal[0] if filler is None else filler))
    beside = jnp.where(going_on, beside, 0)
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
