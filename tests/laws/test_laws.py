"""The laws of random masks: exact properties, frequencies, rates, bad input."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import _checks, masks

few = settings(deadline=None, derandomize=True, max_examples=40)


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@few
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_high_product_is_the_upper_word(a, b):
    assert int(masks._high_product(jnp.array([a], jnp.uint32), jnp.uint32(b))[0]) == a * b >> 32
    a, b = a * 4_294_967_291, b * 4_294_967_279
    assert int(masks._high_product(jnp.array([a], jnp.uint64), jnp.uint64(b))[0]) == a * b >> 64


def test_items_without_probability_are_not_hit():
    """Each whole number below the total belongs to one item, ends included."""
    units = jnp.array([0, 2, 0, 1, 0], jnp.uint32)
    assert masks._items_hit(units, jnp.arange(3, dtype=jnp.uint32)).tolist() == [1, 1, 3]


PROBABILITIES = jnp.array([0.0, 0.5, 0.0, 0.3, 0.2 - 1e-6, 1e-6, 0.0])


def batch(law, count=20_000, seed=0):
    return np.asarray(jax.jit(jax.vmap(law))(jax.random.split(jax.random.key(seed), count)))


def assert_frequencies(events, expected):
    """Frequencies within five standard errors; events of chance 0 or 1 always so."""
    expected = np.asarray(expected)
    error = np.sqrt(expected * (1 - expected) / len(events))
    assert (np.abs(events.mean(0) - expected) <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multinomial_counts(dtype):
    budget = 5
    p = PROBABILITIES.astype(dtype)
    drawn = batch(lambda key: masks.multinomial(key, p, budget))
    assert drawn.dtype == dtype
    counts = drawn * (budget * np.asarray(p))
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-5)
    np.testing.assert_array_equal(np.round(counts).sum(1), budget)
    assert not drawn[:, p == 0].any()
    missed = (1 - np.asarray(p)) ** budget
    assert_frequencies(drawn > 0, 1 - missed)
    neither = (1 - p[1] - p[3]) ** budget
    assert_frequencies((drawn[:, 1] > 0) & (drawn[:, 3] > 0), 1 - missed[1] - missed[3] + neither)


def test_multinomial_draws_the_only_items_there_are():
    """One item, tiny items, zeros at both ends, a sum off one by rounding."""
    one, thirds = np.zeros((2, 64), np.float32)
    one[17], thirds[[7, 20, 55]] = 1, 0.33333
    sample = jax.jit(jax.vmap(functools.partial(masks.multinomial, budget=4), (0, None)))
    keys = jax.random.split(jax.random.key(0), 5_000)
    assert (np.asarray(sample(keys, one)) == one).all()
    drawn = np.asarray(sample(keys, thirds))
    assert not drawn[:, thirds == 0].any() and (drawn.sum(1) > 0).all()
    np.testing.assert_allclose(drawn.sum(1), 3, rtol=1e-6)  # by the chances drawn from, which are thirds
    many = jnp.full(30_000, 1 / 30_000, jnp.float32)
    drawn = np.asarray(masks.multinomial(jax.random.key(0), many, 30_000))
    assert drawn.sum() == pytest.approx(30_000) and abs(drawn[:15_000].sum() - 15_000) < 5 * np.sqrt(7_500)


def test_multinomial_is_unbiased_at_tiny_probabilities():
    """Below the unit of the draws too, where rounding would move a chance by a third, or to nothing."""
    n, budget = 2**18, 2**22
    for tiny in (2.8 * 2.0**-31, 0.3 * 2.0**-31):
        p = jnp.full(n + 1, tiny, jnp.float32).at[0].set(1 - n * tiny)
        drawn = np.asarray(masks.multinomial(jax.random.key(0), p, budget))[1:]
        hits = (drawn > 0).sum()
        assert hits > 400 and abs(drawn.mean() - 1) < 5 / np.sqrt(hits)


def test_multinomial_options_agree():
    key = jax.random.key(3)
    plain = masks.multinomial(key, PROBABILITIES, 4)
    traced = jax.jit(lambda budget: masks.multinomial(key, PROBABILITIES, budget, max_budget=9))
    np.testing.assert_array_equal(traced(4), plain)
    np.testing.assert_array_equal(masks.multinomial(key, PROBABILITIES, 4, binary=True), plain > 0)
    together = jax.vmap(traced)(jnp.arange(1, 10))
    np.testing.assert_allclose((together * PROBABILITIES).sum(1), 1)
    keys = jax.random.split(key, 3)
    for one, mask in zip(keys, jax.vmap(lambda k: masks.multinomial(k, PROBABILITIES, 4))(keys), strict=True):
        np.testing.assert_array_equal(mask, masks.multinomial(one, PROBABILITIES, 4))
    tree = {"w": PROBABILITIES[:6].reshape(2, 3), "b": PROBABILITIES[6:]}
    drawn = masks.multinomial(key, {"a": tree["w"], "b": tree["b"]}, 4)
    np.testing.assert_array_equal(flatten(drawn), plain)
    assert drawn["a"].shape == (2, 3)
    assert masks.multinomial(key, jnp.ones(2, jnp.bfloat16) / 2, 4).dtype == jnp.float32
    assert jnp.isnan(jax.jit(lambda p: masks.multinomial(key, p, 4))(jnp.array([jnp.nan, 1.0]))[0])
    assert not jax.jit(lambda p: masks.multinomial(key, p, 4))(jnp.zeros(2)).any()  # padding


def test_poisson_frequencies_and_values():
    rates = jnp.array([0.0, 1.0, 0.5, 0.01, 0.9])
    drawn = batch(lambda key: masks.poisson(key, rates))
    kept = drawn * np.asarray(rates)
    one = jax.random.split(jax.random.key(0), 20_000)[3]
    np.testing.assert_array_equal(masks.poisson(one, rates), drawn[3])
    np.testing.assert_array_equal(masks.poisson(one, rates, binary=True), kept[3])
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert_frequencies(kept, rates)
    assert_frequencies(kept[:, 2:3] * kept[:, 4:5], [0.45])
    tiny = jnp.full(10_000_000, 1e-8, jnp.float32)  # below float32's plain uniform grid of 2^-23
    hits = sum(float(masks.poisson(jax.random.key(i), tiny, binary=True).sum()) for i in range(4))
    assert hits <= 2
    tree = masks.poisson(jax.random.key(0), {"a": jnp.ones((2, 2)), "b": jnp.zeros(())})
    assert tree["a"].tolist() == [[1, 1], [1, 1]] and tree["b"] == 0


def water_level(a, budget):
    """The level by bisection on Σ min(1, λa) = budget."""
    low, high = 0.0, 1e300
    for _ in range(3000):
        middle = np.sqrt(max(low, 1e-300)) * np.sqrt(high)
        low, high = (middle, high) if np.minimum(1, middle * a).sum() < budget else (low, middle)
    return np.minimum(1, high * a)


@few
@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.1, 1.0, 3.0, 1e6]), min_size=8, max_size=8).filter(any),
    st.floats(0.01, 1),
)
def test_poisson_rates_fill_up_to_the_budget(a, fraction):
    a = np.array(a)
    budget = fraction * (a > 0).sum()
    rates = np.asarray(masks.poisson_rates(jnp.asarray(a), budget))
    assert rates.sum() == pytest.approx(budget, rel=1e-12)
    assert (rates[a == 0] == 0).all() and (rates <= 1).all() and (rates[a > 0] > 0).all()
    np.testing.assert_allclose(rates, water_level(a, budget), rtol=1e-9)


def test_poisson_rates_limits():
    a = jnp.array([5.0, 0.0, 1.0, 2.0])
    assert masks.poisson_rates(a, 3).tolist() == [1, 0, 1, 1]
    assert jax.jit(masks.poisson_rates)(a, 9).tolist() == [1, 0, 1, 1]
    assert jax.jit(masks.poisson_rates)(0 * a, 2).tolist() == [0, 0, 0, 0]
    budgets = jnp.array([0.5, 1.0, 2.5, 3.0])
    together = jax.vmap(masks.poisson_rates, (None, 0))(a, budgets)
    np.testing.assert_allclose(together.sum(1), budgets, rtol=1e-14)
    for budget, rates in zip(budgets, together, strict=True):
        np.testing.assert_allclose(rates, masks.poisson_rates(a, budget), rtol=1e-14)
    tree = masks.poisson_rates({"x": a[:2], "y": a[2:].reshape(1, 2)}, 2)
    np.testing.assert_allclose(flatten(tree), masks.poisson_rates(a, 2))


def test_fixed_size_draws_successively():
    weights = jnp.array([0.5, 0.0, 2.0, 1.0, 4.0])
    drawn = batch(lambda key: masks.fixed_size(key, weights, 2), count=10_000)
    assert drawn.dtype == bool and (drawn.sum(1) == 2).all() and not drawn[:, 1].any()
    w = np.asarray(weights) / weights.sum()
    pairs = [(i, j) for i, j in itertools.combinations(range(5), 2) if 1 not in (i, j)]
    expected = [w[i] * w[j] / (1 - w[i]) + w[j] * w[i] / (1 - w[j]) for i, j in pairs]
    assert_frequencies(np.stack([drawn[:, i] & drawn[:, j] for i, j in pairs], 1), expected)
    sizes = jnp.arange(6)
    together = jax.jit(jax.vmap(masks.fixed_size, (None, None, 0)))(jax.random.key(1), weights, sizes)
    assert together.sum(1).tolist() == [
        0,
        1,
        2,
        3,
        4,
        4,
    ]  # a traced size beyond the last item keeps all items
    np.testing.assert_array_equal(together[2], masks.fixed_size(jax.random.key(1), weights, 2))
    tree = masks.fixed_size(jax.random.key(0), {"a": jnp.zeros((2, 2)), "b": jnp.ones(3, jnp.float32)}, 3)
    assert not tree["a"].any() and tree["b"].all()


def test_fixed_size_counts_the_weights_that_the_device_can_draw():
    """Devices may take subnormal numbers for zero; what is refused is what could not be kept."""
    weights = jnp.array([1e-320, 1.0, 0.0])
    available = int(jnp.isfinite(jnp.log(weights)).sum())
    for size in range(available + 1):
        assert masks.fixed_size(key, weights, size).sum() == size
    with pytest.raises(ValueError, match=f"size is 3; it takes at most {available}"):
        masks.fixed_size(key, weights, 3)
    with pytest.raises(ValueError, match=f"at most {available}, the weights that are > 0"):
        masks.fixed_size(key, weights, available + 1)


def test_checks_see_what_a_trace_closes_over():
    """A law is known inside a traced function that closes over it, and next to leaves that are traced."""
    halves, undefined = jnp.ones(3) / 2, jnp.array([jnp.nan])
    for law in (halves, np.asarray(halves)):
        with pytest.raises(ValueError, match="probabilities sums to 1.5"):
            jax.jit(lambda key, law=law: masks.multinomial(key, law, 2))(key)
        with pytest.raises(ValueError, match="probabilities sums to 1.5"):
            jax.vmap(lambda key, law=law: masks.multinomial(key, law, 2))(jax.random.split(key, 3))
    with pytest.raises(ValueError, match=r"rates\['b'\] has the entry nan"):
        jax.jit(lambda a: masks.poisson(key, {"a": a, "b": undefined}))(halves)
    program = jax.make_jaxpr(lambda p: masks.multinomial(key, p, 2))(jnp.ones(2))
    assert len(program.eqns) == 1  # and what is traced costs nothing


def test_checks_sum_large_laws_and_mixed_precisions():
    sizes = np.random.default_rng(0).normal(size=3_000_001).astype(np.float32) ** 2
    facts = _checks.weights("sizes", jnp.asarray(sizes))
    assert facts is not None
    assert facts.total == pytest.approx(sizes.sum(dtype=np.float64), rel=2e-6)
    assert facts[:2] == ((sizes > 0).sum(), (sizes > 1).sum())
    for entry in (-0.5, np.nan, np.inf):  # where a minimum or a maximum need not notice
        sizes[1_234_567] = entry
        with pytest.raises(ValueError, match=f"sizes has the entry {entry}; it takes finite numbers >= 0"):
            _checks.weights("sizes", jnp.asarray(sizes))
    sevenths = {"a": jnp.full(3, 1 / 7, jnp.float32), "b": jnp.full(4, 1 / 7, jnp.float64)}
    assert masks.multinomial(key, sevenths, 2)["b"].dtype == jnp.float64
    with pytest.raises(ValueError, match="probabilities sums to 1.00000002"):
        masks.multinomial(key, jnp.full(7, 1 / 7 + 3e-9), 2)


key = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masks.multinomial(key, jnp.array([1.5, -0.5]), 2), "probabilities has the entry -0.5"),
        (
            lambda: masks.multinomial(key, {"a": jnp.array([jnp.nan])}, 2),
            r"probabilities\['a'\] has the entry nan",
        ),
        (lambda: masks.multinomial(key, jnp.array([0.5, 0.4]), 2), "probabilities sums to 0.9"),
        (lambda: masks.multinomial(key, jnp.ones(1), 0), "budget is 0; it takes a whole number >= 1"),
        (
            lambda: masks.multinomial(key, jnp.ones(1), 3, max_budget=2),
            "budget is 3; it takes at most max_budget = 2",
        ),
        (
            lambda: jax.jit(lambda s: masks.multinomial(key, jnp.ones(1), s))(3),
            "budget is traced; .* max_budget",
        ),
        (lambda: masks.poisson(key, jnp.array([0.5, 1.1])), "rates has the entry 1.1"),
        (lambda: masks.poisson(key, jnp.array([-0.5])), "rates has the entry -0.5"),
        (lambda: masks.poisson_rates(jnp.array([1.0, 0.0]), 2), "budget is 2; it takes at most 1"),
        (lambda: masks.poisson_rates(jnp.ones(2), 0), "budget is 0; it takes a number > 0"),
        (lambda: masks.poisson_rates(jnp.array([1.0, jnp.inf]), 1), "magnitudes has the entry inf"),
        (lambda: masks.fixed_size(key, jnp.array([1.0, 0.0]), 2), "size is 2; it takes at most 1"),
        (lambda: masks.fixed_size(key, jnp.array([1.0, -1.0]), 1), "weights has the entry -1.0"),
    ],
)
def test_laws_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_laws_refuse_other_types():
    """By the function, or before it by its annotations where those are checked."""
    with pytest.raises((ValueError, TypeError), match="probabilities has dtype int64|Type-check error"):
        masks.multinomial(key, jnp.array([1, 0]), 2)
