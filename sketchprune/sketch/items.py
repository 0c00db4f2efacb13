"""The vectors that a mask weighs, in a linear model and in a tangent kernel."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.laws.items import Items
from sketchprune.sketch.probabilities import magnitudes
from sketchprune.types import Matrix, PerColumn


@checked
def linear_items(x: Matrix, w: PerColumn) -> Items:
    """The items of a linear model, B_i = w_i x_i, for which the error of a mask is ‖X(m∘w) − Xw‖².

    ‖B_i‖² = a_i², ‖Σc_i B_i‖² = ‖X(c∘w)‖² and ⟨B_i, B_j⟩ = w_i w_j⟨x_i, x_j⟩.

    Args:
        x: [n, d].
        w: [d].

    Returns:
        The items, for a law's ``error``.

    Cost: O(nd) for the squares and for each combination, O(nd²) for the Gram matrix.
    Source: drineas2006matmul, sketch/second-moment.

    >>> from sketchprune import laws
    >>> float(laws.Multinomial(jnp.array([0.5, 0.5]), 2).error(linear_items(jnp.eye(2), jnp.ones(2))))
    1.0
    """
    x, w = jnp.asarray(x), jnp.asarray(w)

    def combination(coefficients: Float[Array | np.ndarray, "d"]) -> Float[Array, ""]:
        return jnp.sum(product(x, coefficients * w) ** 2)

    def gram() -> Float[Array, "d d"]:
        columns = x * w
        return product(columns.T, columns)

    return Items(magnitudes(x, w) ** 2, combination, gram)


@checked
def tangent_items(jacobian: Float[Array | np.ndarray, "N P"]) -> Items:
    """The items of a tangent kernel, B_i = J_iJ_iᵀ, for which the error of a mask is ‖J diag(m) Jᵀ − JJᵀ‖_F².

    ‖B_i‖² = ‖J_i‖⁴, ‖Σc_i B_i‖² = ‖J diag(c) Jᵀ‖_F² and ⟨B_i, B_j⟩ = ⟨J_i, J_j⟩².

    Args:
        jacobian: J, [N, P], the derivatives of N outputs by P weights.

    Returns:
        The items, for a law's ``error``.

    Cost: O(NP) for the squares, O(N²P) for each combination, O(NP²) for the Gram matrix.
    Source: tangent/sketch-moment.

    >>> from sketchprune import laws
    >>> float(laws.Poisson(jnp.array([0.5, 1.0])).error(tangent_items(jnp.array([[2.0, 1.0]]))))
    16.0
    """
    j = jnp.asarray(jacobian)

    def combination(coefficients: Float[Array | np.ndarray, "P"]) -> Float[Array, ""]:
        return jnp.sum(product(j * coefficients, j.T) ** 2)

    def gram() -> Float[Array, "P P"]:
        return product(j.T, j) ** 2

    return Items(jnp.sum(j**2, axis=0) ** 2, combination, gram)
