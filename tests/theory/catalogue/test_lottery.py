"""The lottery/ family: what its claims measure and enumerate, against brute force."""

import itertools
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sketchprune import data
from theory.catalogue.lottery import densities, masks

digits = cache(data.load)


def rng(*seed):
    return np.random.default_rng([7, *seed])


@pytest.mark.parametrize(
    ("case", "weights", "layers"),
    [(0, 14_715_584, 14), (1, 11_164_352, 21), (2, 268_336, 20), (3, 64 * 128 + 128 * 128 + 1280, 3)],
    ids=[case.name for case in densities.DENSITIES.cases],
)
def test_networks_have_the_sizes_of_the_literature(case, weights, layers):
    spread = densities.DENSITIES.cases[case].make(rng(), digits())
    assert spread.sizes.sum() == weights and np.count_nonzero(spread.sizes) == layers


@pytest.mark.parametrize("case", [1, 3], ids=["dense", "convolutional"])
def test_path_quantities_are_sums_over_paths(case):
    """The number of live paths, R_1, R_2, and the squared derivatives of all paths by all kept weights."""
    net = densities.BALANCED_OPTIMAL.cases[case].make(rng(case), digits()).net
    mask = net.kept * (rng(1).random(net.kept.size) < 0.7)
    first, second = abs(net.x).mean(axis=0), (net.x**2).mean(axis=0)
    expected = np.zeros(5)
    for path in itertools.product(*map(range, net.widths)):
        steps = list(zip(net.indices, net.coefficients, path, path[1:], strict=False))
        weight, fixed = [index[a, b] for index, _, a, b in steps], [c[a, b] for _, c, a, b in steps]
        factors = [c * net.theta[i] * mask[i] for c, i in zip(fixed, weight, strict=True)]
        value, u = math.prod(factors), second[path[0]]
        slopes = [c * math.prod(factors[:at] + factors[at + 1 :]) for at, c in enumerate(fixed)]
        kept = sum(slope**2 for slope, i in zip(slopes, weight, strict=True) if mask[i])
        expected += [value != 0, abs(value) * first[path[0]], value**2 * u, kept * u, sum(s**2 for s in slopes) * u]
    found, with_pruned = jax.jit(densities.path_quantities)(net, mask)
    np.testing.assert_allclose([*found, with_pruned], expected, rtol=1e-12)


def test_other_allocations_keep_as_many_weights():
    allocation = densities.BALANCED_OPTIMAL.cases[2].make(rng(), digits())
    sizes = np.array([index.size for index in allocation.net.indices], float)
    np.testing.assert_allclose(allocation.feasible @ sizes, allocation.densities @ sizes, rtol=1e-6)
    assert (allocation.feasible > 0).all() and (allocation.feasible <= 1).all()


def test_the_deviation_counts_the_weights_of_all_layers():
    counted = masks.CONCENTRATION.cases[2].make(rng(), digits())
    expected = 64 * counted.densities[0] + 32 * counted.densities[1]
    mask = (jnp.zeros((8, 8), bool).at[0, :3].set(True), jnp.ones((8, 4), bool))
    sides = masks.CONCENTRATION.trial(counted, mask)["claim"]
    np.testing.assert_allclose([sides.measured, sides.theory], [35 - expected, counted.deviation * expected], rtol=1e-8)
    np.testing.assert_allclose(sides.delta, 2 * math.exp(-expected * counted.deviation**2 / 3), rtol=1e-12)


def test_rates_of_connectivity_are_those_of_independent_units():
    kernels = masks.CONNECTIVITY.cases[0].make(rng(), digits())
    trial = jax.jit(masks.CONNECTIVITY.trial)
    rates = trial(kernels, jax.random.key(0))["claim"].delta.reshape(2, 7)
    for delta, found in zip(masks.DELTAS, rates, strict=True):
        exact = np.array([1 - (1 - delta / units) ** units for units in (16, 10)])
        np.testing.assert_allclose(found, [delta, delta, delta, *exact, *(1 - exact)], rtol=1e-10)


def test_units_are_connected_above_the_critical_density():
    """As often as the exact probability says; and the library's masks as well."""
    kernels = masks.CONNECTIVITY.cases[0].make(rng(), digits())
    sides = jax.jit(jax.vmap(lambda key: masks.CONNECTIVITY.trial(kernels, key)["claim"]))(
        jax.random.split(jax.random.key(1), 2000)
    )
    failed = np.asarray(sides.measured > sides.theory).mean(axis=0).reshape(2, 7)
    for delta, (*by_density, _, first, second, _, _) in zip(masks.DELTAS, failed, strict=True):
        exact = np.array([1 - (1 - delta / units) ** units for units in (16, 10)])
        for found in (by_density, [first, second]):
            assert (abs(found - exact) < 5 * np.sqrt(exact / 2000)).all()


def test_rare_deviations_have_a_bound_that_is_near():
    """A case in which 9/16 of the deviation is as probable as the bound allows for all of it, or more."""
    counted = masks.CONCENTRATION.cases[3].make(rng(), digits())
    sizes = np.array([math.prod(shape) for shape in counted.shapes])
    expected, spread = (
        sizes @ counted.densities,
        np.sqrt(sizes @ (counted.densities * (1 - np.array(counted.densities)))),
    )
    exponent = counted.deviation**2 * expected
    assert 11.9 <= exponent <= 12 and counted.deviation <= 1
    assert 2 * stats.norm.sf(counted.deviation * expected * 9 / 16 / spread) > 2 * math.exp(-exponent / 3)


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_every_repair_is_listed(shape):
    """How likely each edge is after the repair, against all masks and all draws in loops."""
    positions, inputs, units = shape
    p, expected = 0.3, np.zeros(shape)
    for bits in itertools.product([False, True], repeat=math.prod(shape)):
        for of_units in itertools.product(range(positions * inputs), repeat=units):
            for of_inputs in itertools.product(range(positions * units), repeat=inputs):
                mask = np.reshape(bits, shape).copy()
                for unit, edge in enumerate(of_units):
                    if not mask[:, :, unit].any():
                        mask[(*divmod(edge, inputs), unit)] = True
                for channel, edge in enumerate(of_inputs):
                    if not mask[:, channel].any():
                        position, unit = divmod(edge, units)
                        mask[position, channel, unit] = True
                chance = p ** sum(bits) * (1 - p) ** (len(bits) - sum(bits))
                expected += mask * chance / ((positions * inputs) ** units * (positions * units) ** inputs)
    layer = masks.Layer(jnp.asarray(p), jnp.zeros(shape))
    repaired, chances = jax.jit(masks._every_repair)(layer)
    np.testing.assert_allclose(jnp.tensordot(chances, repaired.after, 1), expected, rtol=1e-5)
