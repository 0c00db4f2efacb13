"""Probabilities to sample items by, and how far they are from the best.

a_i = ‖x_i‖|w_i| is an item's own contribution and Z = Σa_i, with x_i the i-th column of X. Throughout 0²/0 = 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks
from sketchprune._arithmetic import column_squares, ratio
from sketchprune._boundary import checked
from sketchprune.laws._joined import check_support, tree_sum
from sketchprune.types import Matrix, Number, PerColumn


@checked
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
    squares = column_squares(x)
    empty = squares == 0
    return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, squares))) * jnp.abs(w)


@checked
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


@checked
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


@checked
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


@checked
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


@checked
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


@checked
def efficiency(optimal: PyTree, probabilities: PyTree) -> Float[Array, ""]:
    """The efficiency of sampling by p, relative to p*: 1/(1 + χ²(p*‖p)), the ratio of the least Σa_i²/p_i to that of p.

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


@checked
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
