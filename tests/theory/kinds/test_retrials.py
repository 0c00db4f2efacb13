"""What an average over instances hides is found, and what is true is refuted no more often than the level says.

Whole verdicts are simulated with the verifier's own code on laws that are known. At the level 0.05 there are 2,000
claims that are true, or that lie exactly where SUPPORTED becomes wrong.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from tests.support import without_type_checks
from tests.support.simulated_runs import SimulatedRuns, failing, normal, rare
from theory.kinds import Expectation, Probability, retrials
from theory.kinds.kind import Findings
from theory.verdict import LEVEL, REFUTED, SUPPORTED, TIERS, Tier

CLAIMS = 2000
TINY = Tier("tiny", instances=16, looks=(128, 512), tolerance=0.1, search_steps=0)
STANDARD, QUICK = TIERS["standard"], TIERS["quick"]


def verdict(kind, draw, tier=TINY, level=0.05, **sides):
    """The verdict on the one case of a simulated claim."""
    runs = SimulatedRuns(draw, tier, **sides)
    found = retrials.measure(runs, tier, kind, float32=False, found=Findings.none(runs.statements), level=level)
    return found.cases["claim"]["simulated"]


def count(word, settings, claims=CLAIMS, tier=TINY, level=0.05):
    """How many claims end so; they take turns among (kind, draw, fields of the sides).

    The checks of annotations, which the tests of a single verdict leave on, would take most of the time.
    """
    ended = itertools.islice(itertools.cycle(settings), claims)
    with without_type_checks():
        return sum(verdict(kind, draw, tier, level, **sides).verdict == word for kind, draw, sides in ended)


MOST = stats.binom.isf(1e-3, CLAIMS, 0.05)
"""Errors that are no evidence of a rate above the level."""


def test_what_is_true_is_rarely_refuted():
    """Means of 0, of normal and of skewed laws, whose range is known or not; and failure rates of δ."""
    rng, zeros = np.random.default_rng(0), np.zeros((16, 3))
    laws = [(normal(rng, zeros), {}), (rare(rng, zeros, 0.05), {}), (rare(rng, zeros, 0.02), {"range": 50.0})]
    means = [(Expectation(relation), *law) for relation in ("equal", "at most") for law in laws]
    rates = [(Probability(), failing(rng, np.full((16, 3), 0.05)), {"delta": 0.05})]
    assert count(REFUTED, means + 2 * rates) <= MOST


def test_what_may_just_not_be_missed_is_rarely_supported():
    """Biases whose signs cancel in the average, at the largest resolution; and an instance that fails at 2δ."""
    rng, signs = np.random.default_rng(1), np.where(np.arange(16) % 2, 1, -1)[:, None]
    size, rates = retrials.MAX_RESOLUTION * TINY.tolerance * signs, np.full((16, 1), 0.005)
    rates[5] = 0.1
    settings = [
        (Expectation(), normal(rng, size, deviation=8.0), {}),
        (Expectation("at most"), normal(rng, size * np.sqrt(2), deviation=8.0), {}),
        (Probability(), failing(rng, rates), {"delta": 0.05}),
    ]
    assert count(SUPPORTED, settings) <= MOST


# --- Power, at the level of the verifier


def one_bad(size, shape=(128, 1)):
    means = np.zeros(shape)
    means[-1] = size
    return means


def one_component(size):
    means = np.zeros((128, 50))
    means[:, 17] = size
    return means


HIDDEN = {
    "one bad instance among 128": one_bad(0.5),
    "biases of random sign": 0.25 * np.random.default_rng(5).choice([-1.0, 1.0], (128, 1)),
    "biases of random sign in many components": 0.1 * np.random.default_rng(6).standard_normal((128, 8)),
    "a bias in one component of fifty": one_component(0.1),
}


@pytest.mark.parametrize("means", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("relation", ["equal", "at most"])
def test_power_against_biases_that_an_average_hides(means, relation):
    draw = normal(np.random.default_rng(7), means)
    assert count(REFUTED, [(Expectation(relation), draw, {})], 50, STANDARD, LEVEL) == 50


def test_without_a_second_stage_the_average_would_be_believed(monkeypatch):
    monkeypatch.setattr(retrials, "SUSPECTS", 0)
    draw = normal(np.random.default_rng(8), HIDDEN["one bad instance among 128"])
    assert verdict(Expectation(), draw, STANDARD, LEVEL).verdict == SUPPORTED


@pytest.mark.parametrize("delta", [0.2, 0.05, 0.01])
@pytest.mark.parametrize("tier", [QUICK, STANDARD], ids=lambda tier: tier.name)
def test_power_against_three_times_delta_on_one_instance_in_sixteen(tier, delta):
    rates = np.where(np.arange(tier.instances) % 16 == 3, 3 * delta, delta / 4)[:, None]
    draw = failing(np.random.default_rng(9), rates)
    assert count(REFUTED, [(Probability(), draw, {"delta": delta})], 50, tier, LEVEL) == 50


@pytest.mark.parametrize("tier", [QUICK, STANDARD], ids=lambda tier: tier.name)
def test_what_is_true_is_supported(tier):
    rng = np.random.default_rng(10)
    means = np.zeros((tier.instances, 3))
    for _ in range(20):
        assert verdict(Expectation(), normal(rng, means), tier, LEVEL).verdict == SUPPORTED
        assert verdict(Expectation("at most"), normal(rng, means - 0.3), tier, LEVEL).verdict == SUPPORTED
        rates = failing(rng, means + 0.01)
        assert verdict(Probability(), rates, tier, LEVEL, delta=0.05).verdict == SUPPORTED
