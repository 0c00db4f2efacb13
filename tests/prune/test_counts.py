"""How many weights to keep: schedules over the rounds, and the counts of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchprune import laws, models, prune
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


def test_the_order_of_use_is_that_of_the_layers():
    """Whatever the names: of flax modules, of masked and reshaped leaves, inside jit and remat."""
    model = models.patch_net(2, 3, 4, 5)
    x = jnp.ones((1, 8, 8, 1))
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    used = prune.order_of_use(lambda params, x: model.apply({"params": params}, x), params, x)
    layers = ["['kernel_0']", "['kernel_1']", "['kernel_2']", "['Dense_0']['kernel']"]
    assert [path for path in used if "kernel" in path] == layers

    names = ("stem", "body", "head", "unused")
    params = {name: jnp.ones((2, 2)) for name in names}

    @jax.checkpoint
    def masked_and_in_a_loop(params, x):
        params = jax.tree.map(lambda w: (jnp.ones((2, 2)) * w).T, params)
        x = jax.jit(lambda w, x: jax.nn.relu(x @ w))(params["stem"], x)
        x = jax.lax.scan(lambda x, _: (x @ params["body"], None), x, length=2)[0]
        return x @ params["head"]

    used = prune.order_of_use(masked_and_in_a_loop, params, jax.ShapeDtypeStruct((1, 2), np.float32))
    assert used == tuple(f"['{name}']" for name in names)


def test_pyramids_take_an_order_where_names_do_not_tell():
    params = {"body": np.zeros((9, 9)), "head": np.zeros((9, 9)), "stem": np.zeros((9, 9))}
    counts = prune.layer_counts(params, 0.4, "pyramidal", order=["['stem']", "['body']", "['head']"])
    assert counts["stem"] > counts["body"] > counts["head"] and sum(counts.values()) == round(0.4 * 243)
    listed = prune.layer_counts([np.zeros((9, 9))] * 3, 0.4, "pyramidal")
    assert listed == list(sorted(counts.values(), reverse=True))
    for order, message in (
        (None, "order is None, and the names .* do not tell which layer comes first; 'pyramidal' takes the paths"),
        (["['stem']", "['body']"], r"order is .*, without \['head'\]; it takes the path of each layer once"),
        (["['stem']", "['body']", "['head']", "['stem']"], "with a path twice"),
    ):
        with pytest.raises(ValueError, match=message):
            prune.layer_counts(params, 0.4, "pyramidal", order=order)


def test_every_layer_keeps_the_least():
    params = {"a": np.zeros((40, 40)), "b": np.zeros((30, 2)), "c": np.zeros((3, 1))}
    counts = prune.layer_counts(params, 0.02, least=5)
    assert counts["b"] == 5 and counts["c"] == 3 and sum(counts.values()) == prune.count(params, 0.02)
    assert prune.layer_counts(params, 0.02, least=0)["c"] == 0
    for rule in ("uniform", "erk", "balanced"):  # a least of one changes nothing where none is below it
        assert prune.layer_counts(params, 0.5, rule, least=1) == prune.layer_counts(params, 0.5, rule)
    with pytest.raises(ValueError, match="density is 0.002, 3 weights; it takes one that keeps 13, at least 5 in each"):
        prune.layer_counts(params, 0.002, least=5)
