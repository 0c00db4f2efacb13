"""Identities: measured = theory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from theory.kinds import exact
from theory.kinds.axes import Axis, Strip, logarithmic
from theory.kinds.exact import Admissible
from theory.kinds.kind import Findings, Kind, Words
from theory.measurements import Evaluation
from theory.statistics import ROUNDING
from theory.verdict import CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.runs


@dataclass(frozen=True)
class Identity(Kind):
    """measured = theory on every admissible instance, to rounding.

    Evaluated once per instance in float64, and again in float32 to tell rounding from a near-miss.
    """

    words: ClassVar[Words] = Words(
        name="identity",
        meaning="measured = theory on every admissible instance, to rounding.",
        measured="largest residual, relative to its scale",
        theory="largest residual that rounding explains",
    )
    takes_enumerable: ClassVar[bool] = True

    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """One evaluation per instance, in float64 and in float32."""
        found = Findings.none(runs.statements)
        for group in runs.groups:
            found |= exact.measure_group(runs, group, self.decide, self.discrepancy, compare_float32=True)
        return found

    def decide(self, sides: Evaluation, in_float32: Evaluation | None, admissible: Admissible) -> CaseVerdict:
        """The verdict on one case.

        Args:
            sides: evaluated in float64.
            in_float32: the same sides in float32; None leaves that comparison out.
            admissible: which instances met the hypotheses.
        """
        return exact.decide_equality(sides, in_float32, admissible)

    def is_exact(self, *, enumerated: bool) -> bool:
        """Yes: one instance is enough."""
        return True

    def discrepancy(self, sides: Evaluation) -> np.ndarray:
        """How much each [instance, component] contradicts the statement."""
        return abs(sides.deviation)

    def tolerance(self, tier: Tier) -> float:
        """The relative residual that rounding explains, at every tier."""
        return ROUNDING

    def axis(self, verdict: Verdict) -> Axis | None:
        """Residuals, relative to the largest that rounding explains."""
        strips = {
            name: Strip(case.measured / case.theory if case.theory else None) for name, case in verdict.cases.items()
        }
        return logarithmic("residual ÷ allowance", strips, marks={1.0: "limit"}, band=(0.0, 1.0))
