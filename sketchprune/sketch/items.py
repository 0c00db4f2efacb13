"""The vectors that a mask weighs: in a linear model, in a tangent kernel, and of groups in either."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sketchprune import masks
from sketchprune._arithmetic import column_squares, product
from sketchprune._boundary import checked
from sketchprune.laws._joined import joined, split, tree_size
from sketchprune.laws.items import Items
from sketchprune.sketch.probabilities import magnitudes
from sketchprune.types import Groups, Matrix, PerColumn, Prunable


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

    return Items(column_squares(j) ** 2, combination, gram)


@checked
def group_items(items: Items, groups: Groups, prunable: Prunable = None) -> Items:
    """The items of a structured mask, B_g = Σ_{i∈g}B_i: what a law of masks of groups weighs.

    ‖B_g‖² and ‖Σc_g B_g‖² are combinations of the items, and the Gram matrix is summed over groups. The least error of
    s draws has p*_g ∝ ‖B_g‖, the norm of a sum: ``laws.Multinomial.proportional(jnp.sqrt(found.squares), s)``. The sum
    of the norms of its weights is larger wherever weights of a group cancel.

    Args:
        items: the vectors of single weights.
        groups: what a group is, as for :func:`sketchprune.masks.group_scores`; with (b,) each b neighbours in a
            vector of weights are one.
        prunable: which leaves have groups, likewise.

    Returns:
        The items of the groups, shaped as ``masks.group_scores`` makes them. ``masks.spread`` makes masks of weights of
        the masks that a law draws.

    Raises:
        ValueError: as :func:`sketchprune.masks.group_scores`.

    Cost: one combination for each group, one for each combination.
    Source: sketch/groups, sketch/group-probabilities.

    >>> pair = group_items(linear_items(jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.array([3.0, -2.0, 1.0, 1.0])), (2,))
    >>> pair.squares.tolist(), pair.gram().tolist()
    ([1.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    weights = items.squares
    grid = jax.eval_shape(lambda squares: masks.group_scores(squares, groups, prunable), weights)
    each = jnp.eye(tree_size(grid), dtype=joined(weights).dtype)

    def members(coefficients: PyTree[Array]) -> PyTree[Array]:
        """The coefficients of the weights of groups with these coefficients."""
        return masks.spread(coefficients, weights)

    def combination(coefficients: PyTree[Float[Array | np.ndarray, "..."]]) -> Float[Array, ""]:
        return items.combination(members(coefficients))

    def gram() -> Float[Array, "g g"]:
        flat = jax.vmap(lambda one: joined(members(split(one, grid))))(each)
        return product(product(flat, items.gram()), flat.T)

    return Items(split(jax.vmap(lambda one: combination(split(one, grid)))(each), grid), combination, gram)
