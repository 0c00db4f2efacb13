"""Verdicts are wrong no more often than their level says, and right where the truth is clear.

The decisions of the verifier are simulated with its own code. At level 0.05 there are 2,000 claims that lie exactly at
the boundary between two verdicts, where errors are most frequent: they are the components of one judgement.
"""

import warnings

import numpy as np
import pytest
from scipy import stats

from theory import statistics
from theory.kinds import Effect, Expectation, Probability
from theory.measurements import Evaluation, SideArrays, TrialSums, take
from theory.verdict import INCONCLUSIVE, LEVEL, REFUTED, SUPPORTED, TIERS, Tier

CLAIMS, INSTANCES = 2000, 4
TINY = Tier("tiny", instances=INSTANCES, looks=(64, 256, 1024), tolerance=0.1, search_steps=0)


def most(level=0.05, claims=CLAIMS):
    """Errors that are no evidence of a rate above the level."""
    return stats.binom.isf(1e-3, claims, level)


def simulate(kind, sums, tier, level):
    """Decisions on claims whose ``sums`` at every look are leaves [looks, instances, claims]: each at its first look.

    Each claim has the level to itself.
    """
    claims = sums.trials.shape[2]
    decisions = np.full(claims, str(INCONCLUSIVE), "U12")
    for look in range(len(tier.looks)):
        found = kind.judge(take(sums, look), tier, level * claims).decisions
        decisions = np.where(decisions == INCONCLUSIVE, found, decisions)
    return decisions


def added(rng_sums, tier):
    """Sums at the looks, from a function that draws those of so many trials."""
    return np.cumsum([rng_sums(more) for more in np.diff([0, *tier.looks])], axis=0)


def sums_of(tier, shape, *, failures=0.0, deviation=0.0, squares=0.0, fourth_powers=0.0, delta=np.nan, width=np.nan):
    """Sums over trials of theory and scale 1, [looks, *shape]."""
    trials = np.broadcast_to(np.array(tier.looks, float)[:, None, None], (len(tier.looks), *shape))
    totals = (np.broadcast_to(leaf, trials.shape) for leaf in (0.0, failures, deviation, squares, fourth_powers, 0.0))
    sides = SideArrays(trials + deviation, trials, trials, trials * np.nan, trials * width, trials * delta)
    return TrialSums(trials, *totals, sides, np.zeros((*trials.shape, len(Probability.counted_factors))))


def failing(rates, delta, tier=TINY, claims=CLAIMS, level=0.05, seed=0):
    """Decisions on P(failure) <= delta, where instances fail at the given rates."""
    rng, shape = np.random.default_rng(seed), (tier.instances, claims)
    rates = np.broadcast_to(np.reshape(rates, (-1, 1)), shape)
    failures = added(lambda trials: rng.binomial(trials, rates), tier)
    return simulate(Probability(), sums_of(tier, shape, failures=failures, delta=delta), tier, level)


def gaussian(kind, mean, deviations, tier=TINY, claims=CLAIMS, level=0.05, seed=0):
    """Decisions on E z = 0 or E z <= 0, where z is normal: its sum, and independently its squares, are drawn."""
    rng, shape = np.random.default_rng(seed), (tier.instances, claims)
    deviations = np.reshape(deviations, (-1, 1))

    def both(trials):
        total = mean * trials + np.sqrt(trials) * deviations * rng.standard_normal(shape)
        return np.stack([total, deviations**2 * rng.chisquare(trials - 1, shape) + total**2 / trials])

    deviation, squares = added(both, tier).swapaxes(0, 1)
    return simulate(kind, sums_of(tier, shape, deviation=deviation, squares=squares), tier, level)


def rare(kind, mean, chance, tier=TINY, claims=CLAIMS, level=0.05, seed=0, *, ranged=True):
    """The same where z + 1 is (1 + mean)/chance with that chance, else 0: skewed, of known range if ``ranged``."""
    rng, shape = np.random.default_rng(seed), (tier.instances, claims)
    hits, value = added(lambda trials: rng.binomial(trials, chance, shape), tier), (1 + mean) / chance
    trials = np.array(tier.looks, float)[:, None, None]
    sums = sums_of(
        tier,
        shape,
        deviation=hits * value - trials,
        squares=hits * (value - 1) ** 2 + (trials - hits),
        fourth_powers=hits * (value - 1) ** 4 + (trials - hits),
        width=value if ranged else np.nan,
    )
    return simulate(kind, sums, tier, level)


def test_a_failure_rate_of_delta_is_rarely_refuted_and_one_of_two_delta_rarely_supported():
    assert np.sum(failing(0.05, delta=0.05) == REFUTED) <= most()
    assert np.sum(failing(0.1, delta=0.05) == SUPPORTED) <= most()


def test_instances_that_fail_at_unequal_rates_count_by_their_average():
    words = failing(np.array([0.2, 0, 0, 0]), delta=0.05)
    assert np.sum(words == REFUTED) <= most()


@pytest.mark.parametrize(("kind", "law"), [(Expectation(), gaussian), (Expectation("at most"), rare)])
def test_means_at_a_boundary_are_rarely_decided_wrongly(kind, law):
    spread = 0.05 if law is rare else np.array([0.1, 1, 1, 2])
    assert np.sum(law(kind, 0.0, spread) == REFUTED) <= most()
    assert np.sum(law(kind, TINY.tolerance, spread) == SUPPORTED) <= most()


LOG_SIZES = np.log([8.0, 32.0, 128.0])


@pytest.mark.parametrize("exponent", [-0.4, -0.6])
def test_exponents_at_the_margin_are_rarely_decided_either_way(exponent):
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(CLAIMS):
        logs = exponent * LOG_SIZES + 0.3 * rng.standard_normal((8, 3))
        _, interval = statistics.slope_interval(LOG_SIZES, logs, 0.05)
        wrong += statistics.decide_exponent(interval, -0.5, "equal", 0.1) != INCONCLUSIVE
    assert wrong <= most()


def test_effects_at_the_margin_are_rarely_decided():
    rng, kind, decided = np.random.default_rng(4), Effect(margin=0.5), 0
    every, none = np.ones(6, bool), np.zeros((6, 1))
    for measured, theory in rng.standard_normal((CLAIMS, 2, 6, 1)):
        sides = SideArrays(measured - 0.5, theory, *[none] * 4)
        verdict = kind.decide(Evaluation(sides, none, none > 0, none > 0), every, level=0.05)
        decided += verdict.verdict != INCONCLUSIVE
    assert stats.binom.ppf(1e-3, CLAIMS, 0.05) <= decided <= most()


STANDARD, SOME = TIERS["standard"], 200


@pytest.mark.parametrize("delta", [0.2, 0.05, 0.01])
def test_power_on_failure_rates_at_the_standard_budget(delta):
    assert np.all(failing(2 * delta, delta, STANDARD, SOME, LEVEL) == REFUTED)
    assert np.all(failing(delta / 2, delta, STANDARD, SOME, LEVEL) == SUPPORTED)


@pytest.mark.parametrize("relation", ["equal", "at most"])
def test_power_on_means_at_the_standard_budget(relation):
    """Against a mean of twice the theory, with relative deviations up to 9; and at 1, of twice the tolerance."""
    kind = Expectation(relation)
    for verdicts in (
        gaussian(kind, 1.0, 9.0, STANDARD, SOME, LEVEL),
        rare(kind, 1.0, 1 / 82, STANDARD, SOME, LEVEL),
        gaussian(kind, 2 * STANDARD.tolerance, 1.0, STANDARD, SOME, LEVEL),
    ):
        assert np.mean(verdicts == REFUTED) >= 0.99
    assert np.mean(gaussian(kind, 0.0, 1.0, STANDARD, SOME, LEVEL) == SUPPORTED) >= 0.99
    assert np.mean(rare(kind, 0.0, 0.2, STANDARD, SOME, LEVEL) == SUPPORTED) >= 0.99


@pytest.mark.parametrize("chance", [1e-5, 1e-4, 1e-3, 1e-2])
def test_what_is_rare_may_be_to_come(chance):
    """No draw, or few draws, of a rare event refute a mean of unknown range."""
    words = rare(Expectation(), 0.0, chance, level=1e-6, ranged=False)
    assert np.sum(words == REFUTED) == 0
    if chance < 1e-3:
        assert set(words) == {INCONCLUSIVE}


def test_components_share_the_level():
    """Of many true components the worst is no more often refuted than a single one."""
    rng, tier = np.random.default_rng(5), Tier("one", INSTANCES, (256,), 0.1, 0)
    shape = (400, INSTANCES, 50)
    deviation = 16 * rng.standard_normal(shape)
    squares = rng.chisquare(255, shape) + deviation**2 / 256
    refuted = 0
    for one, square in zip(deviation, squares, strict=True):
        sums = take(sums_of(tier, shape[1:], deviation=one, squares=square), 0)
        refuted += Expectation().decide(sums, np.ones(INSTANCES, bool), tier, level=0.05).verdict == REFUTED
    assert refuted <= most(claims=400)


def test_a_single_trial_decides_nothing():
    for width in (1.0, np.nan):
        sums = take(sums_of(Tier("one", 1, (1,), 0.1, 0), (1, 1), deviation=0.0, width=width), 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Expectation().decide(sums, np.ones(1, bool), TINY).verdict == INCONCLUSIVE
