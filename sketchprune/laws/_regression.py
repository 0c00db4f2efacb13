"""Pieces of the ridge regressions that bound expected training errors."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import linalg
from sketchprune._arithmetic import product
from sketchprune.types import Matrix, PerRow


def unit_columns(x: Matrix) -> Float[Array, "n d"]:
    """The columns divided by their norms; zero columns stay."""
    x = jnp.asarray(x)
    norms = jnp.linalg.norm(x, axis=0)
    return x / jnp.where(norms > 0, norms, 1)


def distance(matrix: Matrix, vector: PerRow) -> Float[Array, ""]:
    """The squared distance of the vector to the range, whatever the rank."""
    left, singular, _ = linalg.thin_svd(matrix)
    left = jnp.where(singular == 0, 0, left)
    return jnp.sum((vector - product(left, product(left.T, vector))) ** 2)


def spectrum(x: Matrix, y: PerRow) -> tuple[Array, Array, Array]:
    """The eigenvalues of XXᵀ that may be non-zero, ⟨v_k, y⟩ for each, and the square of the rest of y."""
    left, singular, _ = linalg.thin_svd(x)
    along = product(left.T, y)
    return singular**2, along, jnp.sum((y - product(left, along)) ** 2)
