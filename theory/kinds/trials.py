"""Decisions by chance: trials in tiles, until every statement is decided or the tier's trials are spent.

Shared by expectations and probabilities.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from theory.kinds.exact import Admissible, Discrepancy, counterexample
from theory.kinds.kind import STATEMENT, Findings, case_verdict, limits
from theory.measurements import TrialSums
from theory.statistics import Interval
from theory.verdict import INCONCLUSIVE, REFUTED, CaseVerdict, Tier, combine

if TYPE_CHECKING:
    import theory.engine
    import theory.instances


class Judgement(NamedTuple):
    """What sums over trials say of each component.

    Attributes:
        decisions: [components].
        interval: confidence intervals, [components].
        worst: the component that the verdict on the case shows.
        method: how the intervals were made.
    """

    decisions: np.ndarray
    interval: Interval
    worst: int
    method: str


def level_per_interval(level: float, sums: TrialSums, tier: Tier) -> float:
    """The level of one interval, where the intervals of all components at all looks share a level.

    Args:
        level: what they share.
        sums: [instances, components].
        tier: its looks are counted.
    """
    return level / (sums.trials.shape[1] * len(tier.looks))


def count_trials(sums: TrialSums) -> np.ndarray:
    """Trials over all instances, [components]."""
    return (sums.trials + sums.broken).sum(axis=0)


def decide_case(judgement: Judgement, sums: TrialSums, admissible: Admissible, numbers: dict[str, Any]) -> CaseVerdict:
    """The verdict on a case: its worst component decides, and a trial that is not finite refutes.

    Args:
        judgement: of its components.
        sums: over trials on its admissible instances.
        admissible: which instances met the hypotheses.
        numbers: ``measured``, ``theory`` and ``looseness`` of the verdict.
    """
    broken = sums.broken.sum(axis=0) > 0
    return case_verdict(
        combine(np.where(broken, REFUTED, judgement.decisions)),
        admissible,
        method=judgement.method,
        trials=int(count_trials(sums).max()),
        interval=limits(judgement.interval, judgement.worst),
        **numbers,
    )


def measure_group(
    runs: "theory.engine.Runs",
    group: "theory.instances.Group",
    tier: Tier,
    decide: Callable[[TrialSums, Admissible, Tier], CaseVerdict],
    discrepancy: Discrepancy,
    *,
    float32: bool,
    earlier: Findings,
) -> Findings:
    """Run trials on the cases of a group until the claim and its mutants are decided in each, or the tier is spent.

    A mutant is decided where one case refutes it. A case stops at the first look at which more of its trials could
    decide nothing.

    Args:
        runs: the claim's programs.
        group: the cases.
        tier: its looks say after how many trials per instance the intervals are looked at.
        decide: from sums over the trials of one case, and its admissible instances, to its verdict.
        discrepancy: how much each entry of the claim's own sums contradicts it.
        float32: whether trials run in float32.
        earlier: what other groups of the claim have found.

    Returns:
        A verdict on every case, and the worst instance of the first case that refutes the claim.
    """
    found = Findings.none(runs.statements)
    sums: dict[str, dict[str, TrialSums]] = {}
    done = 0
    for look in tier.looks:
        target = runs.whole_tiles(look)
        if target == done:
            continue
        enough = done * runs.instances_per_case * runs.sampled_cases >= tier.min_trials
        for case in group.cases:
            if enough and case.name in sums and not _pending(earlier | found, case.name):
                continue
            more = runs.trials(group, case, first=done, count=target - done, float32=float32)
            sums[case.name] = jax.tree.map(_add, sums[case.name], more) if case.name in sums else more
            verdicts = {name: decide(sums[case.name][name], case.admissible, tier) for name in runs.statements}
            found |= Findings({name: {case.name: word} for name, word in verdicts.items()})
        done = target
    own = [sums[case.name][STATEMENT] for case in group.cases]
    together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *own)
    example = counterexample(group, found.cases[STATEMENT], together, discrepancy, found_by="trials")
    return Findings(found.cases, example)


def _pending(found: Findings, case: str) -> bool:
    """Whether more trials of this case could still decide the claim, or a mutant which no case has refuted."""
    return any(
        verdicts[case].verdict == INCONCLUSIVE
        for name, verdicts in found.cases.items()
        if name == STATEMENT or found.decision(name) != REFUTED
    )


def _add(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The sum. Deviations from a theory of 0 may overflow to infinity, which is right."""
    with np.errstate(over="ignore"):
        return total + more
