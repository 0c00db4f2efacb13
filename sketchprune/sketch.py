"""Masks as sketches of Xw: probabilities, exact errors, tail bounds, and training errors after pruning.

X is [n, d], w is [d], x_i the i-th column, a_i = ‖x_i‖|w_i|, Z = Σa_i; the error of a mask is ‖X(m∘w) − Xw‖².
Every function takes the dtype of its inputs and works under jit and vmap. Throughout 0²/0 = 0; a law that
never picks an item with a_i > 0 has infinite error: a ValueError where the values are known, +inf under a
trace.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks
from sketchprune._arithmetic import product, ratio
from sketchprune.laws._joined import check_support, tree_sum
from sketchprune.laws.items import Items
from sketchprune.types import Number


def magnitudes(x: Float[Array, "n d"], w: Float[Array, "d"]) -> Float[Array, "d"]:
    """What each item contributes on its own, a_i = ‖x_i‖|w_i|.

    Its derivative at a zero column or weight is 0. O(nd). Source: drineas2006matmul.

    >>> magnitudes(jnp.array([[3.0, 0.0], [4.0, 1.0]]), jnp.array([-1.0, 2.0]))
    Array([5., 2.], dtype=float64)
    """
    squares = jnp.sum(x**2, axis=0)
    empty = squares == 0
    return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, squares))) * jnp.abs(w)


def optimal_probabilities(x: Float[Array, "n d"], w: Float[Array, "d"]) -> Float[Array, "d"]:
    """The probabilities with the least expected error, p*_i = a_i/Z.

    ValueError when Z = 0 and when an a_i is NaN or infinite; NaN then under a trace. O(nd). Source:
    drineas2006matmul, sketch/optimal-probabilities.

    >>> optimal_probabilities(jnp.eye(2), jnp.array([1.0, -3.0]))
    Array([0.25, 0.75], dtype=float64)
    """
    sizes = magnitudes(x, w)
    known = _checks.weights("‖x_i‖|w_i|", sizes)
    if known is not None and not known.positive:
        raise ValueError("x and w have Z = 0: each column or its weight is zero; it takes one that contributes")
    return sizes / sizes.sum()


def data_free_probabilities(w: PyTree[Float[Array, "..."]]) -> PyTree[Float[Array, "..."]]:
    """Probabilities in proportion to size, p_i = |w_i|/‖w‖₁, over all leaves of weights or of scores.

    ValueError for NaN, infinite or all-zero weights; NaN then under a trace. O(d). Source: sketch/data-free.

    >>> data_free_probabilities(jnp.array([1.0, -3.0]))
    Array([0.25, 0.75], dtype=float64)
    """
    sizes = jax.tree.map(jnp.abs, w)
    known = _checks.weights("w", sizes)
    if known is not None and not known.positive:
        raise ValueError("w is zero everywhere; it takes weights that are not all zero")
    total = tree_sum(sizes)
    return jax.tree.map(lambda size: size / total, sizes)


def uniform_probabilities(w: PyTree[Float[Array, "..."]]) -> PyTree[Float[Array, "..."]]:
    """The same probability 1/d for every item, zero weights included.

    O(d).

    >>> uniform_probabilities(jnp.array([1.0, 0.0]))
    Array([0.5, 0.5], dtype=float64)
    """
    count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(w))
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, 1 / count), w)


def linear_items(x: Float[Array | np.ndarray, "n d"], w: Float[Array | np.ndarray, "d"]) -> Items:
    """The items of a linear model, B_i = w_i x_i: the error of a mask is ‖X(m∘w) − Xw‖².

    Args:
        x: [n, d].
        w: [d].

    Returns:
        ‖B_i‖² = a_i², ‖Σc_i B_i‖² = ‖X(c∘w)‖² and ⟨B_i, B_j⟩ = w_i w_j⟨x_i, x_j⟩.

    Cost: O(nd) for squares and each combination, O(nd²) for the Gram matrix.
    Source: drineas2006matmul, sketch/second-moment.

    >>> from sketchprune import laws
    >>> float(laws.Multinomial(jnp.array([0.5, 0.5]), 2).error(linear_items(jnp.eye(2), jnp.ones(2))))
    1.0
    """
    x, w = jnp.asarray(x), jnp.asarray(w)

    def gram() -> Float[Array, "d d"]:
        columns = x * w
        return product(columns.T, columns)

    return Items(magnitudes(x, w) ** 2, lambda c: _squared(product(x, c * w)), gram)


def tangent_items(jacobian: Float[Array | np.ndarray, "N P"]) -> Items:
    """The items of a tangent kernel, B_i = J_iJ_iᵀ: the error of a mask is ‖J diag(m) Jᵀ − JJᵀ‖_F².

    Args:
        jacobian: J, [N, P], the derivatives of N outputs by P weights.

    Returns:
        ‖B_i‖² = ‖J_i‖⁴, ‖Σc_i B_i‖² = ‖J diag(c) Jᵀ‖_F² and ⟨B_i, B_j⟩ = ⟨J_i, J_j⟩².

    Cost: O(NP) for squares, O(N²P) for each combination, O(NP²) for the Gram matrix.
    Source: tangent/sketch-moment.

    >>> from sketchprune import laws
    >>> float(laws.Poisson(jnp.array([0.5, 1.0])).error(tangent_items(jnp.array([[2.0, 1.0]]))))
    16.0
    """
    j = jnp.asarray(jacobian)
    return Items(
        jnp.sum(j**2, axis=0) ** 2,
        lambda c: _squared(product(j * c, j.T)),
        lambda: product(j.T, j) ** 2,
    )


def near_optimality(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """The largest β ≤ 1 with p ≥ βp*: min p_i/p*_i over p*_i > 0.

    ValueError for negative or NaN entries. O(d). Source: drineas2006matmul, sketch/near-optimal.

    >>> near_optimality(jnp.array([0.25, 0.75]), jnp.array([0.5, 0.5])).round(3)
    Array(0.667, dtype=float64)
    """
    _checks.weights("optimal", optimal)
    _checks.weights("probabilities", probabilities)

    def least(o: Array, p: Array) -> Array:
        return jnp.min(jnp.where(o == 0, 1, p / jnp.where(o == 0, 1, o)), initial=1)

    return functools.reduce(jnp.minimum, jax.tree.leaves(jax.tree.map(least, optimal, probabilities)))


def chi_square(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """How far p is from p*: χ²(p*‖p) = Σ p*_i²/p_i − 1.

    Pytrees of one structure. +inf when p vanishes where p* does not, which is a distance and no error here.
    Summed as Σ(p*_i − p_i)²/p_i, which is as accurate near 0. ValueError for what is no probability. O(d).
    Source: sketch/optimal-probabilities.

    >>> chi_square(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75])).round(3)
    Array(0.333, dtype=float64)
    """
    _checks.probabilities("optimal", optimal)
    _checks.probabilities("probabilities", probabilities)
    return tree_sum(jax.tree.map(lambda o, p: ratio((o - p) ** 2, p), optimal, probabilities))


def efficiency(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """One number in [0, 1] for sampling by p in place of p*: 1/(1 + χ²(p*‖p)).

    The ratio of the least Σa_i²/p_i to that of p; 0 when p vanishes where p* does not. O(d). Source:
    tangent/score-efficiency.

    >>> efficiency(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75])).round(3)
    Array(0.75, dtype=float64)
    """
    return 1 / (1 + chi_square(optimal, probabilities))


def excess(
    x: Float[Array, "n d"], w: Float[Array, "d"], probabilities: Float[Array, "d"], budget: Number
) -> Float[Array, ""]:
    """What sampling by p costs beyond the optimum, (Z²/s)χ²(p*‖p).

    Raises as :func:`second_moment` does. O(nd). Source: sketch/optimal-probabilities.

    >>> excess(jnp.eye(2), jnp.ones(2), jnp.array([0.25, 0.75]), 1).round(3)
    Array(1.333, dtype=float64)
    """
    _checks.positive("budget", budget)
    total = magnitudes(x, w).sum()
    optimal = optimal_probabilities(x, w)
    check_support("probabilities", optimal, probabilities)
    return total**2 / budget * chi_square(optimal, probabilities)


def near_optimal_bound(
    x: Float[Array, "n d"], w: Float[Array, "d"], budget: Number, *, beta: Number = 1.0
) -> Float[Array, ""]:
    """An upper bound on the expected error when p ≥ βp*: (Z²/β − ‖Xw‖²)/s.

    ValueError for s ≤ 0 and β outside (0, 1]. O(nd). Source: sketch/near-optimal.

    >>> near_optimal_bound(jnp.eye(2), jnp.ones(2), 2, beta=0.5)
    Array(3., dtype=float64)
    """
    _checks.positive("budget", budget)
    _checks.interval("beta", beta, closed=True)
    return _beyond(magnitudes(x, w).sum() ** 2 / beta, x, w) / budget


def frobenius_bound(
    x: Float[Array, "n d"], w: Float[Array, "d"], budget: Number, *, beta: Number = 1.0
) -> Float[Array, ""]:
    """An upper bound on the expected error when p ≥ βp*, by norms alone: ‖X‖_F²‖w‖²/(βs).

    ValueError for s ≤ 0 and β outside (0, 1]. O(nd). Source: drineas2006matmul, sketch/frobenius.

    >>> frobenius_bound(jnp.eye(2), jnp.ones(2), 2)
    Array(2., dtype=float64)
    """
    _checks.positive("budget", budget)
    _checks.interval("beta", beta, closed=True)
    return _squared(x) * _squared(w) / (beta * budget)


def dkm_tail(
    x: Float[Array, "n d"], w: Float[Array, "d"], budget: Number, delta: Number, *, beta: Number = 1.0
) -> Float[Array, ""]:
    """‖X(m∘w) − Xw‖ ≤ η/√(βs)·‖X‖_F‖w‖ except with probability δ, η = 1 + √((8/β)log(1/δ)).

    For multinomial sketches with p ≥ βp*. A norm, not squared. ValueError for s ≤ 0, δ outside (0, 1), β
    outside (0, 1]. O(nd). Source: drineas2006matmul (Theorem 1), sketch/high-probability.

    >>> dkm_tail(jnp.eye(2), jnp.ones(2), 4, jnp.exp(-2.0))
    Array(5., dtype=float64)
    """
    _checks.interval("delta", delta, closed=False)
    eta = 1 + jnp.sqrt(8 / jnp.asarray(beta) * jnp.log(1 / jnp.asarray(delta)))
    return eta * jnp.sqrt(frobenius_bound(x, w, budget, beta=beta))


def mcdiarmid_tail(x: Float[Array, "n d"], w: Float[Array, "d"], budget: Number, delta: Number) -> Float[Array, ""]:
    """At p*, ‖X(m∘w) − Xw‖ ≤ √((Z²−‖Xw‖²)/s) + Z√(2log(1/δ)/s) except with probability δ.

    A norm, not squared. ValueError for s ≤ 0 and δ outside (0, 1). O(nd). Source:
    sketch/high-probability-sharp.

    >>> mcdiarmid_tail(jnp.array([[1.0, 1.0]]), jnp.ones(2), 4, jnp.exp(-2.0))
    Array(2., dtype=float64)
    """
    _checks.interval("delta", delta, closed=False)
    return jnp.sqrt(near_optimal_bound(x, w, budget)) + magnitudes(x, w).sum() * jnp.sqrt(
        2 * jnp.log(1 / jnp.asarray(delta)) / budget
    )


def _beyond(squares: Array, x: Float[Array, "n d"], w: Float[Array, "d"]) -> Float[Array, ""]:
    """``squares`` − ‖Xw‖², which is not negative but for rounding."""
    return jnp.maximum(squares - _squared(product(x, w)), 0)


def _squared(values: Array) -> Float[Array, ""]:
    return jnp.sum(values**2)
