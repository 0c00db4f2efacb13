"""Decisions without chance: both sides evaluated once per instance, and compared to rounding.

Shared by identities, bounds, and expectations whose outcomes are all enumerated.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from theory.kinds.kind import STATEMENT, Findings, case_verdict, unmet
from theory.measurements import Evaluation, SideArrays, TrialSums, largest_ratio, take
from theory.statistics import ROUNDING
from theory.verdict import INCONCLUSIVE, QUANTILES, REFUTED, SUPPORTED, CaseVerdict, Replay

if TYPE_CHECKING:
    import theory.instances
    import theory.runs

MIN_RESIDUAL_SHRINKAGE = 1e4
"""By what factor an identity's residual must shrink from float32 to float64: rounding does, a near-miss does not."""

Admissible = Bool[np.ndarray, " instances"]
Discrepancy = Callable[[Any], np.ndarray]
"""From an evaluation, or from sums over trials, to how much each [instance, component] contradicts the statement."""


def decide_equality(
    sides: Evaluation, in_float32: Evaluation | None, admissible: Admissible, *, method: str = "rounding"
) -> CaseVerdict:
    """Decide measured = theory, to rounding, on the admissible instances of a case.

    REFUTED where the largest residual exceeds what rounding explains, or a side is not finite. INCONCLUSIVE where the
    residual is hardly smaller in float64 than in float32: it may be a near-miss, and no rounding.

    Args:
        sides: evaluated in float64.
        in_float32: the same sides in float32; None leaves that comparison out.
        admissible: which instances met the hypotheses.
        method: what the verdict calls it.

    Returns:
        The verdict, whose ``measured`` is the largest residual relative to its scale, and whose ``theory`` is the
        largest that rounding explains.
    """
    if not admissible.any():
        return unmet(admissible, method=method)
    kept = take(sides, admissible)
    residual = float(np.max(abs(kept.deviation)))
    decision = SUPPORTED if residual <= ROUNDING and not kept.broken.any() else REFUTED
    if decision == SUPPORTED and in_float32 is not None:
        coarse = float(np.max(abs(take(in_float32, admissible).deviation)))
        if coarse != 0 and not coarse >= MIN_RESIDUAL_SHRINKAGE * residual:
            decision = INCONCLUSIVE
    return case_verdict(decision, admissible, method=method, measured=residual, theory=ROUNDING)


def decide_inequality(sides: Evaluation, admissible: Admissible, *, method: str = "rounding") -> CaseVerdict:
    """Decide measured <= theory, to rounding, on the admissible instances of a case.

    Args:
        sides: evaluated in float64.
        admissible: which instances met the hypotheses.
        method: what the verdict calls it.

    Returns:
        The verdict, with the medians of both sides and of their ratio; its resolution is the largest measured/theory.
    """
    if not admissible.any():
        return unmet(admissible, method=method)
    kept = take(sides, admissible)
    decision = REFUTED if kept.violated.any() or kept.broken.any() else SUPPORTED
    numbers = medians(kept.values, violated=np.asarray(kept.violated))
    return case_verdict(decision, admissible, method=method, resolution=largest_ratio(kept.values), **numbers)


def is_vacuous(sides: SideArrays) -> bool:
    """Whether the bound exceeds the trivial one, in the median of the entries for which a trivial one is known."""
    known = np.isfinite(sides.trivial)
    exceeds = (sides.theory > sides.trivial * (1 + 1e-9))[known]
    return bool(known.any()) and float(np.mean(exceeds)) > 0.5


def medians(sides: SideArrays, *, violated: np.ndarray | None = None) -> dict[str, Any]:
    """``measured`` and ``theory``, medians of both sides; and what :func:`looseness` says of their ratios.

    Args:
        sides: both sides.
        violated: where measured exceeds theory by more than rounding; elsewhere a bound is at least tight. None where
            this is not known.
    """
    measured, theory = np.asarray(sides.measured), np.asarray(sides.theory)
    bound = theory if violated is None else np.where(violated, theory, np.maximum(theory, measured))
    medians = {"measured": float(np.median(measured)), "theory": float(np.median(theory))}
    return medians | looseness(measured, bound)


def looseness(measured: np.ndarray, theory: np.ndarray) -> dict[str, Any]:
    """``looseness``, the median of theory/measured where measured > 0, and ``looseness_quantiles`` of these ratios.

    NaN and no quantiles where measured nowhere is > 0.

    Args:
        measured: the measured side.
        theory: the theory's; NaN where there is no ratio.

    Example:
        >>> looseness(np.array([1.0, 2.0, 0.0]), np.array([4.0, 2.0, 1.0]))["looseness"]
        2.5
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = theory / measured
    finite = ratio[np.isfinite(ratio) & (measured > 0)]
    if not finite.size:
        return {"looseness": np.nan, "looseness_quantiles": ()}
    quantiles = tuple(np.quantile(finite, QUANTILES).tolist())
    return {"looseness": float(np.median(finite)), "looseness_quantiles": quantiles}


def measure_enumerated(
    runs: "theory.runs.Runs",
    decide: Callable[[Evaluation, Evaluation | None, Admissible], CaseVerdict],
    discrepancy: Discrepancy,
    *,
    compare_float32: bool,
) -> Findings:
    """:func:`measure_group` on the groups whose outcomes are enumerated."""
    found = Findings.none(runs.statements)
    for group in runs.groups:
        if group.enumerable:
            found |= measure_group(runs, group, decide, discrepancy, compare_float32=compare_float32)
    return found


def measure_group(
    runs: "theory.runs.Runs",
    group: "theory.instances.Group",
    decide: Callable[[Evaluation, Evaluation | None, Admissible], CaseVerdict],
    discrepancy: Discrepancy,
    *,
    compare_float32: bool,
) -> Findings:
    """Decide the claim and its mutants on the cases of a group, from one evaluation per instance.

    Args:
        runs: the claim's programs.
        group: the cases.
        decide: from the sides of one case in float64 and in float32, and its admissible instances, to its verdict.
        discrepancy: how much each entry of the claim's own sides contradicts it.
        compare_float32: whether the sides are also evaluated in float32; else ``decide`` gets None.

    Returns:
        A verdict on every case, and the worst instance of the first case that refutes the claim.
    """
    sides = runs.evaluate(group)
    in_float32 = runs.evaluate(group, float32=True) if compare_float32 else None
    if not compare_float32:
        sides[STATEMENT] = runs.confirmed(group, sides[STATEMENT])
    found = {
        name: {
            case.name: decide(
                take(sides[name], case.rows),
                None if in_float32 is None else take(in_float32[name], case.rows),
                case.admissible,
            )
            for case in group.cases
        }
        for name in runs.statements
    }
    example = counterexample(group, found[STATEMENT], sides[STATEMENT], discrepancy, found_by="instance")
    return Findings(found, example)


def counterexample(
    group: "theory.instances.Group",
    verdicts: Mapping[str, CaseVerdict],
    sides: Evaluation | TrialSums,
    discrepancy: Discrepancy,
    *,
    found_by: str,
) -> Replay | None:
    """The worst instance of the first refuted case of a group; None where no case is refuted.

    Args:
        group: the cases.
        verdicts: case name -> verdict on the claim.
        sides: the claim's sides on all instances of the group, or their sums over trials.
        discrepancy: how much each entry contradicts the claim.
        found_by: what the replay says of how it was found.
    """
    for case in group.cases:
        if verdicts[case.name].verdict == REFUTED:
            here = take(sides, case.rows)
            row, component = worst_entry(discrepancy(here), here.broken, case.admissible)
            return group.replay(case, row, component, here.pair(row, component), found_by)
    return None


def worst_entry(discrepancy: np.ndarray, broken: np.ndarray, admissible: Admissible) -> tuple[int, int]:
    """The admissible instance and its component with the largest discrepancy; what is broken or nan is largest.

    Args:
        discrepancy: [instances, components].
        broken: where a number is not finite, same shape.
        admissible: which instances met the hypotheses.
    """
    discrepancy = np.where(np.asarray(broken) > 0, np.inf, np.nan_to_num(discrepancy, nan=np.inf))
    discrepancy = np.where(admissible[:, None], discrepancy, -np.inf)
    row, component = np.unravel_index(np.argmax(discrepancy), discrepancy.shape)
    return int(row), int(component)
