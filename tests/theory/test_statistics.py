"""Intervals cover, and verdicts are wrong no more often than their level says.

The decisions of the verifier are simulated with its own code at level 0.05, on 2,000 claims that lie exactly at
the boundary between two verdicts, where errors are most frequent.
"""

import warnings

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from theory import rules, statistics
from theory.claim import Case, Claim
from theory.engine import Assessed, Flat, Totals, taken
from theory.kinds import Effect, Expectation, Probability
from theory.statistics import Interval, combine
from theory.verdict import INCONCLUSIVE, LEVEL, REFUTED, SUPPORTED, TIERS, Tier

few = settings(deadline=None, derandomize=True, max_examples=50)
CLAIMS, INSTANCES = 2000, 4
TINY = Tier("tiny", instances=INSTANCES, looks=(64, 256, 1024), tolerance=0.1, search_steps=0)


def most(level=0.05, claims=CLAIMS):
    """Errors that are no evidence of a rate above the level."""
    return stats.binom.isf(1e-3, claims, level)


# --- Intervals


def test_binomial_limits_against_known_values():
    low, high = statistics.binomial_interval(np.array([0, 5, 10]), np.array(10), 0.05)
    np.testing.assert_allclose(low, [0, 0.187086, 0.691503], atol=1e-6)
    np.testing.assert_allclose(high, [0.308497, 0.812914, 1], atol=1e-6)


@few
@given(trials=st.integers(1, 10**6), share=st.floats(0, 1), level=st.sampled_from([0.5, 0.05, 1e-7, 1e-9]))
def test_binomial_limits_invert_the_binomial_law(trials, share, level):
    failures = int(share * trials)
    low, high = statistics.binomial_interval(np.array([failures]), np.array([trials]), level)
    assert 0 <= low[0] <= failures / trials <= high[0] <= 1
    if failures:
        assert stats.binom.sf(failures - 1, trials, low[0]) == pytest.approx(level / 2, rel=1e-5)
    if failures < trials:
        assert stats.binom.cdf(failures, trials, high[0]) == pytest.approx(level / 2, rel=1e-5)


@pytest.mark.parametrize("trials", [1, 2, 7, 40, 1000])
def test_binomial_interval_covers_exactly(trials):
    """No simulation: the coverage at p is a sum over the trials + 1 outcomes."""
    failures, p = np.arange(trials + 1), np.linspace(0, 1, 201)[:, None]
    low, high = statistics.binomial_interval(failures, np.full(trials + 1, trials), 0.05)
    covered = np.sum(stats.binom.pmf(failures, trials, p) * ((low <= p) & (p <= high)), axis=1)
    assert covered.min() >= 0.95 - 1e-12


SKEWED = {  # a draw of any shape in [0, 1], and its mean
    "rare": (lambda rng, shape: (rng.random(shape) < 0.02) * 1.0, 0.02),
    "nearly always": (lambda rng, shape: (rng.random(shape) < 0.97) * 1.0, 0.97),
    "beta": (lambda rng, shape: rng.beta(0.1, 2.0, shape), 0.1 / 2.1),
    "cube": (lambda rng, shape: rng.random(shape) ** 3, 0.25),
}


@pytest.mark.parametrize("name", SKEWED)
@pytest.mark.parametrize("count", [2, 30, 500])
def test_bernstein_interval_covers_skewed_bounded_means_at_every_size(name, count):
    draw, mean = SKEWED[name]
    values = 7 * draw(np.random.default_rng(count), (CLAIMS, count)) - 3
    low, high = statistics.bernstein_interval(
        np.array(count), values.mean(axis=1), values.var(axis=1, ddof=1), np.array(7.0), 0.05
    )
    assert np.sum((7 * mean - 3 < low) | (high < 7 * mean - 3)) <= most()


def test_bernstein_interval_covers_where_the_asymptotic_one_does_not():
    """Thirty draws of a rare event, mostly none: the sample's deviation is 0 and the normal interval a point."""
    draw, mean = SKEWED["rare"]
    values = draw(np.random.default_rng(0), (CLAIMS, 30))
    low, high = statistics.normal_interval(values.mean(axis=1), values.std(axis=1, ddof=1) / 30**0.5, 0.05)
    assert np.sum((mean < low) | (high < mean)) > CLAIMS / 2


def test_bernstein_interval_is_its_formula():
    low, high = statistics.bernstein_interval(np.array(101), np.array(2.0), np.array(4.0), np.array(3.0), 0.04)
    half = np.sqrt(8 * np.log(100) / 101) + 7 * 3 * np.log(100) / 300
    assert low == pytest.approx(2 - half) and high == pytest.approx(2 + half)


def test_normal_interval_has_its_level():
    means = np.random.default_rng(1).standard_normal(CLAIMS) / 3
    low, high = statistics.normal_interval(means, np.array(1 / 3), 0.05)
    missed = np.sum((low > 0) | (high < 0))
    assert stats.binom.ppf(1e-3, CLAIMS, 0.05) <= missed <= most()


def test_students_interval_has_its_level_at_five_values():
    rows = np.random.default_rng(2).standard_normal((CLAIMS, 5)) * 3 + 1
    missed = 0
    for row in rows:
        mean, (low, high) = statistics.mean_interval(row, 0.05)
        assert mean == row.mean()
        missed += low > 1 or high < 1
    assert stats.binom.ppf(1e-3, CLAIMS, 0.05) <= missed <= most()


def test_one_value_has_no_interval():
    assert statistics.mean_interval(np.array([2.0]), 0.05) == (2, Interval(np.array(-np.inf), np.array(np.inf)))


LOG_SIZES = np.log([8.0, 32.0, 128.0])


def test_slopes_of_exact_power_laws():
    exponents = np.array([-0.5, -0.7, -0.3])
    slope, (low, high) = statistics.slope_interval(LOG_SIZES, 2 + exponents[:, None] * LOG_SIZES, 0.05)
    assert slope == pytest.approx(-0.5)
    half = stats.t.isf(0.025, 2) * 0.2 / 3**0.5
    assert (low, high) == (pytest.approx(-0.5 - half), pytest.approx(-0.5 + half))


# --- Decisions


def test_decisions_on_means():
    low, high = np.array([-0.2, -0.05, 0.01, -0.3, -0.5, np.nan]), np.array([0.05, 0.05, 0.3, -0.2, 0.5, np.nan])
    words = statistics.decide_mean(Interval(low, high), "equal", 0.1, 0.0)
    assert list(words) == [INCONCLUSIVE, SUPPORTED, REFUTED, REFUTED, INCONCLUSIVE, INCONCLUSIVE]
    words = statistics.decide_mean(Interval(low, high), "at most", 0.1, 0.0)
    assert list(words) == [SUPPORTED, SUPPORTED, REFUTED, SUPPORTED, INCONCLUSIVE, INCONCLUSIVE]


def test_rounding_widens_the_interval_both_ways():
    points = Interval(np.array([1e-6, -1e-6, 0.1]), np.array([1e-6, -1e-6, 0.1]))
    assert list(statistics.decide_mean(points, "equal", 0.1, 1e-5)) == [SUPPORTED, SUPPORTED, REFUTED]
    assert list(statistics.decide_mean(points, "equal", 0.1, 0.0)) == [REFUTED, REFUTED, REFUTED]


def test_truth_first_a_deviation_within_the_tolerance_that_is_certain_refutes():
    certain = Interval(np.array(0.04), np.array(0.06))
    assert statistics.decide_mean(certain, "equal", 0.1, 0.0) == REFUTED


def test_decisions_on_failure_rates():
    low, high = np.array([0.0, 0.0, 0.051, 0.05, 0.0]), np.array([0.099, 0.1, 0.2, 0.09, 0.2])
    words = statistics.decide_rate_of_failure(Interval(low, high), np.array(0.05))
    assert list(words) == [SUPPORTED, INCONCLUSIVE, REFUTED, SUPPORTED, INCONCLUSIVE]


@pytest.mark.parametrize(
    ("low", "high", "equal", "at_most"),
    [
        (-0.55, -0.45, SUPPORTED, SUPPORTED),
        (-1.2, -1.1, REFUTED, SUPPORTED),  # steeper than an upper rate
        (-0.3, -0.2, REFUTED, REFUTED),
        (-0.7, -0.55, INCONCLUSIVE, SUPPORTED),
        (-0.45, -0.3, INCONCLUSIVE, INCONCLUSIVE),
        (-np.inf, np.inf, INCONCLUSIVE, INCONCLUSIVE),
    ],
)
def test_decisions_on_exponents(low, high, equal, at_most):
    interval = Interval(np.array(low), np.array(high))
    assert statistics.decide_exponent(interval, -0.5, "equal", 0.1) == equal
    assert statistics.decide_exponent(interval, -0.5, "at most", 0.1) == at_most


def test_worst_news_first():
    words = ["UNMET", "VACUOUS", SUPPORTED, INCONCLUSIVE, REFUTED]
    for worst, word in enumerate(words):
        assert combine(words[: worst + 1]) == combine(words[worst::-1]) == word
    assert combine(["UNMET", "UNMET"]) == combine([]) == "UNMET"


# --- Wrong verdicts and power, through the rules


def claim(kind):
    return Claim("toy/claim", "", "", (), kind, (Case("one", lambda rng, data: rng),), lambda instance, key: {})


def simulate(kind, totals, tier, level):
    """Verdicts on claims whose ``totals`` at every look are leaves [looks, claims, instances, 1]."""
    subject, admissible, words = claim(kind), np.ones(tier.instances, bool), []
    for index in range(totals.trials.shape[1]):
        for look in range(len(tier.looks)):
            sums = taken(totals, (look, index))
            word = rules.sampled(subject, sums, admissible, tier, level).verdict
            if word != INCONCLUSIVE:
                break
        words.append(word)
    return np.array(words)


def added(rng_sums, tier):
    """Sums at the looks, from a function that draws those of so many trials."""
    return np.cumsum([rng_sums(more) for more in np.diff([0, *tier.looks])], axis=0)[..., None]


def totals_of(tier, shape, *, failures=0.0, deviation=0.0, square=0.0, fourth=0.0, delta=np.nan, width=np.nan):
    """Totals of trials of theory and scale 1."""
    trials = np.broadcast_to(np.array(tier.looks, float)[:, None, None, None], (len(tier.looks), *shape, 1))
    sums = (np.broadcast_to(leaf, trials.shape) for leaf in (0.0, failures, deviation, square, fourth, 0.0))
    flat = Flat(trials + deviation, trials, trials, trials * np.nan, trials * width, trials * delta)
    return Totals(trials, *sums, flat)


def failing(rates, delta, tier=TINY, claims=CLAIMS, level=0.05, seed=0):
    """Verdicts on P(failure) <= delta, where instances fail at the given rates."""
    rng, shape = np.random.default_rng(seed), (claims, tier.instances)
    failures = added(lambda trials: rng.binomial(trials, np.broadcast_to(rates, shape)), tier)
    return simulate(Probability(), totals_of(tier, shape, failures=failures, delta=delta), tier, level)


def gaussian(kind, mean, deviations, tier=TINY, claims=CLAIMS, level=0.05, seed=0):
    """Verdicts on E z = 0 or E z <= 0, where z is normal: its sum, and independently its squares, are drawn."""
    rng, shape = np.random.default_rng(seed), (claims, tier.instances)

    def sums(trials):
        total = mean * trials + np.sqrt(trials) * deviations * rng.standard_normal(shape)
        return np.stack([total, deviations**2 * rng.chisquare(trials - 1, shape) + total**2 / trials])

    both = added(sums, tier)
    return simulate(kind, totals_of(tier, shape, deviation=both[:, 0], square=both[:, 1]), tier, level)


def rare(kind, mean, chance, tier=TINY, claims=CLAIMS, level=0.05, seed=0, *, ranged=True):
    """The same where z + 1 is (1 + mean)/chance with that chance, else 0: skewed, of known range if ``ranged``."""
    rng, shape = np.random.default_rng(seed), (claims, tier.instances)
    hits, value = added(lambda trials: rng.binomial(trials, chance, shape), tier), (1 + mean) / chance
    trials = np.array(tier.looks, float)[:, None, None, None]
    totals = totals_of(
        tier,
        shape,
        deviation=hits * value - trials,
        square=hits * (value - 1) ** 2 + (trials - hits),
        fourth=hits * (value - 1) ** 4 + (trials - hits),
        width=value if ranged else np.nan,
    )
    return simulate(kind, totals, tier, level)


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


@pytest.mark.parametrize("exponent", [-0.4, -0.6])
def test_exponents_at_the_margin_are_rarely_decided_either_way(exponent):
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(CLAIMS):
        logs = exponent * LOG_SIZES + 0.3 * rng.standard_normal((8, 3))
        _, interval = statistics.slope_interval(LOG_SIZES, logs, 0.05)
        wrong += statistics.decide_exponent(interval, -0.5, "equal", 0.1) != INCONCLUSIVE
    assert wrong <= most()


def test_effects_at_the_margin_are_rarely_decided(monkeypatch):
    monkeypatch.setattr(rules, "EFFECT_LEVEL", 0.05)
    rng, subject, wrong = np.random.default_rng(4), claim(Effect(margin=0.5)), 0
    none = np.zeros((6, 1))
    for arms in rng.standard_normal((CLAIMS, 2, 6, 1)):
        measured, theory = arms - np.array([0.5, 0])[:, None, None]
        sides = Assessed(Flat(measured, theory, *[none] * 4), none, none > 0, none > 0)
        wrong += rules.effect(subject, sides, np.ones(6, bool)).verdict != INCONCLUSIVE
    assert stats.binom.ppf(1e-3, CLAIMS, 0.05) <= wrong <= most()


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
    rng, tier, kind = np.random.default_rng(5), Tier("one", INSTANCES, (256,), 0.1, 0), claim(Expectation())
    shape = (400, INSTANCES, 50)
    sums = 16 * rng.standard_normal(shape)
    squares = rng.chisquare(255, shape) + sums**2 / 256
    trials, nothing = np.full(shape[1:], 256.0), np.zeros(shape[1:])
    nan = np.full(shape[1:], np.nan)
    words = [
        rules.sampled(
            kind,
            Totals(
                trials, nothing, nothing, one, square, nothing, nothing, Flat(trials, trials, trials, nan, nan, nan)
            ),
            np.ones(INSTANCES, bool),
            tier,
            level=0.05,
        ).verdict
        for one, square in zip(sums, squares, strict=True)
    ]
    assert words.count(REFUTED) <= most(claims=400)


def test_a_single_trial_decides_nothing():
    for width in (1.0, np.nan):
        totals = totals_of(Tier("one", 1, (1,), 0.1, 0), (1, 1), deviation=0.0, width=width)
        one = jax.tree.map(lambda leaf: leaf[0, 0], totals)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert rules.sampled(claim(Expectation()), one, np.ones(1, bool), TINY).verdict == INCONCLUSIVE
