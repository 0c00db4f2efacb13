"""The ``lottery/`` claims: instances are what they should be, and sides agree with brute force in NumPy."""

import itertools
from functools import cache

import jax
import numpy as np
import pytest

from sketchprune import data
from theory.catalogue.lottery import connection, containment, hitting, perturbation, subset_sums

digits = cache(data.load)


def rng(*seed):
    return np.random.default_rng([7, *seed])


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_the_bound_on_perturbations_is_attained(slope):
    """By equal positive weights: both sides from the recursion of one number for each layer."""
    with jax.enable_x64(True):
        net = perturbation._equal(rng(), digits()).replace(slope=np.asarray(slope))
        sides = perturbation._perturbation(net, jax.random.key(0))
    ends = np.cumsum([0, *(rows * columns for rows, columns in perturbation.SHAPES)])
    before = after = net.x[0, 0]
    moved = []
    for start, epsilon, inputs in zip(ends, net.epsilons, perturbation.WIDTHS, strict=False):
        weight = net.weights[start]
        before, after = inputs * weight * before, inputs * (weight + epsilon) * after
        moved.append(after - before)
    np.testing.assert_allclose(sides["claim"].measured, moved, rtol=1e-12)
    np.testing.assert_allclose(sides["claim"].theory, moved, rtol=1e-12)
    assert (sides["no cross term"].theory[1:] < sides["claim"].measured[1:]).all()


def test_connected_masks_are_counted():
    """Of all masks of the small case, weighted, as many contain the target as the theory says."""
    unit = connection._small(rng(), digits())
    first, second = unit.densities
    total = 0.0
    for bits in itertools.product([0, 1], repeat=9):
        hidden, output = np.reshape(bits[:6], (2, 3)), np.array(bits[6:])
        chance = np.where(bits[:6], first, 1 - first).prod() * np.where(output, second, 1 - second).prod()
        total += chance * (hidden @ output > 0).all()
    with jax.enable_x64(True):
        masks, chances = connection._enumerate(unit)
        sides = jax.vmap(lambda mask: connection._width_necessary(unit, mask)["claim"])(masks)
        np.testing.assert_allclose(chances @ sides.measured[:, 0], total, rtol=1e-12)
    np.testing.assert_allclose(sides.theory[0, 0], total, rtol=1e-12)


def test_items_are_kept_in_order():
    items = subset_sums.Items(subset_sums.uniform_quantiles(), np.asarray(0.5), np.asarray(0.25), np.asarray(30))
    drawn = np.arange(1, subset_sums.MAX_DRAWN + 1, dtype=np.float32)
    kept = np.asarray(items.keep(jax.random.key(1), drawn))
    present = kept[kept > 0]
    assert len(kept) == subset_sums.MAX_ITEMS and 0 < len(present)
    assert (np.diff(present) > 0).all() and present.max() <= 30
    assert (np.asarray(items.replace(density=np.asarray(1.0)).keep(jax.random.key(1), drawn)) == drawn[:14]).all()


def test_items_of_a_data_set_spread_as_uniform_ones():
    quantiles = subset_sums.item_quantiles(rng(), digits())
    places = np.linspace(0, 64, 10_001)
    values = np.interp(places, np.arange(65), quantiles)
    assert abs(values.std() - 3**-0.5) < 0.1 and (np.diff(quantiles) >= 0).all()


def test_hitting_numbers_of_a_trial_are_those_of_all_sums():
    items = hitting._all_kept(subset_sums.uniform_quantiles())
    sides = hitting._rate(items, jax.random.key(3))["claim"]
    drawn = np.asarray(items.draw(jax.random.key(3), hitting.MAX_ITEMS))
    sums, needed = np.zeros(1), {}
    for count in range(hitting.MAX_ITEMS + 1):
        ordered = np.concatenate([[-9], np.sort(sums), [9]])
        middle = np.clip((ordered[1:] + ordered[:-1]) / 2, -0.5, 0.5)
        radius = np.minimum(middle - ordered[:-1], ordered[1:] - middle).max()
        for epsilon in hitting.EPSILONS:
            if radius <= epsilon:
                needed.setdefault(epsilon, count)
        if count < hitting.MAX_ITEMS:
            sums = np.concatenate([sums, sums + drawn[count]])
    expected = [needed.get(epsilon, hitting.MAX_ITEMS + 1) for epsilon in hitting.EPSILONS]
    assert (-np.asarray(sides.measured[: len(expected)])).tolist() == expected


@pytest.mark.parametrize("make", [containment._images, containment._centred])
def test_targets_have_the_weights_that_the_width_is_meant_for(make):
    target = make(rng(), digits())
    assert tuple(np.count_nonzero(kernel) for kernel in target.kernels) == containment.NONZEROS
    assert target.signed or (target.x >= 0).all()
