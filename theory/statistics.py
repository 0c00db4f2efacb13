"""Intervals and decisions: plain float64 numpy on summaries, vectorised over leading axes.

A decision at level L is wrong with probability at most L, over all of its looks and components: every
interval below is taken at ``level / (looks * components)``.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED

Relation = Literal["equal", "at most"]


class Interval(NamedTuple):
    """A two-sided confidence interval, an array a side."""

    low: np.ndarray
    high: np.ndarray


def normal_interval(mean: np.ndarray, standard_error: np.ndarray, level: float) -> Interval:
    """mean ± z se, z the normal quantile at level/2: asymptotic in the number of trials."""
    half = stats.norm.isf(level / 2) * standard_error
    return Interval(mean - half, mean + half)


def bernstein_interval(
    count: np.ndarray, mean: np.ndarray, variance: np.ndarray, width: np.ndarray, level: float
) -> Interval:
    """The empirical Bernstein interval: mean ± (√(2 v ℓ/n) + 7 R ℓ/(3(n−1))), ℓ = log(4/level).

    Valid at every n for independent draws, not necessarily alike, whose values lie in an interval of length
    R = ``width``; v is the sample variance. Source: Maurer and Pontil 2009, Theorem 11, both sides.
    """
    log = np.log(4 / level)
    half = np.sqrt(2 * variance * log / count) + 7 * width * log / (3 * np.maximum(count - 1, 1))
    return Interval(mean - half, mean + half)


def binomial_interval(failures: np.ndarray, trials: np.ndarray, level: float) -> Interval:
    """Clopper and Pearson's exact limits on a failure rate, level/2 a side."""
    low = np.where(failures > 0, stats.beta.ppf(level / 2, failures, trials - failures + 1), 0.0)
    high = np.where(failures < trials, stats.beta.isf(level / 2, failures + 1, trials - failures), 1.0)
    return Interval(low, high)


def slope_interval(log_sizes: np.ndarray, log_values: np.ndarray, level: float) -> tuple[float, Interval]:
    """Least-squares slopes of each row of [instances, sizes] on ``log_sizes``: their mean and Student's interval."""
    centred = log_sizes - log_sizes.mean()
    return mean_interval(log_values @ centred / (centred @ centred), level)


def mean_interval(values: np.ndarray, level: float) -> tuple[float, Interval]:
    """Mean of a sample [n] and Student's interval at n − 1 degrees of freedom; infinite at n < 2."""
    mean = float(values.mean())
    if values.size < 2:
        return mean, Interval(np.array(-np.inf), np.array(np.inf))
    half = stats.t.isf(level / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return mean, Interval(np.array(mean - half), np.array(mean + half))


def decide_mean(interval: Interval, relation: Relation, tolerance: float, rounding: float) -> np.ndarray:
    """Verdicts on E z = 0 (or E z <= 0) from intervals of E z.

    REFUTED where the interval, widened by ``rounding``, excludes the statement; SUPPORTED where the statement
    holds within ``tolerance`` at the interval's far end; else INCONCLUSIVE.
    """
    low, high = interval.low - rounding, interval.high + rounding
    if relation == "equal":
        refuted, supported = (low > 0) | (high < 0), (low >= -tolerance) & (high <= tolerance)
    else:
        refuted, supported = low > 0, high <= tolerance
    return np.where(refuted, REFUTED, np.where(supported, SUPPORTED, INCONCLUSIVE))


EXCESS = 1.0
"""By what part of δ a failure rate may exceed it and pass: below 2δ."""


def decide_rate_of_failure(interval: Interval, delta: np.ndarray) -> np.ndarray:
    """REFUTED where the lower limit exceeds δ, SUPPORTED where the upper limit is below 2δ."""
    supported = interval.high < (1 + EXCESS) * delta
    return np.where(interval.low > delta, REFUTED, np.where(supported, SUPPORTED, INCONCLUSIVE))


def decide_exponent(interval: Interval, exponent: float, relation: Relation, margin: float) -> str:
    """Verdict on a measured exponent: REFUTED where the interval excludes exponent ± margin (one-sided for
    "at most"), SUPPORTED where it lies within, else INCONCLUSIVE."""
    low, high = float(interval.low), float(interval.high)
    above, below = high <= exponent + margin, relation == "at most" or low >= exponent - margin
    if low > exponent + margin or (relation == "equal" and high < exponent - margin):
        return REFUTED
    return SUPPORTED if above and below else INCONCLUSIVE


def combine(verdicts: list[str]) -> str:
    """One verdict from those of cases or components: the worst news first, UNMET only where all are."""
    for word in (REFUTED, INCONCLUSIVE, SUPPORTED):
        if word in verdicts:
            return word
    return next((verdict for verdict in verdicts if verdict != "UNMET"), "UNMET")
