"""Intervals cover as often as their level says, and decisions follow from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from theory import statistics
from theory.statistics import Interval
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED

few = settings(deadline=None, derandomize=True, max_examples=50)
SAMPLES = 2000


MOST = stats.binom.isf(1e-3, SAMPLES, 0.05)
"""Errors that are no evidence of a rate above 0.05."""


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
    values = 7 * draw(np.random.default_rng(count), (SAMPLES, count)) - 3
    low, high = statistics.bernstein_interval(
        np.array(count), values.mean(axis=1), values.var(axis=1, ddof=1), np.array(7.0), 0.05
    )
    assert np.sum((7 * mean - 3 < low) | (high < 7 * mean - 3)) <= MOST


def test_bernstein_interval_covers_where_the_asymptotic_one_does_not():
    """Thirty draws of a rare event, mostly none: the sample's deviation is 0 and the normal interval a point."""
    draw, mean = SKEWED["rare"]
    values = draw(np.random.default_rng(0), (SAMPLES, 30))
    low, high = statistics.normal_interval(values.mean(axis=1), values.std(axis=1, ddof=1) / 30**0.5, 0.05)
    assert np.sum((mean < low) | (high < mean)) > SAMPLES / 2


def test_bernstein_interval_is_its_formula():
    low, high = statistics.bernstein_interval(np.array(101), np.array(2.0), np.array(4.0), np.array(3.0), 0.04)
    half = np.sqrt(8 * np.log(100) / 101) + 7 * 3 * np.log(100) / 300
    assert low == pytest.approx(2 - half) and high == pytest.approx(2 + half)


def test_normal_interval_has_its_level():
    means = np.random.default_rng(1).standard_normal(SAMPLES) / 3
    low, high = statistics.normal_interval(means, np.array(1 / 3), 0.05)
    missed = np.sum((low > 0) | (high < 0))
    assert stats.binom.ppf(1e-3, SAMPLES, 0.05) <= missed <= MOST


def test_students_interval_has_its_level_at_five_values():
    rows = np.random.default_rng(2).standard_normal((SAMPLES, 5)) * 3 + 1
    missed = 0
    for row in rows:
        mean, (low, high) = statistics.mean_interval(row, 0.05)
        assert mean == row.mean()
        missed += low > 1 or high < 1
    assert stats.binom.ppf(1e-3, SAMPLES, 0.05) <= missed <= MOST


@pytest.mark.parametrize("signs", [np.ones(64), np.where(np.arange(64) % 2, 1, -1)], ids=["alike", "opposite"])
@pytest.mark.parametrize(("size", "most"), [(0.3, 0.37), (0.05, 0.15), (0.0, 0.14)])
def test_the_limit_of_what_an_average_hides_covers_it_and_is_close(signs, size, most):
    """Whatever the signs of the means: 50 normal trials of each of 64 instances, in 2,000 columns."""
    rng, trials = np.random.default_rng(3), np.full((64, SAMPLES), 50)
    mean = size * signs[:, None] + rng.standard_normal(trials.shape) / 50**0.5
    variance = rng.chisquare(49, trials.shape) / 49
    limit = statistics.root_mean_square_limit(trials, mean, variance, 0.05)
    assert (limit < size).sum() <= MOST and np.median(limit) < most
    assert np.isinf(statistics.root_mean_square_limit(np.ones((2, 1)), mean[:2, :1], variance[:2, :1], 0.05)).all()


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
    words = statistics.decide_failure_rate(Interval(low, high), np.array(0.05))
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
