"""Rates: measured ~ size^theory."""

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from theory import statistics
from theory.kinds.axes import Axis, Strip, linear
from theory.kinds.exact import Admissible
from theory.kinds.kind import (
    STATEMENT,
    Findings,
    Kind,
    Words,
    case_verdict,
    check_margin,
    check_relation,
    limits,
    unmet,
)
from theory.statistics import Relation
from theory.verdict import EFFECT_LEVEL, REFUTED, CaseVerdict, Tier, Verdict

if TYPE_CHECKING:
    import theory.instances
    import theory.runs


@dataclass(frozen=True)
class Rate(Kind):
    """measured(size) ~ size^theory: the slope of log measured against log size.

    ``trial(instance, outcome, size)`` is compiled once for each size; its ``theory`` is the exponent. Student's
    interval of the slopes of the instances decides. A trial that is to be an average over draws draws them itself, as
    with ``jax.vmap`` over ``jax.random.split(outcome, n)``: the mean of logarithms is not the logarithm of the mean.

    Attributes:
        sizes: the sizes, ascending.
        relation: "equal", or "at most" where the exponent is an upper rate.
        margin: how far an exponent may lie from the theory's and still support it.
    """

    sizes: tuple[int, ...]
    relation: Relation = "equal"
    margin: float = 0.1

    words: ClassVar[Words] = Words(
        name="rate",
        meaning="measured(size) ~ size^theory: the slope of log measured against log size.",
        measured="exponent",
        theory="the theory's exponent",
        interval="of the exponent",
    )

    def __post_init__(self):
        check_relation(self.relation)
        whole = isinstance(self.sizes, tuple) and all(isinstance(size, int | np.integer) for size in self.sizes)
        ascending = whole and all(a < b for a, b in itertools.pairwise((0, *self.sizes)))
        if not ascending or len(self.sizes) < 2:
            raise ValueError(f"sizes is {self.sizes!r}; it takes at least two whole numbers >= 1, ascending")
        check_margin(self.margin)

    @property
    def meaning(self) -> str:
        """The meaning, with the relation."""
        return self.words.meaning if self.relation == "equal" else self.words.meaning.replace("~", "≲")

    @property
    def trial_arguments(self) -> tuple[Any, ...]:
        """A trial takes the size."""
        return (self.sizes[0],)

    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """One evaluation per instance and size."""
        found = Findings.none(runs.statements)
        for group in runs.groups:
            found |= self._measure_group(runs, group)
        return found

    def _measure_group(self, runs: "theory.runs.Runs", group: "theory.instances.Group") -> Findings:
        by_size = []
        for size in self.sizes:
            runs.progress(f"size {size} of {', '.join(map(str, self.sizes))}")
            by_size.append(runs.evaluate_at(group, size))
        found = Findings.none(runs.statements)
        for name in runs.statements:
            components = by_size[0][name].values.measured.shape[1]
            if components != 1:
                raise ValueError(f"sides {name!r} of {runs.claim.id} have {components} components; a rate takes one")
            values = np.stack([sides[name].values.measured[:, 0] for sides in by_size], axis=1)
            exponent = float(by_size[0][name].values.theory[0, 0])
            for case in group.cases:
                own = values[case.rows]
                found |= Findings({name: {case.name: self.decide(own, exponent, case.admissible)}})
                unusable = np.argwhere(_unusable(own) & case.admissible[:, None])
                if name == STATEMENT and unusable.size:
                    row, place = map(int, unusable[0])
                    sides = float(own[row, place]), exponent
                    found |= Findings({}, group.replay(case, row, 0, sides, "instance"))
        return found

    def decide(
        self,
        values: Float[np.ndarray, "instances sizes"],
        exponent: float,
        admissible: Admissible,
        *,
        level: float = EFFECT_LEVEL,
    ) -> CaseVerdict:
        """The verdict on one case from the slopes of the values' logarithms.

        Args:
            values: what was measured; what is not finite and > 0 refutes.
            exponent: the theory's.
            admissible: which instances met the hypotheses.
            level: probability that the interval misses the mean slope.
        """
        if not admissible.any():
            return unmet(admissible, method="slopes")
        kept = values[admissible]
        if (unusable := np.argwhere(_unusable(values) & admissible[:, None])).size:
            row, place = unusable[0]
            reason = (
                f"measured is {values[row, place]} in instance {row} at size {self.sizes[place]}, which has no "
                f"logarithm ({len(unusable)} of {kept.size} values have none)"
            )
            return case_verdict(REFUTED, admissible, method="slopes", theory=exponent, trials=kept.size, reason=reason)
        slope, interval = statistics.slope_interval(np.log(self.sizes), np.log(kept), level)
        means = np.exp(np.mean(np.log(kept), axis=0))
        verdict = case_verdict(
            statistics.decide_exponent(interval, exponent, self.relation, self.margin),
            admissible,
            method="slopes",
            measured=slope,
            theory=exponent,
            trials=kept.size,
            interval=limits(interval),
        )
        return replace(verdict, points=tuple(zip(map(float, self.sizes), map(float, means), strict=True)))

    def tolerance(self, tier: Tier) -> float:
        """How far an exponent may lie from the theory's, at every tier."""
        return self.margin

    def axis(self, verdict: Verdict) -> Axis | None:
        """Exponents."""
        strips = {name: Strip(case.measured, case.interval) for name, case in verdict.cases.items()}
        theory = next(iter(verdict.cases.values())).theory
        band = (theory - verdict.tolerance, theory + verdict.tolerance)
        return linear("exponent", strips, marks={theory: "theory"}, band=band)


def _unusable(values: np.ndarray) -> np.ndarray:
    """Which values have no logarithm."""
    return ~(np.isfinite(values) & (values > 0))
