"""Masks as sketches of a sum of vectors: the items, probabilities to sample them by, and bounds for any law.

X is [n, d], w is [d], x_i the i-th column of X. a_i = ‖x_i‖|w_i| is an item's own contribution and Z = Σa_i; the error
of a mask m is ‖X(m∘w) − Xw‖². The exact expected errors of laws are methods of :mod:`sketchprune.laws`.

Every function takes the dtype of its inputs and works under jit and vmap. Throughout 0²/0 = 0. A law that never picks
an item with a_i > 0 has infinite error: a ValueError where the values are known, +inf under a trace.
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
from sketchprune.types import Matrix, Number, PerColumn

Failure = float | Float[Array | np.ndarray, "*t"]


# --- items


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

    def combination(coefficients: Float[Array, "d"]) -> Float[Array, ""]:
        return _squared(product(x, coefficients * w))

    def gram() -> Float[Array, "d d"]:
        columns = x * w
        return product(columns.T, columns)

    return Items(magnitudes(x, w) ** 2, combination, gram)


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

    def combination(coefficients: Float[Array, "P"]) -> Float[Array, ""]:
        return _squared(product(j * coefficients, j.T))

    def gram() -> Float[Array, "P P"]:
        return product(j.T, j) ** 2

    return Items(jnp.sum(j**2, axis=0) ** 2, combination, gram)


# --- probabilities


def magnitudes(x: Matrix, w: PerColumn) -> Float[Array, "d"]:
    """What each item contributes on its own, a_i = ‖x_i‖|w_i|.

    Its derivative at a zero column or weight is 0.

    Args:
        x: [n, d].
        w: [d].

    Returns:
        a, [d].

    Cost: O(nd).
    Source: drineas2006matmul.

    >>> magnitudes(jnp.array([[3.0, 0.0], [4.0, 1.0]]), jnp.array([-1.0, 2.0])).tolist()
    [5.0, 2.0]
    """
    squares = jnp.sum(x**2, axis=0)
    empty = squares == 0
    return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, squares))) * jnp.abs(w)


def optimal_probabilities(x: Matrix, w: PerColumn) -> Float[Array, "d"]:
    """The probabilities with the least expected error of a multinomial sketch, p*_i = a_i/Z.

    Args:
        x: [n, d].
        w: [d].

    Returns:
        p*, [d]; NaN under a trace where Z = 0.

    Raises:
        ValueError: where Z = 0, and where an a_i is NaN or infinite.

    Cost: O(nd).
    Source: drineas2006matmul, sketch/optimal-probabilities.

    >>> optimal_probabilities(jnp.eye(2), jnp.array([1.0, -3.0])).tolist()
    [0.25, 0.75]
    """
    sizes = magnitudes(x, w)
    known = _checks.weights("‖x_i‖|w_i|", sizes)
    if known is not None and not known.positive:
        raise ValueError("x and w have Z = 0: each column or its weight is zero; it takes one that contributes")
    return sizes / sizes.sum()


def data_free_probabilities(w: PyTree[Float[Array | np.ndarray, "..."]]) -> PyTree[Float[Array, "..."]]:
    """Probabilities in proportion to size, p_i = |w_i|/‖w‖₁, over all leaves together.

    Args:
        w: weights, or scores: a pytree of floats.

    Returns:
        p, shaped like w; NaN under a trace where w is zero everywhere.

    Raises:
        ValueError: for weights that are NaN or infinite, or all zero.

    Cost: O(d).
    Source: sketch/data-free.

    >>> data_free_probabilities(jnp.array([1.0, -3.0])).tolist()
    [0.25, 0.75]
    """
    sizes = jax.tree.map(jnp.abs, w)
    known = _checks.weights("w", sizes)
    if known is not None and not known.positive:
        raise ValueError("w is zero everywhere; it takes weights that are not all zero")
    total = tree_sum(sizes)
    return jax.tree.map(lambda size: size / total, sizes)


def uniform_probabilities(w: PyTree[Float[Array | np.ndarray, "..."]]) -> PyTree[Float[Array, "..."]]:
    """The same probability 1/d for every item, zero weights included.

    Args:
        w: a pytree of floats, of which only shapes and dtypes count.

    Returns:
        p, shaped like w.

    Cost: O(d).

    >>> uniform_probabilities(jnp.array([1.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(w))
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, 1 / count), w)


# --- how good probabilities are


def near_optimality(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """The largest β ≤ 1 with p ≥ βp*: the least p_i/p*_i over p*_i > 0.

    Args:
        optimal: p*, a pytree of floats >= 0.
        probabilities: p, of the same structure.

    Returns:
        β.

    Raises:
        ValueError: for entries that are negative or not finite.

    Cost: O(d).
    Source: drineas2006matmul, sketch/near-optimal.

    >>> round(float(near_optimality(jnp.array([0.25, 0.75]), jnp.array([0.5, 0.5]))), 3)
    0.667
    """
    _checks.weights("optimal", optimal)
    _checks.weights("probabilities", probabilities)

    def least(o: Array, p: Array) -> Array:
        return jnp.min(jnp.where(o == 0, 1, p / jnp.where(o == 0, 1, o)), initial=1)

    return functools.reduce(jnp.minimum, jax.tree.leaves(jax.tree.map(least, optimal, probabilities)))


def chi_square(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """How far p is from p*: χ²(p*‖p) = Σp*_i²/p_i − 1.

    Summed as Σ(p*_i − p_i)²/p_i, which is as accurate near 0. It is +inf where p vanishes and p* does not: that is a
    distance, and no error here.

    Args:
        optimal: p*, a pytree of probabilities.
        probabilities: p, of the same structure.

    Returns:
        One number >= 0.

    Raises:
        ValueError: for what are no probabilities.

    Cost: O(d).
    Source: sketch/optimal-probabilities.

    >>> round(float(chi_square(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 3)
    0.333
    """
    _checks.probabilities("optimal", optimal)
    _checks.probabilities("probabilities", probabilities)
    return tree_sum(jax.tree.map(lambda o, p: ratio((o - p) ** 2, p), optimal, probabilities))


def efficiency(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """What sampling by p achieves of sampling by p*: 1/(1 + χ²(p*‖p)), the ratio of the least Σa_i²/p_i to that of p.

    Args:
        optimal: p*, a pytree of probabilities.
        probabilities: p, of the same structure.

    Returns:
        One number in [0, 1]; 0 where p vanishes and p* does not.

    Raises:
        ValueError: as :func:`chi_square`.

    Cost: O(d).
    Source: tangent/score-efficiency.

    >>> round(float(efficiency(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 3)
    0.75
    """
    return 1 / (1 + chi_square(optimal, probabilities))


def excess(x: Matrix, w: PerColumn, probabilities: PerColumn, budget: Number) -> Float[Array, ""]:
    """What sampling by p costs beyond the optimum: (Z²/s)χ²(p*‖p).

    Args:
        x: [n, d].
        w: [d].
        probabilities: p, [d].
        budget: s > 0.

    Returns:
        One number >= 0.

    Raises:
        ValueError: for what are no probabilities, for p_i = 0 where a_i > 0, and for s ≤ 0.

    Cost: O(nd).
    Source: sketch/optimal-probabilities.

    >>> round(float(excess(jnp.eye(2), jnp.ones(2), jnp.array([0.25, 0.75]), 1)), 3)
    1.333
    """
    _checks.positive("budget", budget)
    total = magnitudes(x, w).sum()
    optimal = optimal_probabilities(x, w)
    check_support("probabilities", optimal, probabilities)
    return total**2 / budget * chi_square(optimal, probabilities)


# --- bounds on the expected error, and on the error of one mask


def near_optimal_bound(x: Matrix, w: PerColumn, budget: Number, *, beta: Number = 1.0) -> Float[Array, ""]:
    """An upper bound on the expected error of a multinomial sketch with p ≥ βp*: (Z²/β − ‖Xw‖²)/s.

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        beta: β in (0, 1].

    Returns:
        A bound on a squared norm.

    Raises:
        ValueError: for a budget or β out of range.

    Cost: O(nd).
    Source: sketch/near-optimal.

    >>> float(near_optimal_bound(jnp.eye(2), jnp.ones(2), 2, beta=0.5))
    3.0
    """
    _checks.positive("budget", budget)
    _checks.interval("beta", beta, closed=True)
    largest = magnitudes(x, w).sum() ** 2 / beta
    return jnp.maximum(largest - _squared(product(x, w)), 0) / budget  # negative by rounding alone


def frobenius_bound(x: Matrix, w: PerColumn, budget: Number, *, beta: Number = 1.0) -> Float[Array, ""]:
    """An upper bound on the expected error of a multinomial sketch with p ≥ βp*, by norms alone: ‖X‖_F²‖w‖²/(βs).

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        beta: β in (0, 1].

    Returns:
        A bound on a squared norm.

    Raises:
        ValueError: for a budget or β out of range.

    Cost: O(nd).
    Source: drineas2006matmul, sketch/frobenius.

    >>> float(frobenius_bound(jnp.eye(2), jnp.ones(2), 2))
    2.0
    """
    _checks.positive("budget", budget)
    _checks.interval("beta", beta, closed=True)
    return _squared(x) * _squared(w) / (beta * budget)


def dkm_tail(x: Matrix, w: PerColumn, budget: Number, delta: Failure, *, beta: Number = 1.0) -> Float[Array, "*t"]:
    """With probability 1 − δ, ‖X(m∘w) − Xw‖ ≤ η‖X‖_F‖w‖/√(βs), where η = 1 + √((8/β)log(1/δ)).

    For multinomial sketches with p ≥ βp*.

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        delta: δ in (0, 1), the failure rate; one or several.
        beta: β in (0, 1].

    Returns:
        A bound on a norm, not squared, for each δ.

    Raises:
        ValueError: for a budget, δ or β out of range.

    Cost: O(nd).
    Source: drineas2006matmul (Theorem 1), sketch/high-probability.

    >>> round(float(dkm_tail(jnp.eye(2), jnp.ones(2), 4, jnp.exp(-2.0))), 4)
    5.0
    """
    _checks.interval("delta", delta, closed=False)
    eta = 1 + jnp.sqrt(8 / jnp.asarray(beta) * jnp.log(1 / jnp.asarray(delta)))
    return eta * jnp.sqrt(frobenius_bound(x, w, budget, beta=beta))


def mcdiarmid_tail(x: Matrix, w: PerColumn, budget: Number, delta: Failure) -> Float[Array, "*t"]:
    """With probability 1 − δ, ‖X(m∘w) − Xw‖ ≤ √((Z² − ‖Xw‖²)/s) + Z√(2log(1/δ)/s).

    For multinomial sketches at p = p*.

    Args:
        x: [n, d].
        w: [d].
        budget: s > 0.
        delta: δ in (0, 1), the failure rate; one or several.

    Returns:
        A bound on a norm, not squared, for each δ.

    Raises:
        ValueError: for a budget or δ out of range.

    Cost: O(nd).
    Source: sketch/high-probability-sharp.

    >>> round(float(mcdiarmid_tail(jnp.array([[1.0, 1.0]]), jnp.ones(2), 4, jnp.exp(-2.0))), 4)
    2.0
    """
    _checks.interval("delta", delta, closed=False)
    mean = jnp.sqrt(near_optimal_bound(x, w, budget))
    return mean + magnitudes(x, w).sum() * jnp.sqrt(2 * jnp.log(1 / jnp.asarray(delta)) / budget)


def _squared(values: Array | np.ndarray) -> Float[Array, ""]:
    return jnp.sum(values**2)
