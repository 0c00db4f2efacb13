"""Subset sums against brute force: nearest subsets, coverage, hitting numbers, gaps."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sketchprune import lottery
from sketchprune.lottery import _sums

rng = np.random.default_rng(0)
ITEMS = rng.uniform(-1, 1, (12, 10))


def all_sums(items):
    """The sums of all subsets, in the order of Σ 2^i over their items i."""
    sums = np.zeros(1)
    for item in items:
        sums = np.concatenate([sums, sums + item])
    return sums


def subset_of(code, n):
    return [bool(code >> i & 1) for i in range(n)]


def radius(items):
    """By all sorted sums: the farthest points are the middles of gaps and the ends of the interval."""
    sums = np.sort(all_sums(items))
    points = np.concatenate([[-0.5, 0.5], (sums[1:] + sums[:-1]) / 2])
    points = points[np.abs(points) <= 0.5]
    return np.abs(points[:, None] - sums).min(1).max()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
def test_nearest_subset_is_the_best_of_all(n):
    items, targets = ITEMS[:4, :n], rng.uniform(-1.5, 1.5, (4, 6))
    found = jax.device_get(lottery.nearest_subset(items, targets))
    for i, j in itertools.product(range(4), range(6)):
        errors = np.abs(all_sums(items[i]) - targets[i, j])
        np.testing.assert_allclose(found.error[i, j], errors.min(), atol=1e-15)
        assert found.subset[i, j].tolist() == subset_of(errors.argmin(), n)
        np.testing.assert_allclose(found.sum[i, j], items[i] @ np.asarray(found.subset[i, j]), atol=1e-15)


@pytest.mark.parametrize("tolerance", [1e-3, 0.02, 0.4])
def test_with_a_tolerance_it_is_the_first_subset_near_enough(tolerance):
    targets = np.append(rng.uniform(-1, 1, 5), 20.0)
    items = ITEMS[:6, :8]
    found = jax.device_get(lottery.nearest_subset(items, np.tile(targets, (6, 1)), tolerance=tolerance))
    for i, j in itertools.product(range(6), range(6)):
        errors = np.abs(all_sums(items[i]) - targets[j])
        first = np.argmax(errors <= max(tolerance, errors.min()))
        assert found.subset[i, j].tolist() == subset_of(first, 8)


@pytest.mark.parametrize("items", [[0.3], [-0.2, 0.7, -0.2, 0.5, 0.0], list(ITEMS[0, :9])], ids=["one", "ties", "nine"])
def test_sums_stay_sorted_as_items_are_added(items):
    ordered, with_item = jnp.zeros(1), jax.jit(_sums.with_item)
    for count, item in enumerate(items, 1):
        ordered = with_item(ordered, jnp.asarray(item))
        np.testing.assert_allclose(ordered, np.sort(all_sums(items[:count])), atol=1e-6)
        assert (np.diff(ordered) >= 0).all()


def test_items_of_zero_are_never_taken_and_zero_is_the_empty_sum():
    items = np.where(np.arange(10) % 3 == 0, 0, ITEMS[0])
    found = lottery.nearest_subset(items, np.append(rng.uniform(-1, 1, 20), 0.0))
    assert not np.asarray(found.subset)[:, items == 0].any() and not found.subset[-1].any()
    assert found.error[-1] == 0


def test_more_instances_and_targets_than_fit_in_a_chunk():
    """Chunks of unequal numbers: the first, the last and those between are what they would be alone."""
    items, targets = rng.uniform(-1, 1, (2100, 10)), rng.uniform(-1, 1, (90, 300))
    found = jax.device_get(lottery.nearest_subset(items[:90], targets))
    radii, gaps = jax.device_get((lottery.covering_radii(items), lottery.gap_statistics(items[:600])))
    for i in (0, 44, 89):
        errors = np.abs(all_sums(items[i]) - targets[i][:, None])
        np.testing.assert_allclose(found.error[i], errors.min(1), atol=1e-15)
        np.testing.assert_allclose(np.asarray(found.subset[i]) @ items[i], found.sum[i], atol=1e-15)
    for i in (0, 1049, 1050, 2099):
        np.testing.assert_allclose(np.maximum(radii[i, -1], 2**-8), np.maximum(radius(items[i]), 2**-8), atol=1e-14)
    for i in (0, 300, 599):
        np.testing.assert_allclose(gaps.covering_radius[i], radius(items[i]), atol=1e-14)


def test_covering_radii_are_those_of_all_prefixes():
    expected = np.array([[radius(items[:k]) for k in range(11)] for items in ITEMS])
    fine = lottery.covering_radii(ITEMS, resolution=2**-11)
    assert expected.min() > 2**-11
    np.testing.assert_allclose(fine, expected, atol=1e-14)


def test_covering_radii_are_exact_down_to_the_resolution():
    """Also where the largest gap is hardly longer than the distance of grid points."""
    many = rng.uniform(-1, 1, (300, 8))
    expected = np.array([radius(items) for items in many])
    assert ((expected > 0.03) & (expected < 0.04)).sum() > 20 and (expected < 0.03).any()
    found = lottery.covering_radii(many, resolution=0.03)[:, -1]
    np.testing.assert_allclose(np.maximum(found, 0.03), np.maximum(expected, 0.03), atol=1e-14)


def test_coverage_and_hitting_numbers_are_where_the_radii_fall_below_epsilon():
    epsilons = [0.3, 0.1, 0.02]
    radii = np.array([[radius(items[:k]) for k in range(11)] for items in ITEMS])
    hitting = np.asarray(lottery.hitting_numbers(ITEMS, epsilons))
    for at, epsilon in enumerate(epsilons):
        expected = [next((k for k in range(11) if row[k] <= epsilon), 11) for row in radii]
        assert hitting[:, at].tolist() == expected
        assert (hitting[:, at] >= math.log2(1 / (2 * epsilon))).all()
    np.testing.assert_array_equal(lottery.covers(ITEMS, 0.02), radii[:, -1] <= 0.02)
    assert (hitting == 11).any() and (hitting < 11).any()


def test_gap_statistics_are_those_of_the_sorted_sums():
    found = jax.device_get(lottery.gap_statistics(ITEMS))
    for i, items in enumerate(ITEMS):
        sums = np.sort(all_sums(items))
        inside = sums[np.abs(sums) <= 0.5]
        assert found.num_sums[i] == len(inside)
        np.testing.assert_allclose(found.largest_gap[i], np.diff([-0.5, *inside, 0.5]).max(), atol=1e-14)
        np.testing.assert_allclose(found.covering_radius[i], radius(items), atol=1e-14)
        # The distance is linear between sums, middles and ends: the trapezoidal rule on them is exact.
        knots = np.unique(np.clip([-0.5, 0.5, *sums, *(sums[1:] + sums[:-1]) / 2], -0.5, 0.5))
        distance = np.abs(knots[:, None] - sums).min(1)
        np.testing.assert_allclose(found.mean_distance[i], np.trapezoid(distance, knots), rtol=1e-11)


def test_twenty_items_are_exact_too():
    items = rng.uniform(-1, 1, 20)
    sums = np.sort(all_sums(items))
    near = np.abs(sums) <= 0.6
    gaps = np.diff(sums[near])
    middles = (sums[near][1:] + sums[near][:-1]) / 2
    expected = gaps[np.abs(middles) <= 0.5].max() / 2
    np.testing.assert_allclose(lottery.covering_radii(items, resolution=2.0**-16)[-1], expected, rtol=1e-9)
    targets = rng.uniform(-1, 1, 7)
    found = lottery.nearest_subset(items, targets)
    at = np.searchsorted(sums, targets)
    np.testing.assert_allclose(found.error, np.minimum(sums[at] - targets, targets - sums[at - 1]), atol=1e-14)
    np.testing.assert_allclose(np.asarray(found.subset) @ items, found.sum, atol=1e-14)


def test_vmap_and_leading_axes_are_the_loop():
    items, targets = ITEMS[:4, :5].reshape(2, 2, 5), rng.uniform(-1, 1, (2, 2, 3))
    functions = {
        lottery.nearest_subset: (items, targets),
        lambda values: lottery.hitting_numbers(values, [0.1]): (items,),
        lottery.gap_statistics: (items,),
    }
    for function, arguments in functions.items():
        batched = function(*arguments)
        mapped = jax.jit(jax.vmap(jax.vmap(function)))(*arguments)
        for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(mapped), strict=True):
            np.testing.assert_array_equal(a, b)
        single = function(*(argument[1, 0] for argument in arguments))
        for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(single), strict=True):
            np.testing.assert_array_equal(a[1, 0], b)


def test_dtypes_and_no_instances():
    items32 = ITEMS.astype(np.float32)
    assert lottery.covering_radii(items32).dtype == jnp.float32
    np.testing.assert_allclose(lottery.covering_radii(items32), lottery.covering_radii(ITEMS), atol=1e-5)
    found = lottery.nearest_subset(items32[:, :5], np.zeros((12, 1)))
    assert found.sum.dtype == found.error.dtype == jnp.float32
    half = lottery.nearest_subset(jnp.ones(2, jnp.bfloat16), jnp.array([1.1]))
    assert half.sum.dtype == jnp.float32 and half.subset.tolist() == [[True, False]]
    assert lottery.covering_radii(np.zeros((0, 4))).shape == (0, 5)
    assert lottery.nearest_subset(np.zeros((0, 4)), np.zeros((0, 2))).subset.shape == (0, 2, 4)
    assert lottery.nearest_subset(np.zeros(4), np.zeros(0)).subset.shape == (0, 4)


def test_thinned_probability_is_the_sum_over_all_kept_sets():
    dense = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    for density in (0.0, 0.3, 1.0):
        for n in (1, 3, 4):
            kept = np.array(list(itertools.product([0, 1], repeat=n))).sum(1)
            expected = np.sum(density**kept * (1.0 - density) ** (n - kept) * dense[kept])
            np.testing.assert_allclose(lottery.thinned_probability(dense, n, density), expected, rtol=1e-12)
    table = lottery.thinned_probability(np.stack([dense, dense**2]), 3, 0.3)
    np.testing.assert_allclose(table[0], lottery.thinned_probability(dense, 3, 0.3), rtol=1e-13)
    assert table.shape == (2,)


def test_thinned_items_keep_enough_with_the_promised_probability():
    for items, density, delta in [(3, 0.2, 0.5), (16, 0.5, 0.1), (1, 0.9, 1e-4)]:
        n = lottery.thinned_items(items, density, delta)
        assert scipy.stats.binom.sf(items - 1, n, density) >= 1 - delta / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lottery.nearest_subset(np.ones(21), np.ones(1)), "items has 21 numbers .* it takes 1 to 20"),
        (lambda: lottery.covers(np.ones((3, 0)), 0.1), "items has 0 numbers for each instance"),
        (lambda: lottery.nearest_subset(np.ones((2, 3)), np.ones((1, 3))), r"targets has shape \(1, 3\); it takes \(2"),
        (
            lambda: lottery.nearest_subset(np.array([np.inf]), np.ones(1)),
            "items has the entry inf; it takes finite numbers",
        ),
        (
            lambda: lottery.nearest_subset(np.ones(1), np.array([np.nan])),
            "targets has the entry nan; it takes finite numbers",
        ),
        (
            lambda: lottery.nearest_subset(np.ones(1), np.ones(1), tolerance=-1.0),
            "tolerance is -1.0; it takes a finite number >= 0",
        ),
        (lambda: lottery.covers(np.ones(3), 0.0), r"epsilon is 0.0; it takes a number in \(0, 1\]"),
        (lambda: lottery.covering_radii(np.ones(3), resolution=2.0), "resolution is 2.0"),
        (lambda: lottery.hitting_numbers(np.ones(3), []), "epsilons has no entries"),
        (lambda: lottery.hitting_numbers(np.ones(3), [0.1, -0.1]), "epsilons is -0.1"),
        (lambda: lottery.thinned_probability(np.ones(3), 3, 0.5), "items is 3; it takes at most 2"),
        (lambda: lottery.thinned_probability(np.ones(3), 2, 1.5), "density is 1.5"),
        (lambda: lottery.thinned_items(0, 0.5, 0.1), "items is 0; it takes a whole number >= 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
