"""Confidence intervals and the decisions they allow: float64 NumPy on summaries, vectorised over leading axes.

A decision at level L is wrong with probability at most L, over all of its looks and components: every
interval is taken at ``level / (looks * components)``.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy import special  # scipy.stats has the same quantiles and takes a second to import

from sketchprune._intervals import student_half_width
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, Decision

Relation = Literal["equal", "at most"]
Numbers = Real[np.ndarray, "..."] | float | int
"""An array of any shape, or one number."""

ROUNDING_UNITS = 4096
"""Relative error that rounding explains in computations of the size that claims do, in units of the dtype's eps."""
ROUNDING = ROUNDING_UNITS * float(np.finfo(np.float64).eps)
"""The same in float64."""
FAILURE_RATE_TOLERANCE = 1.0
"""A failure rate of at most (1 + this)·δ passes: below 2δ."""


class Interval(NamedTuple):
    """A two-sided confidence interval: arrays of one shape, or two numbers.

    Attributes:
        low: lower end.
        high: upper end.
    """

    low: np.ndarray
    high: np.ndarray


def normal_interval(mean: Numbers, standard_error: Numbers, level: float) -> Interval:
    """The interval mean ± z·se, where z is the normal quantile at level/2.

    It is asymptotic in the number of trials.

    Args:
        mean: sample means, any shape.
        standard_error: their standard errors, same shape.
        level: probability that the interval misses the mean, both sides together.

    Returns:
        The two ends, shaped like ``mean``.
    """
    half = -special.ndtri(level / 2) * standard_error
    return Interval(mean - half, mean + half)


def bernstein_interval(count: Numbers, mean: Numbers, variance: Numbers, width: Numbers, level: float) -> Interval:
    """The empirical Bernstein interval: mean ± (√(2vℓ/n) + 7Rℓ/(3(n − 1))) with ℓ = log(4/level).

    It holds at every n for independent draws, not necessarily alike, whose values lie in an interval of length R.
    Source: Maurer and Pontil 2009, Theorem 11, both sides.

    Args:
        count: number of draws n, any shape that broadcasts against ``mean``.
        mean: sample means, any shape.
        variance: sample variances v.
        width: length R of an interval that holds all values.
        level: probability that the interval misses the mean, both sides together.

    Returns:
        The two ends, shaped like ``mean``.
    """
    log = np.log(4 / level)
    half = np.sqrt(2 * variance * log / count) + 7 * width * log / (3 * np.maximum(np.subtract(count, 1), 1))
    return Interval(mean - half, mean + half)


def binomial_interval(failures: Numbers, trials: Numbers, level: float) -> Interval:
    """Clopper and Pearson's exact limits on a failure rate, level/2 on each side.

    Args:
        failures: number of failures, any shape.
        trials: number of trials, same shape or one number.
        level: probability that the interval misses the rate, both sides together.

    Returns:
        The two ends, shaped like ``failures``.

    Example:
        >>> low, high = binomial_interval(np.array([0, 10]), 10, 0.05)
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.0, 0.692], [0.308, 1.0])
    """
    failures, trials = np.asarray(failures), np.asarray(trials)
    low = np.where(failures > 0, special.betaincinv(failures, trials - failures + 1, level / 2), 0.0)
    high = np.where(failures < trials, special.betainccinv(failures + 1, trials - failures, level / 2), 1.0)
    return Interval(low, high)


def root_mean_square_limit(
    trials: Real[np.ndarray, "instances ..."],
    mean: Float[np.ndarray, "instances ..."],
    variance: Float[np.ndarray, "instances ..."],
    level: float,
) -> np.ndarray:
    """An upper limit of the root mean square of E z_i over instances i: what their average may hide.

    It is the largest B with B² − U ≤ √(2 log(1/level) (v + 4 B² max_i(variance_i/n_i)/I)), where

    - U = (1/I) Σ_i (mean_i² − variance_i/n_i), the average product of two different trials of an instance, estimates B²
      = (1/I) Σ_i (E z_i)² without bias;
    - v = Σ_i 2 variance_i²/(n_i(n_i − 1))/I²; the bracket bounds the variance of U.

    The limit is asymptotic in the number of trials.

    Args:
        trials: number of trials n_i, instances first.
        mean: sample means.
        variance: sample variances.
        level: probability that the limit lies below B.

    Returns:
        The limit, without the axis of the instances; infinite where an instance has a single trial.

    Example:
        >>> opposite = np.array([[0.5], [-0.5]])
        >>> root_mean_square_limit(np.full((2, 1), 100), opposite, np.full((2, 1), 1e-4), 0.01).round(3).tolist()
        [0.502]
    """
    instances = len(trials)
    squared_error = variance / trials
    estimate = (mean**2 - squared_error).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = 2 * (variance**2 / (trials * (trials - 1.0))).sum(axis=0) / instances**2
    squared_quantile = -2 * np.log(level)
    cross = 4 * squared_quantile * squared_error.max(axis=0) / instances
    discriminant = np.maximum(cross**2 / 4 + estimate * cross + squared_quantile * spread, 0)
    limit = np.sqrt(np.maximum(estimate + cross / 2 + np.sqrt(discriminant), 0))
    return np.where((trials > 1).all(axis=0), limit, np.inf)


def slope_interval(
    log_sizes: Float[np.ndarray, " sizes"], log_values: Float[np.ndarray, "instances sizes"], level: float
) -> tuple[float, Interval]:
    """The mean of the least-squares slopes of the rows of ``log_values`` on ``log_sizes``, and Student's interval.

    Args:
        log_sizes: logarithms of the sizes.
        log_values: logarithms of what was measured at each size.
        level: probability that the interval misses the mean slope.

    Returns:
        The mean slope and its interval, infinite for one instance.
    """
    centred = log_sizes - log_sizes.mean()
    return mean_interval(log_values @ centred / (centred @ centred), level)


def mean_interval(values: Real[np.ndarray, " n"], level: float) -> tuple[float, Interval]:
    """The mean of a sample and Student's interval at n − 1 degrees of freedom.

    Args:
        values: the sample.
        level: probability that the interval misses the mean.

    Returns:
        The mean and its interval, which is infinite for n < 2.

    Example:
        >>> mean, (low, high) = mean_interval(np.array([1.0, 2.0, 3.0]), 0.05)
        >>> mean, round(float(low), 3), round(float(high), 3)
        (2.0, -0.484, 4.484)
    """
    mean = float(values.mean())
    if values.size < 2:
        return mean, Interval(np.array(-np.inf), np.array(np.inf))
    half = student_half_width(values.size, values.std(ddof=1), level)
    return mean, Interval(np.array(mean - half), np.array(mean + half))


def decide_mean(interval: Interval, relation: Relation, tolerance: float, rounding: float) -> np.ndarray:
    """Decisions on E z = 0, or on E z <= 0, from intervals of E z.

    REFUTED where the interval, widened by ``rounding``, excludes the statement; SUPPORTED where the statement
    holds within ``tolerance`` at the interval's far end; else INCONCLUSIVE.

    Args:
        interval: of E z, arrays of any shape.
        relation: "equal" or "at most".
        tolerance: deviation that still supports the statement.
        rounding: how far rounding may have moved the interval.

    Returns:
        Decisions, shaped like the interval.
    """
    low, high = interval.low - rounding, interval.high + rounding
    if relation == "equal":
        refuted = (low > 0) | (high < 0)
        supported = (low >= -tolerance) & (high <= tolerance)
    else:
        refuted = low > 0
        supported = high <= tolerance
    return _decisions(refuted, supported)


def decide_failure_rate(interval: Interval, delta: np.ndarray) -> np.ndarray:
    """Decisions on P(failure) <= δ: REFUTED where the lower limit exceeds δ, SUPPORTED where the upper is below 2δ.

    Args:
        interval: of the failure rate, arrays of any shape.
        delta: the failure rate that the statement allows, same shape.

    Returns:
        Decisions, shaped like the interval.

    Example:
        >>> rates = Interval(np.array([0.0, 0.0, 0.06]), np.array([0.08, 0.2, 0.2]))
        >>> decide_failure_rate(rates, np.full(3, 0.05)).tolist()
        ['SUPPORTED', 'INCONCLUSIVE', 'REFUTED']
    """
    return _decisions(interval.low > delta, interval.high < (1 + FAILURE_RATE_TOLERANCE) * delta)


def decide_exponent(interval: Interval, exponent: float, relation: Relation, margin: float) -> Decision:
    """The decision on a measured exponent.

    REFUTED where the interval excludes exponent ± margin (for "at most": where it lies above exponent + margin),
    SUPPORTED where it lies within, else INCONCLUSIVE.

    Args:
        interval: of the measured exponent, two numbers.
        exponent: the theory's.
        relation: "equal", or "at most" where the exponent is an upper rate.
        margin: how far an exponent may lie from the theory's and still support it.

    Returns:
        The decision.
    """
    low, high = float(interval.low), float(interval.high)
    two_sided = relation == "equal"
    if low > exponent + margin or (two_sided and high < exponent - margin):
        return REFUTED
    within = high <= exponent + margin and (not two_sided or low >= exponent - margin)
    return SUPPORTED if within else INCONCLUSIVE


def _decisions(refuted: np.ndarray | np.bool, supported: np.ndarray | np.bool) -> np.ndarray:
    """REFUTED before SUPPORTED, and INCONCLUSIVE where neither."""
    return np.where(refuted, REFUTED, np.where(supported, SUPPORTED, INCONCLUSIVE))
