"""Bounds: measured <= theory, on every instance."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from theory.kinds import exact
from theory.kinds.axes import Axis, ratios
from theory.kinds.exact import Admissible
from theory.kinds.kind import STATEMENT, Findings, Kind, Words
from theory.measurements import Evaluation, take
from theory.statistics import ROUNDING
from theory.verdict import REFUTED, SUPPORTED, VACUOUS, CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.instances
    import theory.runs


@dataclass(frozen=True)
class Bound(Kind):
    """measured <= theory on every admissible instance.

    Evaluated once per instance in float64; what is found beyond rounding refutes. Where fields may be moved, gradient
    ascent then looks for a counterexample near the instances.

    Attributes:
        search: names of the instance's floating fields which the search for counterexamples may move; empty
            where the measured side cannot be differentiated.
    """

    search: tuple[str, ...] = ()

    words: ClassVar[Words] = Words(
        name="bound",
        meaning="measured ≤ theory on every admissible instance.",
        measured="median of the measured side",
        theory="median of the bound",
        resolution="largest factor on the bound at which the statement would have been refuted",
    )
    takes_enumerable: ClassVar[bool] = True

    def __post_init__(self):
        named = isinstance(self.search, tuple) and all(isinstance(name, str) for name in self.search)
        if not named or len(set(self.search)) < len(self.search):
            raise ValueError(f"search is {self.search!r}; it takes a tuple of field names, such as ('x',)")

    @property
    def searched_fields(self) -> tuple[str, ...]:
        """The fields of an instance that the search may move."""
        return self.search

    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """One evaluation per instance; then a search for counterexamples, where fields may be moved."""
        found = Findings.none(runs.statements)
        for group in runs.groups:
            found |= exact.measure_group(runs, group, self._decide, self.discrepancy, compare_float32=False)
            if self.search:
                found |= self._search(runs, group, tier, found)
        return found

    def decide(self, sides: Evaluation, admissible: Admissible) -> CaseVerdict:
        """The verdict on one case, VACUOUS where its bounds hold and mostly exceed the trivial ones.

        Args:
            sides: evaluated in float64.
            admissible: which instances met the hypotheses.
        """
        verdict = exact.decide_inequality(sides, admissible)
        if verdict.verdict == SUPPORTED and exact.is_vacuous(take(sides, admissible).values):
            return replace(verdict, verdict=VACUOUS)
        return verdict

    def _decide(self, sides: Evaluation, in_float32: Evaluation | None, admissible: Admissible) -> CaseVerdict:
        return self.decide(sides, admissible)

    def _search(
        self, runs: "theory.runs.Runs", group: "theory.instances.Group", tier: Tier, found: Findings
    ) -> Findings:
        """What a search finds refutes the claim, or a mutant which no instance has refuted yet.

        Where it finds nothing, it says how close it came.
        """
        after = Findings.none(runs.statements)
        for name in runs.statements:
            if name != STATEMENT and found.decision(name) == REFUTED:
                continue
            runs.progress(f"searching for a counterexample to the {'claim' if name == STATEMENT else 'mutant ' + name}")
            searched = runs.search(group, name, tier.search_steps)
            for case, ratio in searched.ratios.items():
                verdict = found.cases[name][case]
                if case == searched.case:
                    there = self.decide(searched.sides, np.array([True]))
                    verdict = replace(verdict, verdict=REFUTED, measured=there.measured, theory=there.theory)
                resolution = float(np.fmax(verdict.resolution, ratio))
                after |= Findings({name: {case: replace(verdict, resolution=resolution)}})
            if name == STATEMENT:
                after |= Findings({}, searched.replay)
        return after

    def is_exact(self, *, enumerated: bool) -> bool:
        """Yes: one instance is enough."""
        return True

    def discrepancy(self, sides: Evaluation) -> np.ndarray:
        """How much each [instance, component] contradicts the statement."""
        return np.asarray(sides.deviation)

    def tolerance(self, tier: Tier) -> float:
        """The relative excess that rounding explains, at every tier."""
        return ROUNDING

    def axis(self, verdict: Verdict) -> Axis | None:
        """How loose the bound is."""
        return ratios(verdict)
