"""The second stage of a decision by chance: what looks worst is tried again with fresh chance, and decides by itself.

An average over instances can hide one bad instance, or biases of random sign. The instances and components that look
worst after the first stage were chosen by their chance, so that chance says nothing more of them: new trials do.
"""

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import numpy as np

from theory.kinds.exact import Admissible
from theory.kinds.kind import STATEMENT, Findings, limits
from theory.kinds.trials import Judgement, Measured, Sampled, add, count_trials, measure_group
from theory.measurements import TrialSums
from theory.verdict import INCONCLUSIVE, LEVEL, REFUTED, UNMET, Tier

if TYPE_CHECKING:
    import theory.instances
    import theory.runs

SUSPECTS = 4
"""How many entries [instance, component] of a case are tried again."""
LOOKS = (0.5, 1.5, 4.0)
"""When the fresh trials are looked at: multiples of the trials of the first stage, shared by the suspects."""
MAX_RESOLUTION = 5.0
"""The largest deviation that an average may hide, in units of the tolerance."""


def measure(
    runs: "theory.runs.Runs", tier: Tier, kind: Sampled, *, float32: bool, found: Findings, level: float = LEVEL
) -> Findings:
    """Both stages on all cases whose outcomes are drawn; each stage has half of the level.

    Args:
        runs: the claim's programs.
        tier: how many trials may run.
        kind: the claim's.
        float32: whether trials run in float32.
        found: what the other cases have shown.
        level: probability that a decision on a case is wrong.

    Returns:
        All that is found, with a verdict on every case.
    """
    if runs.claim.expected is None:  # an observation, which verifies nothing, is looked at once
        tier = replace(tier, looks=tier.looks[:1])
    else:
        tier = tier.with_min_trials(runs.instances_per_case * runs.sampled_cases)
    for group in runs.groups:
        if group.enumerable:
            continue
        measured = measure_group(runs, group, tier, kind, float32=float32, earlier=found, level=level / 2)
        found |= measured.found
        for case in group.cases:
            stage = _SecondStage(runs, group, case, tier, kind, float32, level / 2)
            for name in runs.statements:
                if name == STATEMENT or found.decision(name) != REFUTED:
                    found |= stage.findings(name, found, measured)
    return found


@dataclass(frozen=True)
class _SecondStage:
    """The second stage of one case."""

    runs: "theory.runs.Runs"
    group: "theory.instances.Group"
    case: "theory.instances.CaseRows"
    tier: Tier
    kind: Sampled
    float32: bool
    level: float

    def findings(self, name: str, found: Findings, measured: Measured) -> Findings:
        """What trying the suspects of a statement again changes."""
        verdict = found.cases[name][self.case.name]
        sums = measured.sums[self.case.name][name]
        rows, components = _suspects(self.kind.suspicion(sums), self.case.admissible)
        if verdict.verdict in (REFUTED, UNMET) or not rows.size:
            return Findings({})
        self.runs.progress(f"case {self.case.name}, trying the worst instances again")
        alone, judgement = self._tried_again(name, rows, components, int(np.max(sums.trials + sums.broken)))
        refuted = np.flatnonzero((judgement.decisions == REFUTED) | (alone.broken[0] > 0))
        verdict = replace(verdict, trials=verdict.trials + int(count_trials(alone).sum()))
        if not refuted.size:
            return Findings({name: {self.case.name: self.kind.settle(verdict, judgement)}})
        worst = int(refuted[0])
        sides = alone.pair(0, worst)
        verdict = replace(
            verdict,
            verdict=REFUTED,
            reason="",  # of what the first stage left open
            measured=sides[0],
            theory=sides[1],
            interval=limits(judgement.interval, worst),
            method=f"{judgement.method}, one instance",
        )
        example = self.group.replay(self.case, int(rows[worst]), int(components[worst]), sides, "trials")
        return Findings({name: {self.case.name: verdict}}, example if name == STATEMENT else None)

    def _tried_again(
        self, name: str, rows: np.ndarray, components: np.ndarray, trials: int
    ) -> tuple[TrialSums, Judgement]:
        """Sums over fresh trials of the suspects, [1, suspects], and what they say at the last look."""
        counts = sorted({self.runs.whole_tiles(int(multiple * trials)) for multiple in LOOKS})
        tier = replace(self.tier, looks=tuple(counts), tolerance=MAX_RESOLUTION * self.tier.tolerance)

        def fresh(done: int, target: int) -> TrialSums:
            sums = self.runs.fresh_trials(
                self.group, self.case, rows, first=done, count=target - done, float32=self.float32
            )
            return jax.tree.map(lambda leaf: leaf[np.arange(rows.size), components][None], sums[name])

        alone = fresh(0, counts[0])
        judgement = self.kind.judge(alone, tier, self.level)
        for done, target in itertools.pairwise(counts):
            if INCONCLUSIVE not in judgement.decisions or REFUTED in judgement.decisions:
                break
            alone = jax.tree.map(add, alone, fresh(done, target))
            judgement = self.kind.judge(alone, tier, self.level)
        return alone, judgement


def _suspects(suspicion: np.ndarray, admissible: Admissible) -> tuple[np.ndarray, np.ndarray]:
    """Rows and components of the most suspicious entries, the worst first; none that is not suspicious."""
    suspicion = np.where(admissible[:, None], np.nan_to_num(suspicion, nan=np.inf, posinf=np.inf), -np.inf)
    worst = np.argsort(-suspicion, axis=None, kind="stable")[: min(SUSPECTS, len(suspicion))]
    rows, components = np.unravel_index(worst[suspicion.flat[worst] > 0], suspicion.shape)
    return rows, components
