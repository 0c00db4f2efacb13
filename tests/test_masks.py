"""Masks: exact counts under ties, the laws' exact properties and frequencies, layer densities, bad input."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import masks

few = settings(deadline=None, derandomize=True, max_examples=40)
keep_top, keep_top_jit = masks.keep_top, jax.jit(masks.keep_top)
SHAPES = {"a": (2, 3), "b": (4,), "c": ()}
SIZES = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
VALUES = [-np.inf, -3.0, -1.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1.0, 1.0, 2.0, 6e4, np.inf]


def tree_of(flat, dtype):
    ends = np.cumsum([0, *SIZES.values()])
    return {
        name: jnp.asarray(np.asarray(flat)[a:b].reshape(SHAPES[name]), dtype)
        for name, a, b in zip(SHAPES, ends, ends[1:], strict=False)
    }


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def top_reference(scores, keep):
    """Sort finite scores downwards, ties by index; +inf besides."""
    scores = flatten(scores).astype(np.float64)
    order = [i for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    mask = scores == np.inf
    mask[order[:keep]] = True
    return mask


@few
@given(
    st.lists(st.sampled_from(VALUES), min_size=11, max_size=11),
    st.integers(0, 11),
    st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
)
def test_keep_top_is_the_stable_sort(flat, keep, dtype):
    scores = tree_of(flat, dtype)
    keep = min(keep, int(np.isfinite(flatten(scores).astype(np.float64)).sum()))
    mask = keep_top(scores, keep)
    assert all(leaf.dtype == bool and leaf.shape == SHAPES[name] for name, leaf in mask.items())
    np.testing.assert_array_equal(flatten(mask), top_reference(scores, keep))
    np.testing.assert_array_equal(flatten(keep_top_jit(scores, keep)), flatten(mask))


def test_keep_top_orders_every_float():
    """The bits order neighbours, subnormals and both ends, in leaves of mixed dtypes."""
    tiny = np.finfo(np.float32).smallest_subnormal
    top = np.finfo(np.float32).max
    above = np.nextafter(np.float32(-1), np.float32(0))
    values = np.array([-top, -1.0, above, -tiny, 0, tiny, 1e-40, 1.0, top], np.float32)
    shuffled = np.random.default_rng(0).permutation(values)
    for keep in range(len(values) + 1):
        expected = shuffled >= np.append(values, np.inf)[-1 - keep]
        np.testing.assert_array_equal(keep_top(jnp.asarray(shuffled), keep), expected)
    mixed = {"half": jnp.array([1.0, 2.0], jnp.bfloat16), "single": jnp.array([1.5, 1.0], jnp.float32)}
    assert flatten(keep_top(mixed, 3)).tolist() == [True, True, True, False]


def test_keep_top_counts_exactly_at_scale():
    noise = jax.random.normal(jax.random.key(0), (100_003,), jnp.float32)
    for scores in (noise, jnp.round(noise), jnp.zeros_like(noise)):
        for keep in (0, 1, 5_000, 100_002, 100_003):
            mask = np.asarray(keep_top_jit(scores, keep))
            assert mask.sum() == keep
            assert np.min(scores, where=mask, initial=np.inf) >= np.max(scores, where=~mask, initial=-np.inf)


def test_keep_top_under_vmap_is_the_loop():
    scores = jnp.round(jax.random.normal(jax.random.key(1), (6, 11)))
    keeps = jnp.array([0, 1, 4, 7, 10, 11])
    together = jax.vmap(keep_top)(scores, keeps)
    for row, keep, mask in zip(scores, keeps, together, strict=True):
        np.testing.assert_array_equal(mask, keep_top(row, int(keep)))
    shared = jax.vmap(keep_top, (None, 0))(scores[0], keeps)
    np.testing.assert_array_equal(shared.sum(1), keeps)


def test_keep_top_under_a_trace_keeps_what_there_is_and_nothing_of_nan():
    scores = jnp.array([1.0, jnp.inf, -jnp.inf, 0.0])
    assert keep_top_jit(scores, 4).tolist() == [True, True, False, True]
    assert not keep_top_jit(scores.at[0].set(jnp.nan), 2).any()
    assert keep_top(jnp.zeros((0,)), 0).shape == (0,)


@pytest.mark.parametrize(
    ("scores", "keep", "message"),
    [
        ({"w": jnp.ones(2), "v": jnp.array([0.0, jnp.nan])}, 1, r"scores\['v'\] has NaN entries"),
        (jnp.ones(3), 4, "keep is 4; it takes at most 3, the number of finite scores"),
        (jnp.array([1.0, jnp.inf]), 2, "keep is 2; it takes at most 1"),
        (jnp.ones(3), -1, "keep is -1; it takes a whole number >= 0"),
        (jnp.arange(3), 1, "scores has dtype int64; it takes floating numbers"),
        ({}, 1, "scores is a pytree without arrays"),
    ],
)
def test_keep_top_refuses(scores, keep, message):
    with pytest.raises(ValueError, match=message):
        keep_top(scores, keep)


def test_prunable_names_matrices_or_the_only_leaf():
    params = {
        "conv": jnp.ones((3, 3, 1, 4)),
        "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
        "gain": jnp.ones(()),
    }
    assert masks.prunable(params) == {"conv": True, "norm": {"scale": False, "bias": False}, "gain": False}
    assert masks.prunable(jnp.ones(4)) is True
    assert jax.eval_shape(lambda p: jax.tree.map(lambda x, on: x * on, p, masks.prunable(p)), params)


def test_apply_keeps_dtypes_and_puts_exact_zeros():
    params = {"w": jnp.array([[jnp.nan, -2.0]], jnp.float32), "b": jnp.array([3.0], jnp.bfloat16)}
    pruned = masks.apply(params, {"w": jnp.array([[False, True]]), "b": jnp.array([2.5])})
    assert pruned["w"].tolist() == [[0.0, -2.0]] and pruned["b"].tolist() == [7.5]
    assert (pruned["w"].dtype, pruned["b"].dtype) == (jnp.float32, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"mask\['w'\] has shape \(2,\); it takes params' \(1, 2\)"):
        masks.apply(params, {"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match="mask is .*; it takes the structure of params"):
        masks.apply(params, {"w": jnp.ones((1, 2))})


# Laws


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
    np.testing.assert_allclose((drawn * thirds).sum(1), 1, rtol=1e-6)
    many = jnp.full(30_000, 1 / 30_000, jnp.float32)
    drawn = np.asarray(masks.multinomial(jax.random.key(0), many, 30_000))
    assert drawn.sum() == pytest.approx(30_000) and abs(drawn[:15_000].sum() - 15_000) < 5 * np.sqrt(7_500)


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
        (lambda: masks.layer_densities("erk", [(2, 2)], 0), r"density is 0; it takes a number in \(0, 1\]"),
        (lambda: masks.layer_densities("erk", [(2, 2)], 1.01), "density is 1.01"),
        (lambda: masks.layer_densities("erk", [(2, 2)], float("nan")), "density is nan"),
        (lambda: masks.layer_densities("erk", [], 0.5), r"shapes is \[\]; it takes one shape a layer"),
        (lambda: masks.layer_densities("erk", [(0, 3)], 0.5), "at least one weight"),
    ],
)
def test_laws_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masks.keep_top(jnp.ones(3), 1.5), "keep is 1.5; it takes a whole number"),
        (lambda: masks.multinomial(key, jnp.array([1, 0]), 2), "probabilities has dtype int64"),
        (lambda: masks.layer_densities("er", [(2, 2)], 0.5), "rule is 'er'; it takes 'uniform'"),
    ],
)
def test_wrong_types_are_refused(call, message):
    """By the function, or before it by its annotations where those are checked."""
    with pytest.raises((ValueError, TypeError), match=f"{message}|Type-check error"):
        call()


# Layer densities

NETWORKS = {
    "mlp": [(784, 300), (300, 100), (100, 10)],
    "bottleneck": [(3, 3, 3, 64), (1, 1, 64, 512), (512, 10)],
    "vgg": [(3, 3, a, b) for a, b in [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512)]] + [(512, 10)],
    "one": [(4, 4)],
}


@pytest.mark.parametrize("rule", ["uniform", "erk", "balanced", "pyramidal"])
@pytest.mark.parametrize("network", NETWORKS)
def test_layer_densities_keep_what_was_asked(rule, network):
    shapes = NETWORKS[network]
    sizes = np.array([np.prod(shape) for shape in shapes], float)
    for density in (0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, 1.0):
        p = masks.layer_densities(rule, shapes, density)
        assert (p > 0).all() and (p <= 1).all()
        assert (p * sizes).sum() == pytest.approx(density * sizes.sum(), rel=1e-13)
        free = p < 1
        ratios = {"uniform": p, "erk": p * sizes / [sum(shape) for shape in shapes], "balanced": p * sizes}
        if rule == "pyramidal":
            np.testing.assert_allclose(p, p[0] ** np.arange(1, len(p) + 1), rtol=1e-12)
        elif free.any():
            np.testing.assert_allclose(ratios[rule][free], ratios[rule][free][0], rtol=1e-12)
            assert (ratios[rule][~free] <= ratios[rule][free][0] * (1 + 1e-12)).all()


def test_clipping_without_redistribution_keeps_less():
    sizes = np.array([np.prod(shape) for shape in NETWORKS["vgg"]], float)
    for rule in ("erk", "balanced"):
        clipped = functools.partial(masks.layer_densities, rule, NETWORKS["vgg"], redistribute=False)
        assert (clipped(0.5) * sizes).sum() < 0.49 * sizes.sum()
        np.testing.assert_allclose(clipped(1e-4), masks.layer_densities(rule, NETWORKS["vgg"], 1e-4))
