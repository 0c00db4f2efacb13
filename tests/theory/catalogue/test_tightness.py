"""Cases in which tail bounds are nearly tight: how often a smaller bound would fail there, exactly or by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sketchprune import data
from theory.catalogue.sketch import tails
from theory.catalogue.tangent import tails as tangent_tails
from theory.catalogue.tangent.cases import linearise

NEARLY_TIGHT = [
    (tails.HIGH_PROBABILITY, "three-coins", 6 / 16),
    (tails.HIGH_PROBABILITY_SHARP, "rare-item", 10 / 16),
    (tails.HIGH_PROBABILITY_SHARP, "coin", 9 / 16),
]


def make(claim, name):
    case = next(case for case in claim.cases if case.name == name)
    return case.make(np.random.default_rng(1), data.load())


@pytest.mark.parametrize("claim,name,factor", NEARLY_TIGHT, ids=lambda value: getattr(value, "id", value))
def test_a_part_of_the_bound_fails_too_often(claim, name, factor):
    """By the binomial law of the counts: the bound fails at most at the rate δ, the part more often at one δ."""
    instance = make(claim, name)
    budget, rate = int(instance.budget), abs(instance.w[0]) / abs(instance.w).sum()
    counts = np.arange(budget + 1)
    masks = np.zeros((len(counts), instance.w.size))
    masks[:, 0], masks[:, 1] = counts / (budget * rate), (budget - counts) / (budget * (1 - rate))
    sides = jax.jit(lambda instance, masks: jax.vmap(lambda mask: claim.trial(instance, mask)["claim"])(masks))
    measured, theory, *_, delta = jax.device_get(sides(jax.tree.map(jnp.asarray, instance), jnp.asarray(masks)))
    chances = stats.binom.pmf(counts, budget, rate)
    assert np.all(chances @ (measured > theory) <= delta[0])
    assert np.any(chances @ (measured > factor * theory) > 1.1 * delta[0])


def largest_part(delta):
    """The largest factor on the bound that fails too often, over one sample, up to 20 draws, and p = p*.

    All draws are then Z times the sign of their weight: only the share of one sign matters.
    """
    largest = 0
    for budget in range(1, 21):
        shares = np.linspace(0.001, 0.5, 2000)
        counts = np.arange(budget + 1)[:, None]
        errors = 2 * np.sqrt(budget) * abs(counts / budget - shares)
        order = np.argsort(-errors, axis=0)
        tails = np.cumsum(np.take_along_axis(stats.binom.pmf(counts, budget, shares), order, 0), axis=0)
        reached = np.take_along_axis(np.take_along_axis(errors, order, 0), np.argmax(tails > delta, 0)[None], 0)
        largest = max(largest, reached.max() / (1 + np.sqrt(8 * np.log(1 / delta))))
    return largest


@pytest.mark.parametrize("delta", tails.DELTAS)
def test_the_note_on_what_is_loose_in_the_bound(delta):
    """Its two numbers for each δ: of the tightest instance with one sample, and of McDiarmid's inequality."""
    logarithm = np.log(1 / delta)
    proved = (1 + np.sqrt(2 * logarithm)) / (1 + np.sqrt(8 * logarithm))
    assert f"{largest_part(delta):.2f}" in tails.HIGH_PROBABILITY.note
    assert f"{proved:.2f}" in tails.HIGH_PROBABILITY.note


def test_orthogonal_columns_make_the_matrix_bound_nearly_tight():
    network = make(tangent_tails.SKETCH_SPECTRAL, "orthogonal")
    tangent = jax.device_get(jax.jit(linearise)(network))
    size, budget, delta = len(network.x), int(network.budget), 0.01
    np.testing.assert_array_equal(tangent.jacobian, np.eye(size))
    counts = np.random.default_rng(0).multinomial(budget, np.full(size, 1 / size), 50_000)
    errors = abs(counts * size / budget - 1).max(axis=1)
    logarithm = np.log(2 * size / delta)
    bound = np.sqrt(2 * size * logarithm / budget) + 2 / 3 * size * logarithm / budget
    assert np.mean(errors > 11 / 16 * bound) > 1.5 * delta
    assert np.mean(errors > bound) < delta
