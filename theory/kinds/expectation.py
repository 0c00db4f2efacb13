"""Expectations: E measured = E theory, or at most that, over the outcomes of a trial."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from theory import statistics
from theory.kinds import exact, retrials, trials
from theory.kinds.axes import Axis, Strip, linear, ratios
from theory.kinds.exact import Admissible
from theory.kinds.kind import Findings, Words, check_relation, unmet
from theory.measurements import Evaluation, TrialSums, take
from theory.statistics import Interval, Relation
from theory.verdict import INCONCLUSIVE, LEVEL, SUPPORTED, CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.runs

MAX_FOURTH_MOMENT_SHARE = 0.01
"""No normal interval where Σd⁴ > 1 % of (Σd²)²: too few trials dominate the variance."""
FLOAT32_ROUNDING = 1e-5
"""Relative rounding of a float32 trial, which does not average out over trials."""


@dataclass(frozen=True)
class Expectation(trials.Sampled):
    """E measured = E theory, or ≤, over the outcomes of a trial.

    Where all outcomes are enumerated, every instance decides. Else the deviation (measured − theory) / scale is
    averaged over trials and over the admissible instances of a case; then the instances and components that look worst
    are tried again, and decide by themselves.

    Attributes:
        relation: "equal" or "at most".
    """

    relation: Relation = "equal"

    words: ClassVar[Words] = Words(
        name="expectation",
        meaning="E measured = E theory over the outcomes of a trial.",
        measured="median over instances of the mean",
        theory="median of the theory's side",
        interval="of measured − theory, relative to the scale",
        resolution="root mean square of (measured − theory)/scale over instances that could have been missed",
    )
    takes_enumerable: ClassVar[bool] = True
    optional_sides: ClassVar[tuple[str, ...]] = ("scale", "trivial", "range")

    def __post_init__(self):
        check_relation(self.relation)

    @property
    def meaning(self) -> str:
        """The meaning, with the relation."""
        return self.words.meaning.replace("=", "≤") if self.relation == "at most" else self.words.meaning

    def check_trials(self, sums: TrialSums, whose: str):
        """Refuse a theory of 0 without a scale, where the measured side is not 0: no deviation could be judged."""
        if ((sums.sides.scale == 0) & (sums.deviation != 0)).any():
            raise ValueError(
                f"scale of {whose} is 0, as |theory| is where no scale is given, and nothing could refute it; "
                "it takes a positive scale, Sides(..., scale=...)"
            )

    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """All outcomes where they are enumerated; else trials, in float32, until all is decided."""
        found = exact.measure_enumerated(
            runs, self.decide_enumerated, self.discrepancy, compare_float32=self.relation == "equal"
        )
        return retrials.measure(runs, tier, self, float32=True, found=found)

    def decide_enumerated(
        self, sides: Evaluation, in_float32: Evaluation | None, admissible: Admissible
    ) -> CaseVerdict:
        """The verdict on one case whose sides are expectations over all outcomes: an identity, or a bound.

        Args:
            sides: evaluated in float64.
            in_float32: the same sides in float32, for "equal".
            admissible: which instances met the hypotheses.
        """
        if self.relation == "equal":
            return exact.decide_equality(sides, in_float32, admissible, method="enumerated")
        verdict = exact.decide_inequality(sides, admissible, method="enumerated")
        return replace(verdict, resolution=np.nan)  # no deviation is missed where every outcome is seen

    def decide(self, sums: TrialSums, admissible: Admissible, tier: Tier, *, level: float = LEVEL) -> CaseVerdict:
        """The verdict on one case from the sums of its trials so far, on the average over its instances.

        SUPPORTED only where the average hides little: see ``resolution``.

        Args:
            sums: over trials, [instances, components].
            admissible: which instances met the hypotheses.
            tier: its tolerance still supports the statement.
            level: probability of a wrong decision, over all components and looks.

        Raises:
            ValueError: chance decides the scale.
        """
        if not admissible.any():
            return unmet(admissible, method="none")
        kept = take(sums, admissible)
        if kept.changed_scales.any():
            raise ValueError(
                "scale in the trial changes from trial to trial, as |theory| may where no scale is given; it takes one "
                "that chance does not decide, Sides(..., scale=...)"
            )
        judgement = self.judge(kept, tier, level)
        resolution = float(np.max(self.resolution(kept, trials.level_per_interval(level, sums, tier))))
        verdict = trials.decide_case(
            judgement, kept, admissible, exact.medians(kept.means()) | {"resolution": resolution}
        )
        hides_much = not resolution <= retrials.MAX_RESOLUTION * tier.tolerance
        if verdict.verdict == SUPPORTED and hides_much:
            verdict = replace(verdict, verdict=INCONCLUSIVE)
        return replace(verdict, reason=self._reason(verdict, tier)) if verdict.verdict == INCONCLUSIVE else verdict

    def _reason(self, verdict: CaseVerdict, tier: Tier) -> str:
        """What is known of an undecided case, and how many trials would decide it."""
        assert verdict.interval is not None  # every verdict by chance has one
        low, high = verdict.interval
        tolerance, limit = tier.tolerance, retrials.MAX_RESOLUTION * tier.tolerance
        if not np.isfinite(high - low):
            return (
                "a few trials dominate the variance: it takes more of them, a range where outcomes are bounded, or a "
                "scale where the theory is near 0"
            )
        centre = (low + high) / 2 if self.relation == "at most" else abs(low + high) / 2
        half, known = (high - low) / 2, f"the interval is [{low:.3g}, {high:.3g}] and the tolerance {tolerance:g}"
        if centre + half <= tolerance:
            needed = verdict.trials * (verdict.resolution / limit) ** 2
            return (
                f"{known}, but instances may deviate by {verdict.resolution:.3g} (root mean square), where {limit:g} "
                f"passes: about {needed:.1g} trials, or a larger scale where the theory is near 0"
            )
        room = abs(tolerance - centre)
        return f"{known}: about {verdict.trials * (half / room) ** 2:.1g} trials would decide"

    def judge(self, sums: TrialSums, tier: Tier, level: float) -> trials.Judgement:
        """Decisions on the components, from sums over trials on admissible instances.

        Args:
            sums: [instances, components].
            tier: its tolerance still supports the statement.
            level: probability of a wrong decision, over all components and looks.
        """
        interval, method = deviation_interval(sums, trials.level_per_interval(level, sums, tier))
        farthest = np.maximum(abs(interval.low), abs(interval.high))
        return trials.Judgement(
            statistics.decide_mean(interval, self.relation, tier.tolerance, FLOAT32_ROUNDING),
            interval,
            worst=int(np.argmax(np.nan_to_num(farthest, nan=np.inf))),
            method=method,
        )

    def is_exact(self, *, enumerated: bool) -> bool:
        """Where all outcomes are enumerated."""
        return enumerated

    def resolution(self, sums: TrialSums, level: float) -> np.ndarray:
        """The largest root mean square deviation over instances that the trials leave possible, [components].

        For "at most" it is that of the deviations above 0.

        Args:
            sums: over trials on admissible instances, [instances, components].
            level: probability that a component's is larger.
        """
        mean, variance = _moments(sums)
        limit = statistics.root_mean_square_limit(sums.trials, mean, variance, level / 2)
        if self.relation == "at most":
            with np.errstate(invalid="ignore", divide="ignore"):
                error = np.sqrt(variance / sums.trials)
            high = statistics.normal_interval(mean, error, level / len(mean)).high
            positive = np.where(sums.trials > 1, np.maximum(high, 0), np.inf)
            limit = np.fmin(limit, np.sqrt((positive**2).mean(axis=0)))
        return np.nan_to_num(limit, nan=np.inf)

    def suspicion(self, sums: TrialSums) -> np.ndarray:
        """By how many standard errors the mean of each [instance, component] contradicts the statement.

        Beyond 30 standard errors the excess itself decides. It is all that is returned where an entry's trials happen
        to be alike, as where a rare item is never kept, for they prove little; unless no trial of the component varies.
        """
        mean, variance = _moments(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = abs(mean) if self.relation == "equal" else mean
            errors = excess / np.sqrt(variance / sums.trials)
        varies = variance > (FLOAT32_ROUNDING * mean) ** 2
        alike = ~varies & varies.any(axis=0)
        return np.where((excess == 0) | alike, excess, np.where(errors > 30, 30 + excess, errors))

    def discrepancy(self, sides: Evaluation) -> np.ndarray:
        """How much each [instance, component] contradicts the statement, where all outcomes are enumerated."""
        return abs(sides.deviation) if self.relation == "equal" else np.asarray(sides.deviation)

    def tolerance(self, tier: Tier) -> float:
        """The relative deviation of a mean that still supports the claim."""
        return tier.tolerance

    def axis(self, verdict: Verdict) -> Axis | None:
        """For "equal" the deviation; for "at most" how loose the bound is."""
        if self.relation == "at most":
            return ratios(verdict)
        strips = {name: _deviation(case) for name, case in verdict.cases.items()}
        band = (-verdict.tolerance, verdict.tolerance)
        return linear("deviation ÷ scale", strips, marks={0.0: "theory"}, band=band)


def deviation_interval(sums: TrialSums, level: float) -> tuple[Interval, str]:
    """Interval of the mean deviation over the trials of all instances, for each component.

    Empirical Bernstein where the range of the outcomes is known, which holds at every number of trials; else normal,
    which is asymptotic, and infinite where too few trials say something: then what is rare may not have come yet.

    Args:
        sums: over trials on admissible instances, [instances, components].
        level: probability that the interval of one component misses its mean.

    Returns:
        The intervals, [components], and the name of the method.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        count = sums.trials.sum(axis=0)
        means = sums.means()
        width = (means.range / means.scale).max(axis=0)
        of_instances, within = _moments(sums)
        mean = of_instances.mean(axis=0)
        if np.isfinite(width).all():
            variance = np.maximum((sums.squares.sum(axis=0) - count * mean**2) / (count - 1), 0)
            return statistics.bernstein_interval(count, mean, variance, width, level), "empirical Bernstein"
        error = np.sqrt((within / sums.trials).sum(axis=0)) / len(sums.trials)
        dominated = sums.fourth_powers.sum(axis=0) > MAX_FOURTH_MOMENT_SHARE * sums.squares.sum(axis=0) ** 2
        all_alike = (error == 0) & (mean != 0)
        error = np.where(dominated | all_alike, np.inf, error)
        return statistics.normal_interval(mean, error, level), "asymptotic"


def _moments(sums: TrialSums) -> tuple[np.ndarray, np.ndarray]:
    """Sample mean and sample variance of the deviations of each instance and component."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = sums.deviation / sums.trials
        return mean, np.maximum(sums.squares - sums.deviation**2 / sums.trials, 0) / (sums.trials - 1)


def _deviation(case: CaseVerdict) -> Strip:
    """The interval is one of the deviation; where all outcomes are enumerated, ``measured`` is the deviation."""
    return Strip(case.measured) if case.interval is None else Strip(sum(case.interval) / 2, case.interval)
