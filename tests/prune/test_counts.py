"""How many weights to keep: schedules over the rounds, and the counts of layers."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sketchprune import laws, prune
from tests.support import few


@few(25)
@given(st.integers(1, 400), st.data(), st.integers(1, 60))
def test_schedules_end_at_the_count_and_never_grow(start, data, rounds):
    keep = data.draw(st.integers(1, start))
    for schedule in (prune.exponential_schedule, prune.linear_schedule):
        counts = schedule(start, keep, rounds)
        assert len(counts) == rounds and counts[-1] == keep
        assert (np.diff([start, *counts]) <= 0).all()
    assert prune.one_at_a_time_schedule(start, keep).tolist() == (list(range(start - 1, keep - 1, -1)) or [keep])


def test_schedules_are_their_formulas():
    rounds = np.arange(1, 6)
    factors = prune.exponential_schedule(10**6, 10, 5) / (10**6 * 10.0**-rounds)
    np.testing.assert_allclose(factors, 1, rtol=1e-12)
    np.testing.assert_array_equal(prune.linear_schedule(100, 50, 5), 100 - 10 * rounds)
    several = prune.exponential_schedule({"a": 100, "bias": 0}, {"a": 1, "bias": 0}, 2)
    assert several["a"].tolist() == [10, 1] and several["bias"].tolist() == [0, 0]


def test_one_at_a_time_of_a_pytree():
    """Each leaf by one until its count; the rounds are those of the longest."""
    counts = prune.one_at_a_time_schedule({"a": 6, "b": 3, "bias": 0}, {"a": 2, "b": 2, "bias": 0})
    expected = {"a": [5, 4, 3, 2], "b": [2, 2, 2, 2], "bias": [0, 0, 0, 0]}
    assert jax.tree.map(np.ndarray.tolist, counts) == expected


@few(25)
@given(
    st.lists(st.tuples(st.integers(2, 30), st.integers(2, 30)), min_size=2, max_size=5),
    st.floats(0.2, 1),
    st.sampled_from(["uniform", "erk", "balanced"]),
)
def test_layer_counts_add_up_and_are_the_densities(shapes, density, rule):
    params = {f"layer_{i}": np.zeros(shape) for i, shape in enumerate(shapes)}
    counts = prune.layer_counts(params, density, rule)
    assert sum(counts.values()) == prune.count(params, density)
    exact = laws.layer_densities(rule, shapes, density) * [a * b for a, b in shapes]
    assert all(abs(counts[f"layer_{i}"] - exact[i]) < 1 for i in range(len(shapes)))


def test_layers_are_in_the_order_of_their_numbers():
    params = {f"layer_{i}": np.zeros((10, 10)) for i in range(12)}
    counts = prune.layer_counts(params, 0.4, "pyramidal")
    inorder = [counts[f"layer_{i}"] for i in range(12)]
    assert inorder == sorted(inorder, reverse=True) and inorder[0] > inorder[-1]
