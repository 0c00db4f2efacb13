"""Ritz values of a symmetric operator, from its products with vectors."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def ritz_values(
    times: Callable[[Float[Array, " d"]], Float[Array, " d"]],
    start: Float[Array, " d"],
    num_products: int,
    *,
    filler: float | None = None,
) -> Float[Array, " products"]:
    """Ascending Ritz values on the Krylov space of ``start``: Lanczos iteration with full orthogonalisation.

    Once the space is exhausted, before min(``num_products``, d) products, its values are exact and ``filler``
    stands for those that are missing; without it a number between the extremes. (matfree's iteration goes on from
    there with normalised rounding errors, and not all that it returns then are eigenvalues.)
    """
    count = min(num_products, start.size)
    rounding = 8 * start.size**0.5 * jnp.finfo(start.dtype).eps

    def step(carry: tuple, k: Array) -> tuple[tuple, tuple[Array, Array]]:
        basis, vector, largest = carry
        basis = lax.dynamic_update_index_in_dim(basis, vector, k, 0)
        image = times(vector)
        diagonal = vector @ image
        for _ in range(2):  # once leaves rounding errors times the condition, twice is enough
            image = image - (basis @ image) @ basis
        beside = jnp.linalg.norm(image)
        largest = jnp.maximum(largest, abs(diagonal) + beside)
        beside = jnp.where(beside <= rounding * largest, 0, beside)
        vector = jnp.where(beside == 0, 0, image / jnp.where(beside == 0, 1, beside))
        return (basis, vector, largest), (diagonal, beside)

    length = jnp.linalg.norm(start)
    begin = jnp.zeros((count, start.size), start.dtype), start / length, jnp.zeros((), start.dtype)
    _, (diagonal, beside) = lax.scan(step, begin, jnp.arange(count))
    within = jnp.cumprod(beside[:-1] != 0).astype(bool)
    missing = diagonal[0] if filler is None else filler
    diagonal = diagonal.at[1:].set(jnp.where(within, diagonal[1:], missing))
    beside = jnp.where(within, beside[:-1], 0)
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
