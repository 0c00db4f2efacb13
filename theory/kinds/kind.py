"""The contract of a kind of claim: its words, how it is measured and decided, and the axis that shows it.

A kind is one file that defines one frozen dataclass. Nothing else in the package knows which kinds there are.
"""

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool

from theory.kinds.axes import Axis
from theory.verdict import UNMET, CaseVerdict, Decision, Replay, Tier, Verdict, combine

if TYPE_CHECKING:
    import theory.claim
    import theory.measurements
    import theory.runs

STATEMENT = "claim"
"""The key under which a trial returns the claim's own sides; every other key is a mutant's."""


@dataclass(frozen=True)
class Words:
    """What the command, the report and the documentation say of a kind.

    Attributes:
        name: one lower-case word.
        meaning: what is said of the two sides, in one line.
        measured: what ``measured`` is in a :class:`theory.CaseVerdict`.
        theory: what ``theory`` is there.
        interval: what the confidence interval there is of; "–" where there is none.
        resolution: what ``resolution`` is there; "–" where there is none.
    """

    name: str
    meaning: str
    measured: str
    theory: str
    interval: str = "–"
    resolution: str = "–"


@dataclass(frozen=True)
class Findings:
    """What measuring a claim found.

    Attributes:
        cases: "claim" or the name of a mutant -> case name -> verdict.
        counterexample: an instance that contradicts the claim, where one was found.
    """

    cases: Mapping[str, Mapping[str, CaseVerdict]]
    counterexample: Replay | None = None

    def decision(self, statement: str) -> Decision:
        """What was decided about the claim or a mutant, over all cases that are no controls."""
        return combine(case.verdict for case in self.cases[statement].values() if not case.control)

    def __or__(self, later: "Findings") -> "Findings":
        """Both together; where they differ about a case, what was found later; the counterexample found first."""
        names = [*self.cases, *(name for name in later.cases if name not in self.cases)]
        cases = {name: {**self.cases.get(name, {}), **later.cases.get(name, {})} for name in names}
        return Findings(cases, self.counterexample or later.counterexample)

    @classmethod
    def none(cls, statements: Iterable[str]) -> "Findings":
        """Nothing found yet about these statements."""
        return cls({statement: {} for statement in statements})


class Kind(abc.ABC):
    """What a claim says of its two sides, and everything that follows from it.

    A kind is a frozen dataclass that derives from this class, sets ``words`` and defines :meth:`measure`,
    :meth:`tolerance` and :meth:`axis`. The other attributes and methods have defaults.

    Attributes:
        words: what is said of the kind.
        takes_controls: whether cases may be control arms.
        takes_enumerable: whether cases may have all outcomes of a trial enumerated.
        required_sides: fields of :class:`theory.Sides`, besides the two sides, that a trial must return.
        optional_sides: the other fields that a trial may return.
        counted_factors: factors of the theory's side: for each of them, trials that exceed it are counted.
    """

    words: ClassVar[Words]
    takes_controls: ClassVar[bool] = False
    takes_enumerable: ClassVar[bool] = False
    required_sides: ClassVar[tuple[str, ...]] = ()
    optional_sides: ClassVar[tuple[str, ...]] = ("scale", "trivial")
    counted_factors: ClassVar[tuple[float, ...]] = ()

    @abc.abstractmethod
    def measure(self, runs: "theory.runs.Runs", tier: Tier) -> Findings:
        """Measure both sides until the claim, and every mutant, is decided in every case, or the tier is spent.

        Args:
            runs: the claim's instances, and the programs that evaluate its sides on them.
            tier: how much work may be done.

        Returns:
            A verdict on every case for the claim and for each mutant, and a counterexample where there is one.
        """

    @abc.abstractmethod
    def tolerance(self, tier: Tier) -> float:
        """The tolerance with which a verdict at that tier is made."""

    @abc.abstractmethod
    def axis(self, verdict: Verdict) -> Axis | None:
        """Where the cases of a verdict lie; None where no case has a number to show."""

    @property
    def meaning(self) -> str:
        """What is said of the two sides, in one line, with the kind's settings where it has some."""
        return self.words.meaning

    @property
    def searched_fields(self) -> tuple[str, ...]:
        """Fields of an instance that the search for counterexamples may move; none, unless the kind names some."""
        return ()

    def is_exact(self, *, enumerated: bool) -> bool:
        """Whether one evaluation of an instance can contradict the statement; then the kind has a ``discrepancy``.

        Args:
            enumerated: whether the sides are expectations over all outcomes.
        """
        return False

    def of_outcome(self, sides: "theory.measurements.SideArrays") -> "theory.measurements.SideArrays":
        """What is averaged over all outcomes where they are enumerated: by default both sides as they are.

        Args:
            sides: of one outcome.
        """
        return sides

    def discrepancy(self, sides: Any, /) -> np.ndarray:
        """How much each [instance, component] contradicts the statement, from sides or from sums over trials.

        Args:
            sides: a record whose ``deviation`` is (measured − theory) / scale.
        """
        raise NotImplementedError(f"{type(self).__name__} has no discrepancy")

    @property
    def trial_arguments(self) -> tuple[Any, ...]:
        """An example of what a trial takes after the instance and the outcome."""
        return ()

    def count_instances(self, tier: Tier) -> int:
        """Instances per case at a tier."""
        return tier.instances

    def check_cases(self, claim: "theory.claim.Claim"):
        """Raise ValueError where the kind does not take one of the claim's cases."""
        name = type(self).__name__
        if not self.takes_controls and any(case.control for case in claim.cases):
            raise ValueError(f"kind of {claim.id} is {name}, with a control among the cases; it takes none")
        if not self.takes_enumerable and any(case.enumerable for case in claim.cases):
            raise ValueError(
                f"kind of {claim.id} is {name}, with an enumerable case; it takes cases whose outcomes are drawn"
            )

    def check_trials(self, sums: "theory.measurements.TrialSums", whose: str):
        """Raise ValueError where sums over trials hold what the kind does not take; by default it takes all.

        Args:
            sums: on admissible instances, [instances, components].
            whose: the statement and the claim, for messages.
        """
        return


def case_verdict(
    decision: str,
    admissible: Bool[np.ndarray, " instances"],
    *,
    method: str,
    measured: float = np.nan,
    theory: float = np.nan,
    looseness: float = np.nan,
    looseness_quantiles: tuple[float, ...] = (),
    resolution: float = np.nan,
    trials: int = 0,
    interval: tuple[float, float] | None = None,
    reason: str = "",
) -> CaseVerdict:
    """The verdict on a case, with its instances counted.

    Args:
        decision: what was decided.
        admissible: which instances met the hypotheses.
        method: how it was decided.
        measured: what the kind's words say of ``measured``.
        theory: what they say of ``theory``.
        looseness: median of theory/measured, where the kind has one.
        looseness_quantiles: the :data:`theory.verdict.QUANTILES` of theory/measured, where the kind has them.
        resolution: what the kind's words say of ``resolution``.
        trials: trials behind the decision.
        interval: what they say of ``interval``.
        reason: why it was decided so, where the numbers do not say it.
    """
    return CaseVerdict(
        verdict=Decision(decision),
        trials=trials,
        instances=len(admissible),
        admissible=int(admissible.sum()),
        measured=measured,
        theory=theory,
        looseness=looseness,
        resolution=resolution,
        interval=interval,
        method=method,
        reason=reason,
        looseness_quantiles=looseness_quantiles,
    )


def unmet(admissible: Bool[np.ndarray, " instances"], *, method: str, reason: str = "") -> CaseVerdict:
    """The verdict on a case none of whose instances met the hypotheses.

    Args:
        admissible: which instances met the hypotheses: none.
        method: how the case would have been decided.
        reason: the hypotheses that rejected them.
    """
    return replace(case_verdict(UNMET, admissible, method=method), reason=reason)


def limits(interval: Any, index: Any = ()) -> tuple[float, float]:
    """One entry of an :class:`theory.statistics.Interval`, as two numbers.

    Args:
        interval: the intervals.
        index: of the entry; none where the interval is one already.
    """
    return float(interval.low[index]), float(interval.high[index])


def check_relation(relation: str):
    """Raise ValueError unless it is "equal" or "at most"."""
    if not (isinstance(relation, str) and relation in ("equal", "at most")):
        raise ValueError(f"relation is {relation!r}; it takes 'equal' or 'at most'")


def check_margin(margin: float):
    """Raise ValueError unless it is a finite number >= 0."""
    if not (isinstance(margin, int | float | np.number) and 0 <= margin < np.inf):
        raise ValueError(f"margin is {margin!r}; it takes a number >= 0")
