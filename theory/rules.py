"""The verdict rules: from what the programs measured on one case to a verdict on it."""

from typing import Any

import numpy as np

from theory import statistics
from theory.claim import Claim, Effect, Expectation, Identity, Probability, Rate
from theory.engine import ROUNDING, Assessed, Flat, Totals, taken
from theory.statistics import combine
from theory.verdict import (  # fmt: skip
    EFFECT_LEVEL,
    INCONCLUSIVE,
    LEVEL,
    REFUTED,
    SUPPORTED,
    UNMET,
    VACUOUS,
    CaseVerdict,
    Tier,
)

SHRINK = 1e4
"""An identity's residual must shrink at least so much from float32 to float64: rounding does, a near-miss does not."""

CARRIED = 0.01
"""The part of the sum of squares that a hundred equal trials carry each: fewer are too few for a normal interval."""

SINGLE_ROUNDING = 1e-5
"""Relative rounding of a float32 trial, which does not average out over trials."""


def exact(claim: Claim, sides: Assessed, single: Assessed | None, admissible: np.ndarray) -> CaseVerdict:
    """Verdict on one case from both sides [instances, components] in float64 (``single``: in float32).

    Equality is to rounding; an inequality is violated when it is by more than rounding.
    """
    enumerated = isinstance(claim.kind, Expectation)
    report = _report(admissible, trials=0, method="enumerated" if enumerated else "rounding")
    if not admissible.any():
        return _unmet(report)
    kept: Assessed = taken(sides, admissible)
    if two_sided(claim):
        residual = float(np.max(abs(kept.deviation)))
        verdict = SUPPORTED if residual <= ROUNDING and not kept.broken.any() else REFUTED
        if verdict == SUPPORTED and single is not None:
            coarse = float(np.max(abs(taken(single, admissible).deviation)))
            verdict = SUPPORTED if coarse == 0 or coarse >= SHRINK * residual else INCONCLUSIVE
        return CaseVerdict(verdict, measured=residual, theory=ROUNDING, looseness=np.nan, **report)
    verdict = SUPPORTED
    if kept.violated.any() or kept.broken.any():
        verdict = REFUTED
    elif not enumerated and _vacuous(kept.flat):
        verdict = VACUOUS
    return CaseVerdict(verdict, **_medians(kept.flat), **report)


def sampled(claim: Claim, totals: Totals, admissible: np.ndarray, tier: Tier, level: float = LEVEL) -> CaseVerdict:
    """Verdict on one case from the sums [instances, components] of its trials so far."""
    if not admissible.any():
        return _unmet(_report(admissible, trials=0, method="none"))
    sums: Totals = taken(totals, admissible)
    count = (sums.trials + sums.broken).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = Flat(*(leaf / sums.trials for leaf in sums.flat))
    level = level / (count.size * len(tier.looks))
    report = _medians(means)
    if isinstance(claim.kind, Probability):
        failures = (sums.failures + sums.broken).sum(axis=0)
        delta = np.fmax.reduce(means.delta, axis=0)
        interval, method = statistics.binomial_interval(failures, count, level), "exact binomial"
        words = statistics.decide_rate_of_failure(interval, delta)
        worst = int(np.argmax(failures / count / delta))
        report |= {"measured": float(failures[worst] / count[worst]), "theory": float(delta[worst])}
    else:
        assert isinstance(claim.kind, Expectation)
        if sums.varying.any():
            raise ValueError(
                f"trial of {claim.id}: scale, which is |theory| where none is given, changes from trial to trial; "
                "takes one that chance does not decide, Sides(..., scale=...)"
            )
        interval, method = _mean_interval(sums, means, level)
        words = statistics.decide_mean(interval, claim.kind.relation, tier.tolerance, SINGLE_ROUNDING)
        worst = int(np.argmax(np.nan_to_num(np.maximum(abs(interval.low), abs(interval.high)), nan=np.inf)))
    verdict = combine(list(np.where(sums.broken.sum(axis=0) > 0, REFUTED, words)))
    if verdict == SUPPORTED and isinstance(claim.kind, Probability) and _vacuous(means):
        verdict = VACUOUS
    limits = (float(interval.low[worst]), float(interval.high[worst]))
    report |= _report(admissible, trials=int(count.max()), method=method) | {"interval": limits}
    return CaseVerdict(verdict, **report)


def rate(claim: Claim, values: np.ndarray, exponent: float, admissible: np.ndarray) -> CaseVerdict:
    """Verdict on one case from measured values [instances, sizes]: the slopes of their logarithms."""
    assert isinstance(claim.kind, Rate)
    report = _report(admissible, trials=int(admissible.sum()) * values.shape[1], method="slopes")
    if not admissible.any():
        return _unmet(report)
    kept = values[admissible]
    if not (np.isfinite(kept).all() and (kept > 0).all()):
        return CaseVerdict(REFUTED, measured=np.nan, theory=exponent, looseness=np.nan, **report)
    slope, interval = statistics.slope_interval(np.log(claim.kind.sizes), np.log(kept), EFFECT_LEVEL)
    verdict = statistics.decide_exponent(interval, exponent, claim.kind.relation, claim.kind.margin)
    report["interval"] = (float(interval.low), float(interval.high))
    return CaseVerdict(verdict, measured=slope, theory=exponent, looseness=np.nan, **report)


def effect(claim: Claim, sides: Assessed, admissible: np.ndarray) -> CaseVerdict:
    """Verdict on one case from paired arms [instances, components]: Student's interval of the differences."""
    assert isinstance(claim.kind, Effect)
    report = _report(admissible, trials=int(admissible.sum()), method="paired")
    if not admissible.any():
        return _unmet(report)
    kept: Assessed = taken(sides, admissible)
    difference, interval = statistics.mean_interval((kept.flat.measured - kept.flat.theory).mean(axis=1), EFFECT_LEVEL)
    low, high, margin = float(interval.low), float(interval.high), claim.kind.margin
    verdict = SUPPORTED if low >= -margin else REFUTED if high < -margin else INCONCLUSIVE
    verdict = REFUTED if kept.broken.any() else verdict
    report["interval"] = (low, high)
    return CaseVerdict(verdict, measured=difference, theory=-margin, looseness=np.nan, **report)


def tolerance(claim: Claim, tier: Tier) -> float:
    """The tolerance that a verdict on the claim was made with."""
    if isinstance(claim.kind, Expectation):
        return tier.tolerance
    if isinstance(claim.kind, Probability):
        return statistics.EXCESS
    return claim.kind.margin if isinstance(claim.kind, Rate | Effect) else ROUNDING


def two_sided(claim: Claim) -> bool:
    """Whether the statement is an equality."""
    return isinstance(claim.kind, Identity) or getattr(claim.kind, "relation", "at most") == "equal"


def worst_instance(claim: Claim, sides: Assessed | Totals, admissible: np.ndarray) -> tuple[int, int]:
    """The admissible instance, and its component, that contradict the statement most."""
    badness = sides.deviation
    if isinstance(sides, Totals):
        badness = sides.failures if isinstance(claim.kind, Probability) else sides.deviation
    badness = abs(badness) if two_sided(claim) else np.asarray(badness)
    badness = np.where(np.asarray(sides.broken) > 0, np.inf, np.nan_to_num(badness, nan=np.inf))
    badness = np.where(admissible[:, None], badness, -np.inf)
    row, column = np.unravel_index(np.argmax(badness), badness.shape)
    return int(row), int(column)


def _report(admissible: np.ndarray, trials: int, method: str) -> dict[str, Any]:
    return {
        "trials": trials,
        "instances": len(admissible),
        "admissible": int(admissible.sum()),
        "interval": None,
        "method": method,
    }


def _unmet(report: dict[str, Any]) -> CaseVerdict:
    return CaseVerdict(UNMET, measured=np.nan, theory=np.nan, looseness=np.nan, **report)


def _mean_interval(sums: Totals, means: Flat, level: float) -> tuple[statistics.Interval, str]:
    """Interval of the deviation's mean over instances, per component."""
    with np.errstate(invalid="ignore", divide="ignore"):
        trials, mean = sums.trials.sum(axis=0), (sums.deviation / sums.trials).mean(axis=0)
        width = (means.width / means.scale).max(axis=0)
        if np.isfinite(width).all():
            variance = np.maximum((sums.square.sum(axis=0) - trials * mean**2) / (trials - 1), 0)
            return statistics.bernstein_interval(trials, mean, variance, width, level), "empirical Bernstein"
        within = np.maximum(sums.square - sums.deviation**2 / sums.trials, 0) / (sums.trials - 1)
        error = np.sqrt((within / sums.trials).sum(axis=0)) / len(sums.trials)
        # Nothing is known yet where a few trials carry the squares, or all say the same: what is rare may be to come.
        few = (sums.fourth.sum(axis=0) > CARRIED * sums.square.sum(axis=0) ** 2) | ((error == 0) & (mean != 0))
        return statistics.normal_interval(mean, np.where(few, np.inf, error), level), "asymptotic"


def _vacuous(sides: Flat) -> bool:
    """In the median instance the bound exceeds the trivial one."""
    known = np.isfinite(sides.trivial)
    return bool(known.any()) and float(np.mean((sides.theory > sides.trivial * (1 + 1e-9))[known])) > 0.5


def _medians(sides: Flat) -> dict[str, Any]:
    """Medians of the measured side, of the theory's, and of their ratio theory/measured (the looseness)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(sides.theory) / np.asarray(sides.measured)
    finite = ratio[np.isfinite(ratio)]
    looseness = float(np.median(finite)) if finite.size else np.nan
    return {
        "measured": float(np.median(sides.measured)),
        "theory": float(np.median(sides.theory)),
        "looseness": looseness,
    }
