"""Masks as sketches of Xw: probabilities, exact errors, tail bounds, and training errors after pruning.

X is [n, d], w is [d], x_i the i-th column, a_i = ‖x_i‖|w_i|, Z = Σa_i; the error of a mask is ‖X(m∘w) − Xw‖².
Every function takes the dtype of its inputs and works under jit and vmap. Throughout 0²/0 = 0; a law that
never picks an item with a_i > 0 has infinite error: a ValueError where the values are known, +inf under a
trace.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from sketchprune import _checks
from sketchprune._arithmetic import product, ratio
from sketchprune._training_error import Number
from sketchprune._training_error import dpp_error as dpp_error
from sketchprune._training_error import dpp_size as dpp_size
from sketchprune._training_error import fixed_size_dpp_error as fixed_size_dpp_error
from sketchprune._training_error import ridge_bound as ridge_bound
from sketchprune._training_error import ridge_bound_multinomial as ridge_bound_multinomial


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
    total = _sum(sizes)
    return jax.tree.map(lambda size: size / total, sizes)


def uniform_probabilities(w: PyTree[Float[Array, "..."]]) -> PyTree[Float[Array, "..."]]:
    """The same probability 1/d for every item, zero weights included.

    O(d).

    >>> uniform_probabilities(jnp.array([1.0, 0.0]))
    Array([0.5, 0.5], dtype=float64)
    """
    count = sum(jnp.size(leaf) for leaf in jax.tree.leaves(w))
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, 1 / count), w)


def second_moment(
    x: Float[Array, "n d"], w: Float[Array, "d"], probabilities: Float[Array, "d"], budget: Number
) -> Float[Array, ""]:
    """The expected error of a multinomial sketch, E‖X(m∘w) − Xw‖² = (Σa_i²/p_i − ‖Xw‖²)/s.

    ValueError for probabilities that are negative, do not sum to one or vanish where a_i does not, and for s
    ≤ 0. O(nd). Source: drineas2006matmul (Lemma 4), sketch/second-moment.

    >>> second_moment(jnp.eye(2), jnp.ones(2), jnp.array([0.5, 0.5]), 2)
    Array(1., dtype=float64)
    """
    _checks.probabilities("probabilities", probabilities)
    _checks.positive("budget", budget)
    squares = _support("probabilities", magnitudes(x, w), probabilities) ** 2
    return _beyond(ratio(squares, probabilities).sum(), x, w) / budget


def poisson_moment(x: Float[Array, "n d"], w: Float[Array, "d"], rates: Float[Array, "d"]) -> Float[Array, ""]:
    """The expected error of a poisson sketch, Σa_i²(1/π_i − 1).

    ValueError for rates outside [0, 1] or that vanish where a_i does not. O(nd). Source: sketch/poisson.

    >>> poisson_moment(jnp.eye(2), jnp.ones(2), jnp.array([0.5, 1.0]))
    Array(1., dtype=float64)
    """
    _checks.rates("rates", rates)
    squares = _support("rates", magnitudes(x, w), rates) ** 2
    return ratio(squares * (1 - rates), rates).sum()


def binary_moment(x: Float[Array, "n d"], w: Float[Array, "d"], rates: Float[Array, "d"]) -> Float[Array, ""]:
    """The expected error of a binary poisson mask, bias and variance: ‖Σ(1−π_i)w_i x_i‖² + Σπ_i(1−π_i)a_i².

    Rates may vanish. ValueError for rates outside [0, 1]. O(nd). Source: sketch/binary-bias-variance.

    >>> binary_moment(jnp.eye(2), jnp.ones(2), jnp.array([0.5, 1.0]))
    Array(0.5, dtype=float64)
    """
    _checks.rates("rates", rates)
    return _squared(product(x, (1 - rates) * w)) + (rates * (1 - rates) * magnitudes(x, w) ** 2).sum()


def binary_multinomial_moment(
    x: Float[Array, "n d"], w: Float[Array, "d"], probabilities: Float[Array, "d"], budget: Number
) -> Float[Array, ""]:
    """The expected error of a binary multinomial mask, ΣG_ij Q_ij with Q_ij = P(neither i nor j is drawn).

    G_ij = w_i w_j⟨x_i, x_j⟩, Q_ij = (1 − p_i − p_j)^s and Q_ii = (1 − p_i)^s. Probabilities may vanish.
    Raises as :func:`second_moment` does otherwise. O(nd²).

    >>> binary_multinomial_moment(jnp.eye(2), jnp.ones(2), jnp.array([0.5, 0.5]), 2)
    Array(0.5, dtype=float64)
    """
    _checks.probabilities("probabilities", probabilities)
    _checks.positive("budget", budget)
    drawn = probabilities[:, None] + jnp.where(jnp.eye(len(w), dtype=bool), 0, probabilities)
    return _pairwise(x, w, jnp.maximum(1 - drawn, 0) ** budget)


def fixed_size_moment(
    x: Float[Array, "n d"], w: Float[Array, "d"], weights: Float[Array, "d"], size: int | Int[Array, ""]
) -> Float[Array, ""]:
    """The expected error of a fixed-size mask, ΣG_ij Q_ij with Q_ij = P(neither i nor j is kept).

    Q by the chance of every subset, reached item by item: for small d. ValueError for d > 16, negative
    weights, and a size below 0 or above #{weights > 0}; NaN then under a trace. O(2^d·d·s + nd²).

    >>> fixed_size_moment(jnp.eye(2), jnp.array([1.0, 2.0]), jnp.array([0.75, 0.25]), 1)
    Array(3.25, dtype=float64)
    """
    known, wanted = _checks.weights("weights", weights), _checks.whole("size", size, least=0)
    if len(w) > 16:
        raise ValueError(f"w has {len(w)} items; it takes at most 16, since all subsets are visited")
    if known is not None and wanted is not None and wanted > known.positive:
        raise ValueError(f"size is {size}; it takes at most {known.positive}, the weights that are > 0")
    items, subsets = jnp.arange(len(w)), jnp.arange(2 ** len(w))
    kept = (subsets[:, None] >> items) & 1
    before = subsets[:, None] - (kept << items)  # the subset without the item that came last
    left = jnp.where(kept == 1, 0, weights).sum(1)
    last = kept * ratio(jnp.broadcast_to(weights, kept.shape), left[before])

    def add_item(_, chance):
        return jnp.sum(chance[before] * last, 1)

    first = ((subsets == 0) & (size >= 0)).astype(weights.dtype)
    chance = lax.fori_loop(0, size, add_item, first)
    pruned = 1 - kept.astype(weights.dtype)
    neither = product(pruned.T, chance[:, None] * pruned)
    return _pairwise(x, w, neither) / chance.sum()  # 0/0 below no item and beyond the last


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
    return _sum(jax.tree.map(lambda o, p: ratio((o - p) ** 2, p), optimal, probabilities))


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
    _support("probabilities", optimal, probabilities)
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


def _support(name: str, sizes: Array, law: Array) -> Array:
    """``sizes``, after checking that the law is positive wherever they are."""
    sizes_known, law_known = _checks.concrete(sizes), _checks.concrete(law)
    if sizes_known is not None and law_known is not None and ((sizes_known > 0) & (law_known == 0)).any():
        item = int(((sizes_known > 0) & (law_known == 0)).argmax())
        raise ValueError(
            f"{name} vanishes at item {item}, whose weight and data do not: the error is infinite; "
            f"it takes positive entries there"
        )
    return sizes


def _beyond(squares: Array, x: Float[Array, "n d"], w: Float[Array, "d"]) -> Float[Array, ""]:
    """``squares`` − ‖Xw‖², which is not negative but for rounding."""
    return jnp.maximum(squares - _squared(product(x, w)), 0)


def _pairwise(x: Float[Array, "n d"], w: Float[Array, "d"], both: Float[Array, "d d"]) -> Float[Array, ""]:
    """ΣG_ij Q_ij for the Gram matrix of the columns w_i x_i; not negative, Q being positive semi-definite."""
    columns = x * w
    return jnp.maximum(jnp.sum(product(columns.T, columns) * both), 0)


def _squared(values: Array) -> Float[Array, ""]:
    return jnp.sum(values**2)


def _sum(tree: PyTree) -> Float[Array, ""]:
    return functools.reduce(operator.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)])
