"""Effects: the mean difference of paired arms."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from theory import statistics
from theory.kinds.axes import Axis, Strip, linear
from theory.kinds.exact import Admissible
from theory.kinds.kind import Findings, Kind, Words, case_verdict, check_margin, limits, unmet
from theory.measurements import Evaluation, take_rows
from theory.verdict import EFFECT_LEVEL, INCONCLUSIVE, REFUTED, SUPPORTED, CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.engine


@dataclass(frozen=True)
class Effect(Kind):
    """measured − theory >= −margin on average over paired trials: an observation, not a theorem.

    Each instance gives one pair of arms; Student's interval of the differences decides. The verdict on the claim is
    that of its cases without the control arms, which are reported beside them.

    Attributes:
        margin: the difference that is still called a match, in the units of the two sides.
    """

    margin: float = 0.0

    words: ClassVar[Words] = Words(
        name="effect",
        meaning="measured − theory ≥ −margin on average over paired trials: an observation, not a theorem.",
        measured="mean difference of the paired arms",
        theory="minus the margin",
        interval="of the difference",
    )
    takes_controls: ClassVar[bool] = True

    def __post_init__(self):
        check_margin(self.margin)

    def count_instances(self, tier: Tier) -> int:
        """Fewer than for other kinds: an instance trains networks."""
        return tier.seeds

    def measure(self, runs: "theory.engine.Runs", tier: Tier) -> Findings:
        """One pair of arms per instance."""
        found = Findings.none(runs.statements)
        for group in runs.groups:
            for name, sides in runs.evaluate(group).items():
                verdicts = {
                    case.name: replace(self.decide(take_rows(sides, case.rows), case.admissible), control=case.control)
                    for case in group.cases
                }
                found |= Findings({name: verdicts})
        return found

    def decide(self, sides: Evaluation, admissible: Admissible, *, level: float = EFFECT_LEVEL) -> CaseVerdict:
        """The verdict on one case; a side that is not finite refutes.

        Args:
            sides: the paired arms; components are averaged.
            admissible: which instances met the hypotheses.
            level: probability that the interval misses the mean difference.
        """
        if not admissible.any():
            return unmet(admissible, method="paired")
        kept = take_rows(sides, admissible)
        differences = (kept.values.measured - kept.values.theory).mean(axis=1)
        mean, interval = statistics.mean_interval(differences, level)
        low, high = limits(interval)
        if kept.broken.any() or high < -self.margin:
            decision = REFUTED
        else:
            decision = SUPPORTED if low >= -self.margin else INCONCLUSIVE
        return case_verdict(
            decision,
            admissible,
            method="paired",
            measured=mean,
            theory=-self.margin,
            trials=len(differences),
            interval=(low, high),
        )

    def tolerance(self, tier: Tier) -> float:
        """The difference that is still called a match, at every tier."""
        return self.margin

    def axis(self, verdict: Verdict) -> Axis | None:
        """Mean differences."""
        strips = {name: Strip(case.measured, case.interval) for name, case in verdict.cases.items()}
        return linear("mean difference", strips, marks={0.0: "none"}, band=(-verdict.tolerance, math.inf))
