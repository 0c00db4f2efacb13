"""What is drawn: exact properties of the samplers, the same draws under every option, tiny chances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import laws
from sketchprune.laws import multinomial

few = settings(deadline=None, derandomize=True, max_examples=40)
KEY = jax.random.key(0)
PROBABILITIES = jnp.array([0.0, 0.5, 0.0, 0.3, 0.2 - 1e-6, 1e-6, 0.0])


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def batch(law, count=20_000, seed=0):
    return np.asarray(jax.jit(jax.vmap(law.sample))(jax.random.split(jax.random.key(seed), count)))


def assert_frequencies(events, expected):
    """Frequencies within five standard errors; events of chance 0 or 1 always so."""
    expected = np.asarray(expected)
    error = np.sqrt(expected * (1 - expected) / len(events))
    assert (np.abs(events.mean(0) - expected) <= 5 * error + 1e-12).all()


@few
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_high_product_is_the_upper_word(a, b):
    assert int(multinomial._high_product(jnp.array([a], jnp.uint32), jnp.uint32(b))[0]) == a * b >> 32
    a, b = a * 4_294_967_291, b * 4_294_967_279
    assert int(multinomial._high_product(jnp.array([a], jnp.uint64), jnp.uint64(b))[0]) == a * b >> 64


def test_items_without_probability_are_not_hit():
    """Each whole number below the total belongs to one item, ends included."""
    units = jnp.array([0, 2, 0, 1, 0], jnp.uint32)
    assert multinomial._items_hit(units, jnp.arange(3, dtype=jnp.uint32)).tolist() == [1, 1, 3]


def test_draws_do_not_change_between_versions():
    """Masks as the first version drew them: a change of a sampler changes every published result."""
    p = jnp.array([0.1, 0.2, 0.3, 0.4], jnp.float32)
    key = jax.random.wrap_key_data(jnp.array([1, 2], jnp.uint32), impl="threefry2x32")
    assert (laws.Multinomial(p, 8).sample(key) * 8 * p).round(4).tolist() == [1, 0, 4, 3]
    assert laws.Poisson(p, binary=True).sample(key).tolist() == [0, 0, 0, 1]
    assert laws.FixedSize(p, 2).sample(key).tolist() == [False, False, True, True]
    assert laws.Determinantal(jnp.diag(p)).sample(key).tolist() == [False, False, False, True]


# --- multinomial


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_multinomial_counts(dtype):
    budget = 5
    p = PROBABILITIES.astype(dtype)
    drawn = batch(laws.Multinomial(p, budget))
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
    sample = jax.jit(jax.vmap(lambda key, p: laws.Multinomial(p, 4).sample(key), (0, None)))
    keys = jax.random.split(KEY, 5_000)
    assert (np.asarray(sample(keys, one)) == one).all()
    drawn = np.asarray(sample(keys, thirds))
    assert not drawn[:, thirds == 0].any() and (drawn.sum(1) > 0).all()
    np.testing.assert_allclose(drawn.sum(1), 3, rtol=1e-6)  # by the chances drawn from, which are thirds
    many = jnp.full(30_000, 1 / 30_000, jnp.float32)
    drawn = np.asarray(laws.Multinomial(many, 30_000).sample(KEY))
    assert drawn.sum() == pytest.approx(30_000) and abs(drawn[:15_000].sum() - 15_000) < 5 * np.sqrt(7_500)


def test_multinomial_is_unbiased_at_tiny_probabilities():
    """Below the unit of the draws too, where rounding would move a chance by a third, or to nothing."""
    n, budget = 2**18, 2**22
    for tiny in (2.8 * 2.0**-31, 0.3 * 2.0**-31):
        p = jnp.full(n + 1, tiny, jnp.float32).at[0].set(1 - n * tiny)
        drawn = np.asarray(laws.Multinomial(p, budget).sample(KEY))[1:]
        hits = (drawn > 0).sum()
        assert hits > 400 and abs(drawn.mean() - 1) < 5 / np.sqrt(hits)


def test_multinomial_options_agree():
    key = jax.random.key(3)
    plain = laws.Multinomial(PROBABILITIES, 4).sample(key)
    traced = jax.jit(lambda budget: laws.Multinomial(PROBABILITIES, budget, max_budget=9).sample(key))
    np.testing.assert_array_equal(traced(4), plain)
    np.testing.assert_array_equal(laws.Multinomial(PROBABILITIES, 4, binary=True).sample(key), plain > 0)
    together = jax.vmap(traced)(jnp.arange(1, 10))
    np.testing.assert_allclose((together * PROBABILITIES).sum(1), 1)
    tree = {"w": PROBABILITIES[:6].reshape(2, 3), "b": PROBABILITIES[6:]}
    drawn = laws.Multinomial({"a": tree["w"], "b": tree["b"]}, 4).sample(key)
    np.testing.assert_array_equal(flatten(drawn), plain)
    assert drawn["a"].shape == (2, 3)
    assert laws.Multinomial(jnp.ones(2, jnp.bfloat16) / 2, 4).sample(key).dtype == jnp.float32
    trace = jax.jit(lambda p: laws.Multinomial(p, 4).sample(key))
    assert jnp.isnan(trace(jnp.array([jnp.nan, 1.0]))[0])
    assert not trace(jnp.zeros(2)).any()  # padding


def test_a_law_that_crosses_jit_can_still_draw():
    """The largest budget is kept as a static number, where it is known when the law is made."""
    law = laws.Multinomial(PROBABILITIES, 4)
    assert law.max_budget == 4 and laws.Multinomial(PROBABILITIES, np.int32(4)).max_budget == 4
    crossed = jax.jit(lambda law, key: law.sample(key))
    np.testing.assert_array_equal(crossed(law, KEY), law.sample(KEY))
    assert laws.Multinomial(PROBABILITIES, jnp.int32(4)).max_budget is None
    assert laws.Multinomial(PROBABILITIES, 2, max_budget=9).max_budget == 9
    stacked = jax.vmap(lambda p: laws.Multinomial(p, 4))(jnp.stack([PROBABILITIES, PROBABILITIES]))
    assert stacked.probabilities.shape == (2, 7) and stacked.max_budget == 4
    assert hash(law.sample) == hash(law.sample) and law != law.replace(budget=3)


def test_proportional_laws_are_the_laws_of_their_sizes():
    sizes = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([1.0])}
    multinomial_law = laws.Multinomial.proportional(sizes, 2, binary=True)
    assert multinomial_law.probabilities["a"].tolist() == [0.75, 0] and multinomial_law.budget == 2
    assert multinomial_law.binary and not laws.Multinomial.proportional(sizes, 2).binary
    assert laws.Poisson.proportional(sizes, 2).rates["b"].tolist() == [1]
    assert laws.Poisson.proportional(sizes, 1, binary=True).binary
    assert laws.FixedSize.proportional(sizes, 2).weights is sizes
    traced = jax.jit(lambda keep: laws.Multinomial.proportional(sizes, keep, max_budget=3).sample(KEY))
    np.testing.assert_array_equal(
        flatten(traced(2)), flatten(laws.Multinomial.proportional(sizes, 2, max_budget=3).sample(KEY))
    )


# --- poisson and fixed size


def test_poisson_frequencies_and_values():
    rates = jnp.array([0.0, 1.0, 0.5, 0.01, 0.9])
    drawn = batch(laws.Poisson(rates))
    kept = drawn * np.asarray(rates)
    one = jax.random.split(KEY, 20_000)[3]
    np.testing.assert_array_equal(laws.Poisson(rates).sample(one), drawn[3])
    np.testing.assert_array_equal(laws.Poisson(rates, binary=True).sample(one), kept[3])
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert_frequencies(kept, rates)
    assert_frequencies(kept[:, 2:3] * kept[:, 4:5], [0.45])
    tiny = laws.Poisson(jnp.full(10_000_000, 1e-8, jnp.float32), binary=True)
    count = jax.jit(lambda key: tiny.sample(key).sum(), compiler_options={"xla_backend_optimization_level": 1})
    hits = sum(float(count(jax.random.key(i))) for i in range(4))
    assert hits <= 2  # below float32's plain uniform grid of 2^-23
    tree = laws.Poisson({"a": jnp.ones((2, 2)), "b": jnp.zeros(())}).sample(KEY)
    assert tree["a"].tolist() == [[1, 1], [1, 1]] and tree["b"] == 0


def test_fixed_size_keeps_what_is_asked():
    weights = jnp.array([0.5, 0.0, 2.0, 1.0, 4.0])
    sample = jax.jit(jax.vmap(lambda size, key: laws.FixedSize(weights, size).sample(key), (0, None)))
    together = sample(jnp.arange(6), jax.random.key(1))
    # a traced size beyond the last item keeps all items
    assert together.sum(1).tolist() == [0, 1, 2, 3, 4, 4]
    np.testing.assert_array_equal(together[2], laws.FixedSize(weights, 2).sample(jax.random.key(1)))
    assert not jax.jit(lambda w: laws.FixedSize(w, 2).sample(KEY))(weights.at[0].set(jnp.nan)).any()
    tree = laws.FixedSize({"a": jnp.zeros((2, 2)), "b": jnp.ones(3, jnp.float32)}, 3).sample(KEY)
    assert not tree["a"].any() and tree["b"].all()


def test_fixed_size_counts_the_weights_that_the_device_can_draw():
    """Devices may take subnormal numbers for zero; what is refused is what could not be kept."""
    weights = jnp.array([1e-320, 1.0, 0.0])
    available = int(jnp.isfinite(jnp.log(weights)).sum())
    for size in range(available + 1):
        assert laws.FixedSize(weights, size).sample(KEY).sum() == size
    for size in (3, available + 1):
        with pytest.raises(ValueError, match=f"size is {size}; it takes at most {available}, the weights that are > 0"):
            laws.FixedSize(weights, size).sample(KEY)


# --- rates


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
    rates = np.asarray(laws.poisson_rates(jnp.asarray(a), budget))
    assert rates.sum() == pytest.approx(budget, rel=1e-12)
    assert (rates[a == 0] == 0).all() and (rates <= 1).all() and (rates[a > 0] > 0).all()
    np.testing.assert_allclose(rates, water_level(a, budget), rtol=1e-9)


def test_poisson_rates_limits():
    a = jnp.array([5.0, 0.0, 1.0, 2.0])
    assert laws.poisson_rates(a, 3).tolist() == [1, 0, 1, 1]
    assert jax.jit(laws.poisson_rates)(a, 9).tolist() == [1, 0, 1, 1]
    assert jax.jit(laws.poisson_rates)(0 * a, 2).tolist() == [0, 0, 0, 0]
    budgets = jnp.array([0.5, 1.0, 2.5, 3.0])
    together = jax.vmap(laws.poisson_rates, (None, 0))(a, budgets)
    np.testing.assert_allclose(together.sum(1), budgets, rtol=1e-14)
    for budget, rates in zip(budgets, together, strict=True):
        np.testing.assert_allclose(rates, laws.poisson_rates(a, budget), rtol=1e-14)
    tree = laws.poisson_rates({"x": a[:2], "y": a[2:].reshape(1, 2)}, 2)
    np.testing.assert_allclose(flatten(tree), laws.poisson_rates(a, 2))
