"""Probabilities: P(measured > theory) <= delta."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np

from theory import statistics
from theory.kinds import exact, retrials, trials
from theory.kinds.axes import Axis, Strip, linear
from theory.kinds.exact import Admissible
from theory.kinds.kind import Findings, Words, unmet
from theory.measurements import Evaluation, SideArrays, TrialSums, assess, take
from theory.verdict import INCONCLUSIVE, LEVEL, SUPPORTED, VACUOUS, CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.runs

MIN_ALLOWED_FAILURES = 4
"""Each instance has trials enough to fail this often at the rate δ, so that one which fails at 3δ stands out."""


@dataclass(frozen=True)
class Probability(trials.Sampled):
    """P(measured > theory) <= delta over the outcomes of a trial.

    A trial returns the failure rate that the statement allows as ``Sides.delta``. Where all outcomes are enumerated,
    the probability of those that fail decides on every instance. Else exact binomial intervals decide: of the failure
    rate over the admissible instances of a case, and of that of the instances that fail most, which are tried again.
    """

    words: ClassVar[Words] = Words(
        name="probability",
        meaning="P(measured > theory) ≤ δ over the outcomes of a trial.",
        measured="failure frequency of the worst component, or its failure probability where outcomes are enumerated",
        theory="the failure rate δ that the claim allows",
        interval="of the failure rate",
        resolution="largest factor on the theory's side at which the statement would have been refuted",
    )
    takes_enumerable: ClassVar[bool] = True
    required_sides: ClassVar[tuple[str, ...]] = ("delta",)
    counted_factors: ClassVar[tuple[float, ...]] = tuple(k / 16 for k in range(1, 17))

    def check_trials(self, sums: TrialSums, whose: str):
        """Refuse failure rates δ outside (0, 1)."""
        _check_delta(sums.means().delta[sums.trials > 0], f"delta of {whose}")

    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """All outcomes where they are enumerated; else trials, in float64, until all is decided."""
        found = exact.measure_enumerated(runs, self.decide_enumerated, self.discrepancy, compare_float32=False)
        return retrials.measure(runs, tier, self, float32=False, found=found)

    def of_outcome(self, sides: SideArrays) -> SideArrays:
        """Whether an outcome fails, as 0 or 1, against the failure rate δ that is allowed."""
        outcome = assess(sides)
        failed = jnp.asarray(outcome.violated | outcome.broken, sides.measured.dtype)
        return sides._replace(measured=failed, theory=sides.delta, scale=jnp.ones_like(failed))

    def decide_enumerated(
        self, sides: Evaluation, in_float32: Evaluation | None, admissible: Admissible
    ) -> CaseVerdict:
        """The verdict on one case whose sides are the failure probability and δ.

        Args:
            sides: evaluated in float64.
            in_float32: None.
            admissible: which instances met the hypotheses.
        """
        verdict = exact.decide_inequality(sides, admissible, method="enumerated")
        if not admissible.any():
            return verdict
        _check_delta(sides.values.theory[admissible], "delta of an enumerated case")
        worst = exact.worst_entry(self.discrepancy(sides), sides.broken, admissible)
        measured, theory = sides.pair(*worst)
        none = {"looseness": np.nan, "looseness_quantiles": (), "resolution": np.nan}
        return replace(verdict, measured=measured, theory=theory, **none)

    def is_exact(self, *, enumerated: bool) -> bool:
        """Where all outcomes are enumerated."""
        return enumerated

    def discrepancy(self, sides: Evaluation) -> np.ndarray:
        """By how much the failure probability of each [instance, component] exceeds δ, where it is enumerated."""
        return np.asarray(sides.deviation)

    def decide(self, sums: TrialSums, admissible: Admissible, tier: Tier, *, level: float = LEVEL) -> CaseVerdict:
        """The verdict on one case from the sums of its trials so far.

        Args:
            sums: over trials, [instances, components].
            admissible: which instances met the hypotheses.
            tier: its number of looks shares the level.
            level: probability of a wrong decision, over all components and looks.
        """
        if not admissible.any():
            return unmet(admissible, method="none")
        kept = take(sums, admissible)
        means = kept.means()
        judgement = self.judge(kept, tier, level)
        worst = judgement.worst
        numbers = {
            "measured": float(_failures(kept)[worst] / trials.count_trials(kept)[worst]),
            "theory": float(_delta(kept)[worst]),
            # A failure that is allowed may have a theory of 0, which no factor makes a bound.
            **exact.looseness(means.measured, np.where(means.theory > 0, means.theory, np.nan)),
            "resolution": self.resolution(kept, trials.level_per_interval(level, kept, tier)),
        }
        verdict = trials.decide_case(judgement, kept, admissible, numbers)
        if verdict.verdict != SUPPORTED:
            return verdict
        if np.any((kept.trials + kept.broken) * means.delta < MIN_ALLOWED_FAILURES):
            needed = MIN_ALLOWED_FAILURES / np.min(means.delta)
            reason = f"each instance needs at least {needed:g} trials, and had {np.min(kept.trials + kept.broken):g}"
            return replace(verdict, verdict=INCONCLUSIVE, reason=reason)
        return replace(verdict, verdict=VACUOUS) if exact.is_vacuous(means) else verdict

    def judge(self, sums: TrialSums, tier: Tier, level: float) -> trials.Judgement:
        """Decisions on the components, from sums over trials on admissible instances.

        Args:
            sums: [instances, components].
            tier: its number of looks shares the level.
            level: probability of a wrong decision, over all components and looks.
        """
        failed, count, delta = _failures(sums), trials.count_trials(sums), _delta(sums)
        interval = statistics.binomial_interval(failed, count, trials.level_per_interval(level, sums, tier))
        decisions = statistics.decide_failure_rate(interval, delta)
        return trials.Judgement(decisions, interval, int(np.argmax(failed / count / delta)), "exact binomial")

    def resolution(self, sums: TrialSums, level: float) -> float:
        """The largest counted factor on the theory's side at which the trials would refute the statement; 0 if none.

        Args:
            sums: over trials on admissible instances, [instances, components].
            level: probability that an interval misses a failure rate.
        """
        exceeding, count = sums.exceeding.sum(axis=0), trials.count_trials(sums)
        low = statistics.binomial_interval(exceeding, np.broadcast_to(count[:, None], exceeding.shape), level).low
        refuted = np.any(low > _delta(sums)[:, None], axis=0)
        return float(np.max(np.where(refuted, self.counted_factors, 0.0)))

    def suspicion(self, sums: TrialSums) -> np.ndarray:
        """How often each [instance, component] failed."""
        return sums.failures + sums.broken

    def settle(self, verdict: CaseVerdict, retried: trials.Judgement) -> CaseVerdict:
        """INCONCLUSIVE where the failure rate of a suspect is not known to be small enough."""
        open_ = INCONCLUSIVE in retried.decisions and verdict.verdict in (SUPPORTED, VACUOUS)
        reason = "the failure rate of an instance that was tried again is not known to be below 2δ"
        return replace(verdict, verdict=INCONCLUSIVE, reason=reason) if open_ else verdict

    def tolerance(self, tier: Tier) -> float:
        """By what part of δ a failure rate may exceed it and pass."""
        return statistics.FAILURE_RATE_TOLERANCE

    def axis(self, verdict: Verdict) -> Axis | None:
        """Failure rates, relative to the one that is allowed."""
        strips = {name: _relative(case) for name, case in verdict.cases.items()}
        return linear("failure rate ÷ δ", strips, marks={1.0: "δ", 2.0: "2δ"}, band=(0.0, 1.0), floor=0.0)


def _check_delta(delta: np.ndarray, name: str):
    """Raise ValueError unless failure rates are in (0, 1)."""
    wrong = delta[~((delta > 0) & (delta < 1))]
    if wrong.size:
        raise ValueError(f"{name} is {wrong[0]:.6g}; it takes numbers in (0, 1)")


def _failures(sums: TrialSums) -> np.ndarray:
    """Failures of each component over all instances; a trial that is not finite is one."""
    return (sums.failures + sums.broken).sum(axis=0)


def _delta(sums: TrialSums) -> np.ndarray:
    """The failure rate that each component allows: the largest over instances."""
    return np.fmax.reduce(sums.means().delta, axis=0)


def _relative(case: CaseVerdict) -> Strip:
    if not case.theory:
        return Strip(None)
    interval = case.interval and (case.interval[0] / case.theory, case.interval[1] / case.theory)
    return Strip(case.measured / case.theory, interval)
