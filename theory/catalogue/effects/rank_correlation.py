"""Rank correlation, inside compiled programs."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def spearman(a: Float[Array, "n"], b: Float[Array, "n"]) -> Float[Array, ""]:
    """Spearman's rank correlation; tied entries share their mean rank. 0 where one of the two is constant."""

    def centred_ranks(values: Array) -> Array:
        below = values[None, :] < values[:, None]
        equal = values[None, :] == values[:, None]
        ranks = below.sum(1) + equal.sum(1) / 2
        return ranks - ranks.mean()

    a, b = centred_ranks(a), centred_ranks(b)
    norm = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.where(norm > 0, jnp.sum(a * b) / jnp.where(norm > 0, norm, 1), 0.0)
