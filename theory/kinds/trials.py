"""Decisions by chance: trials in tiles, until every statement is decided or the tier's trials are spent.

Shared by expectations and probabilities. Here the trials of all instances of a case are judged together; what such an
average may hide is looked for in :mod:`theory.kinds.retrials`.
"""

import abc
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from theory.kinds.exact import Admissible, counterexample
from theory.kinds.kind import STATEMENT, Findings, Kind, case_verdict, limits
from theory.measurements import TrialSums
from theory.statistics import Interval
from theory.verdict import INCONCLUSIVE, LEVEL, REFUTED, CaseVerdict, Tier, combine

if TYPE_CHECKING:
    import theory.instances
    import theory.runs


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


class Sampled(Kind):
    """A kind of claim that is decided by chance: by sums over trials."""

    @abc.abstractmethod
    def decide(self, sums: TrialSums, admissible: Admissible, tier: Tier, *, level: float = LEVEL) -> CaseVerdict:
        """The verdict on one case from the sums of its trials so far, over all its instances.

        Args:
            sums: over trials, [instances, components].
            admissible: which instances met the hypotheses.
            tier: its tolerance still supports the statement, and its looks share the level.
            level: probability of a wrong decision, over all components and looks.
        """

    @abc.abstractmethod
    def judge(self, sums: TrialSums, tier: Tier, level: float) -> Judgement:
        """Decisions on the components, from sums over trials on admissible instances.

        Args:
            sums: [instances, components].
            tier: its tolerance still supports the statement, and its looks share the level.
            level: probability of a wrong decision, over all components and looks.
        """

    @abc.abstractmethod
    def suspicion(self, sums: TrialSums) -> np.ndarray:
        """How much each [instance, component] speaks against the statement; at most 0 where it does not."""

    def settle(self, verdict: CaseVerdict, retried: Judgement) -> CaseVerdict:
        """The verdict on a case after what looked worst was tried again, and was not refuted: as it was.

        Args:
            verdict: from all instances together.
            retried: what the fresh trials say of each suspect.
        """
        return verdict


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
        numbers: ``measured``, ``theory``, ``resolution``, ``looseness`` and its quantiles of the verdict.
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


class Measured(NamedTuple):
    """What the trials of a group came to.

    Attributes:
        found: a verdict on every case, and the worst instance of the first case that refutes the claim.
        sums: case name -> "claim" or the name of a mutant -> sums over the case's trials.
    """

    found: Findings
    sums: dict[str, dict[str, TrialSums]]


def measure_group(
    runs: "theory.runs.Runs",
    group: "theory.instances.Group",
    tier: Tier,
    kind: Sampled,
    *,
    float32: bool,
    earlier: Findings,
    level: float,
) -> Measured:
    """Run trials on the cases of a group until the claim and its mutants are decided in each, or the tier is spent.

    A mutant is decided where one case refutes it. A case stops at the first look at which more of its trials could
    decide nothing.

    Args:
        runs: the claim's programs.
        group: the cases.
        tier: its looks say after how many trials per instance the intervals are looked at.
        kind: the claim's.
        float32: whether trials run in float32.
        earlier: what other groups of the claim have found.
        level: probability that a decision on a case is wrong.
    """
    found = Findings.none(runs.statements)
    sums: dict[str, dict[str, TrialSums]] = {}
    done = 0
    for look in tier.looks:
        target = runs.whole_tiles(look)
        if target == done:
            continue
        for case in group.cases:
            if case.name in sums and not _pending(earlier | found, case.name):
                continue
            runs.progress(f"case {case.name}, {target:,} trials an instance")
            more = runs.trials(group, case, first=done, count=target - done, float32=float32)
            sums[case.name] = jax.tree.map(add, sums[case.name], more) if case.name in sums else more
            for name in runs.statements:
                verdict = kind.decide(sums[case.name][name], case.admissible, tier, level=level)
                found |= Findings({name: {case.name: verdict}})
        done = target
    own = [sums[case.name][STATEMENT] for case in group.cases]
    together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *own)
    example = counterexample(group, found.cases[STATEMENT], together, kind.suspicion, found_by="trials")
    return Measured(Findings(found.cases, example), sums)


def _pending(found: Findings, case: str) -> bool:
    """Whether more trials of this case could still decide the claim, or a mutant which no case has refuted."""
    return any(
        verdicts[case].verdict == INCONCLUSIVE
        for name, verdicts in found.cases.items()
        if name == STATEMENT or found.decision(name) != REFUTED
    )


def add(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The sum of two leaves of sums. Deviations from a theory of 0 may overflow to infinity, which is right."""
    with np.errstate(over="ignore"):
        return total + more
