"""Effects: the mean difference of paired arms."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from theory import statistics
from theory.kinds.axes import Axis, Strip, linear
from theory.kinds.exact import Admissible
from theory.kinds.kind import Findings, Kind, Words, case_verdict, check_margin, limits, unmet
from theory.measurements import Evaluation, take
from theory.verdict import EFFECT_LEVEL, INCONCLUSIVE, REFUTED, SUPPORTED, CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.instances
    import theory.runs


class _Arm(NamedTuple):
    """The paired sides on the instances of one case."""

    case: "theory.instances.CaseRows"
    sides: Evaluation

    @property
    def differences(self) -> Float[np.ndarray, " instances"]:
        """One difference for each instance."""
        return _differences(self.sides)


def _differences(sides: Evaluation) -> Float[np.ndarray, " instances"]:
    """measured − theory, averaged over components."""
    return (sides.values.measured - sides.values.theory).mean(axis=1)


@dataclass(frozen=True)
class Effect(Kind):
    """measured − theory >= −margin on average over paired trials: an observation, not a theorem.

    Each instance gives one pair of arms; Student's interval of the differences decides. The verdict on the claim is
    that of its cases without the control arms, which are reported beside them: each with Student's interval of the
    effect minus the control, over the instances that the two share.

    Attributes:
        margin: the difference that is still called a match, in the units of the two sides.
        few_seeds: whether a tier that has ``few_seeds`` takes so many, to save time.
    """

    margin: float = 0.0
    few_seeds: bool = False

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
        if self.few_seeds and tier.few_seeds:
            return tier.few_seeds
        return tier.seeds

    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """One pair of arms per instance; and each control beside the case that has its instances."""
        found = Findings.none(runs.statements)
        evaluated = []
        for group in runs.groups:
            runs.progress(f"training for {', '.join(case.name for case in group.cases)}")
            evaluated.append((group, runs.evaluate(group)))
        for name in runs.statements:
            arms = [_Arm(case, take(sides[name], case.rows)) for group, sides in evaluated for case in group.cases]
            effects = {arm.case.stream: arm for arm in arms if not arm.case.control}
            verdicts = {arm.case.name: self._verdict(arm, effects.get(arm.case.stream)) for arm in arms}
            found |= Findings({name: verdicts})
        return found

    def _verdict(self, arm: "_Arm", effect: "_Arm | None") -> CaseVerdict:
        """The verdict on a case; that on a control says how far the effect exceeds it."""
        verdict = replace(self.decide(arm.sides, arm.case.admissible), control=arm.case.control)
        if effect is None or not arm.case.control:
            return verdict
        shared = arm.case.admissible & effect.case.admissible
        if not shared.any():
            return verdict
        excess = effect.differences[shared] - arm.differences[shared]
        mean, interval = statistics.mean_interval(excess, EFFECT_LEVEL)
        return replace(verdict, contrast=mean, contrast_interval=limits(interval))

    def decide(self, sides: Evaluation, admissible: Admissible, *, level: float = EFFECT_LEVEL) -> CaseVerdict:
        """The verdict on one case; a side that is not finite refutes.

        Args:
            sides: the paired arms; components are averaged.
            admissible: which instances met the hypotheses.
            level: probability that the interval misses the mean difference.
        """
        if not admissible.any():
            return unmet(admissible, method="paired")
        kept = take(sides, admissible)
        differences = _differences(kept)
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
        """Mean differences, and the effect minus each control, under :func:`contrast_name`."""
        cases = verdict.cases.items()
        strips = {name: Strip(case.measured, case.interval) for name, case in cases}
        contrasts = {
            contrast_name(name): Strip(case.contrast, case.contrast_interval)
            for name, case in cases
            if case.contrast_interval is not None
        }
        return linear("mean difference", strips | contrasts, marks={0.0: "none"}, band=(-verdict.tolerance, math.inf))


def contrast_name(control: str) -> str:
    """What the effect minus a control is called on the axis.

    Args:
        control: the name of the control's case.
    """
    return f"effect − {control}"
