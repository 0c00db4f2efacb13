"""The ``lottery/`` claims: instances are what they should be, and sides agree with brute force in NumPy."""

import itertools
import math
from functools import cache

import jax
import numpy as np
import pytest

from sketchprune import data, lottery
from theory.catalogue.lottery import connection, containment, hitting, perturbation, strong_tickets, subset_sums

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


def uniform_items(density=0.5):
    """As they are in a trial: arrays of JAX."""
    items = hitting._all_kept(subset_sums.uniform_quantiles())
    return jax.tree.map(jax.numpy.asarray, items.replace(density=np.asarray(density)))


def test_items_are_kept_in_order():
    """Items of U[0, 1) by their ranks: as many as chance keeps, and those that are kept alone."""
    items = uniform_items().replace(quantiles=jax.numpy.linspace(0, 1, 65))
    kept, counts = map(np.asarray, items.draw_thinned(jax.random.key(1), 20))
    for_ranks, for_kept = jax.random.split(jax.random.key(1))
    ranks = np.asarray(jax.random.uniform(for_ranks, (20,), items.quantiles.dtype))
    chosen = np.asarray(jax.random.bernoulli(for_kept, items.density, (20,)))
    assert len(kept) == subset_sums.MAX_ITEMS and 0 < chosen.sum() < len(kept)
    np.testing.assert_array_equal(counts, np.cumsum(chosen))
    np.testing.assert_allclose(kept[: chosen.sum()], ranks[chosen], atol=1e-6)
    assert (kept[chosen.sum() :] == 0).all()
    many, counts = items.replace(density=np.asarray(1.0)).draw_thinned(jax.random.key(1), 20)
    np.testing.assert_allclose(many, ranks[: subset_sums.MAX_ITEMS], atol=1e-6)
    assert counts.tolist() == [*range(1, 14), *[14] * 7]


def test_the_items_of_a_trial_are_those_that_chance_keeps():
    """That n items are drawn, and 12 for a mutant, changes which of the first kept items count."""
    items = uniform_items(0.7).replace(epsilon=np.asarray(0.2), count=np.asarray(13))
    trial = jax.jit(subset_sums._thinning)
    for seed in range(12):
        key = jax.random.key(seed)
        kept, counts = items.draw_thinned(jax.random.split(key)[0], subset_sums.MAX_DRAWN)
        radii = [radius(np.asarray(kept[:count])) for count in range(len(kept) + 1)]
        sides = trial(items, key)
        assert sides["claim"].measured[0] == (radii[counts[12]] <= 0.2) == -sides["claim"].measured[1]
        assert sides["claim"].measured[3] == (radii[counts[34]] > 0.2)  # ⌈24/0.7⌉ = 35
        assert sides["n ≥ k"].measured[3] == (radii[counts[11]] > 0.2)


def radius(items):
    """By all sorted sums."""
    sums = np.zeros(1)
    for item in items:
        sums = np.concatenate([sums, sums + item])
    ordered = np.concatenate([[-9], np.sort(sums), [9]])
    middle = np.clip((ordered[1:] + ordered[:-1]) / 2, -0.5, 0.5)
    return np.minimum(middle - ordered[:-1], ordered[1:] - middle).max()


def test_items_of_a_data_set_spread_as_uniform_ones():
    quantiles = subset_sums.item_quantiles(rng(), digits())
    places = np.linspace(0, 64, 10_001)
    values = np.interp(places, np.arange(65), quantiles)
    assert abs(values.std() - 3**-0.5) < 0.1 and (np.diff(quantiles) >= 0).all()


def test_hitting_numbers_of_a_trial_are_those_of_all_sums():
    items = uniform_items()
    sides = hitting._rate(items, jax.random.key(3))["claim"]
    drawn = np.asarray(items.draw(jax.random.key(3), hitting.MAX_ITEMS))
    radii = np.array([radius(drawn[:count]) for count in range(hitting.MAX_ITEMS + 1)])
    expected = [(radii > epsilon).sum() for epsilon in hitting.EPSILONS]
    assert (-np.asarray(sides.measured[: len(expected)])).tolist() == expected


def test_items_that_crowd_are_no_instance():
    """Where a third of them are alike, as the pixels of a background are, some halvings of ε take less than an item."""
    items = uniform_items()
    crowded = items.replace(quantiles=items.quantiles.at[20:40].set(0.0))
    assert hitting._do_not_crowd(items) and not hitting._do_not_crowd(crowded)


@pytest.mark.parametrize("make", [containment._images, containment._centred])
def test_targets_have_the_weights_that_the_width_is_meant_for(make):
    target = make(rng(), digits())
    assert tuple(np.count_nonzero(kernel) for kernel in target.kernels) == containment.NONZEROS
    assert target.signed or (target.x >= 0).all()


def contained(target, masks, copies, part):
    """Whether the target is in a source with this part of the copies of the inputs and of the hidden units."""
    inputs, hidden = (math.floor(part * count) for count in copies)
    first, second, third = (np.asarray(mask) for mask in masks)
    kept = np.arange(first.shape[1]) % copies[0] < inputs, np.arange(third.shape[0]) % copies[1] < hidden
    if not (inputs and hidden):
        return False
    fewer = first[:, kept[0]], second[np.ix_(*kept)], third[kept[1]]
    return bool(lottery.embed(target.layers, fewer, signed=target.signed).complete)


@pytest.mark.parametrize("make", [containment._positive, containment._centred])
def test_the_part_of_the_copies_that_is_needed_is_the_least(make):
    target = make(rng(4), digits())
    copies = lottery.sufficient_copies(
        containment.NONZEROS, containment.DENSITIES, containment.DELTA, signed=target.signed
    )[:2]
    parts = []
    for seed in range(4):
        masks = containment._masks(jax.random.key(seed), copies, target.signed)
        found = lottery.embed(target.layers, masks, signed=target.signed)
        parts.append(float(containment._needed_parts(target, masks, found, [copies])[0]))
        for part in (parts[-1] + 1e-6, parts[-1] - 1e-6):
            assert contained(target, masks, copies, part) == (part > parts[-1])
    assert len(set(parts)) > 1


def test_an_embedding_that_computes_something_else_refutes(monkeypatch):
    target = containment._positive(rng(5), digits())
    key = jax.random.key(0)
    sides = containment._width_suffices(target, key)
    assert 0 < sides["claim"].measured <= 1 < sides["no logarithm"].measured
    embed = lottery.embed

    def wrong(*arguments, **options):
        found = embed(*arguments, **options)
        last = found.network[-1]
        return found._replace(network=(*found.network[:-1], last._replace(bias=last.bias + 1e-6)))

    monkeypatch.setattr(lottery, "embed", wrong)
    assert np.isinf(containment._width_suffices(target, key)["claim"].measured)


def test_a_chain_of_single_units_attains_the_bound_on_tickets():
    with jax.enable_x64(True):
        target = jax.tree.map(jax.numpy.asarray, strong_tickets._chain(rng(), digits()))
        sides = jax.jit(jax.vmap(lambda key: strong_tickets._strong_ticket(target, key)["claim"]))(
            jax.random.split(jax.random.key(0), 16)
        )
    ratios = np.asarray(sides.measured / sides.theory)
    assert (ratios <= 1 + 1e-9).all() and ratios.max() > 0.99
