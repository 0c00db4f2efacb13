"""What a claim is: a theorem as data that :func:`theory.verify` can measure.

A claim says how instances are made (``cases``), which of them it speaks about (``hypotheses``), and how the
two sides of the theorem are evaluated on one of them (``trial``). It says it once; kind, tier and statistics
decide how often the trial runs and what its outcome is worth.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array

from sketchprune.data import Dataset
from sketchprune.types import Key

Instance = Any
"""One record of arrays: a flax.struct dataclass. All instances of one case have one shape."""
Outcome = Any
"""What chance decided in one trial: usually a mask."""


class Sides(NamedTuple):
    """Both sides of a statement on one instance, component by component.

    Attributes:
        measured: what was measured; any shape.
        theory: what the theory says of it; broadcasts against ``measured``.
        scale: what rounding error and tolerance are relative to; |theory| where it is not given. Chance may not
            decide it: the mean of ratios is not the ratio of means.
        trivial: a value known without the theory (the zero mask, predicting 0): a bound above it is vacuous.
        range: for expectations, an upper bound on max(measured) − min(measured) over the outcomes; with it
            the confidence interval holds at every sample size, without it the interval is asymptotic.
        delta: for probabilities, the failure rate that the statement allows.
    """

    measured: Array
    theory: Array
    scale: Array | None = None
    trivial: Array | None = None
    range: Array | None = None
    delta: Array | None = None


@dataclass(frozen=True)
class Identity:
    """measured = theory on every admissible instance, to rounding."""


@dataclass(frozen=True)
class Bound:
    """measured <= theory on every admissible instance.

    Attributes:
        search: names of the instance's floating fields which the search for counterexamples may move; empty
            where the measured side cannot be differentiated.
    """

    search: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """E measured = E theory, or <=, over the outcomes of a trial.

    Decided on the deviation (measured − theory) / scale averaged over the admissible instances of a case, or on every
    one of them where the outcomes are enumerated.

    Attributes:
        relation: "equal" or "at most".
    """

    relation: Literal["equal", "at most"] = "equal"


@dataclass(frozen=True)
class Probability:
    """P(measured > theory) <= delta over the outcomes of a trial, and over the admissible instances of a case."""


@dataclass(frozen=True)
class Rate:
    """measured(size) ~ size^theory: the slope of log measured against log size.

    ``trial(instance, key, size)`` is compiled once a size; its ``theory`` is the exponent.

    Attributes:
        sizes: the sizes, ascending.
        relation: "equal", or "at most" where the exponent is an upper rate.
        margin: how far an exponent may lie from the theory's and still support it.
    """

    sizes: tuple[int, ...]
    relation: Literal["equal", "at most"] = "equal"
    margin: float = 0.1


@dataclass(frozen=True)
class Effect:
    """measured − theory >= −margin on average over paired trials: an observation, not a theorem.

    The word on an effect is that of its cases but for the controls, which say what its cause is.

    Attributes:
        margin: the difference that is still called a match, in the units of the two sides.
    """

    margin: float = 0.0


Kind = Identity | Bound | Expectation | Probability | Rate | Effect


@dataclass(frozen=True)
class Source:
    """Where a statement comes from.

    Attributes:
        key: key of ``references.bib``; of a paper that is not there, what it is called.
        status: "stated" there; "derived" here from what it announces; "known-false": a tempting strengthening.
        locus: the lemma or theorem, where one is known.
    """

    key: str
    status: Literal["stated", "derived", "known-false"] = "derived"
    locus: str = ""


@dataclass(frozen=True)
class Case:
    """A generator of instances.

    Attributes:
        name: unique within a claim; ``{data}`` in it becomes the name of the data set.
        make: ``make(rng, dataset) -> instance``, in numpy: making instances compiles nothing.
        enumerable: all outcomes of a trial are enumerated by the claim's ``outcomes``, so that an expectation
            is an identity.
        control: of an effect without what should cause it: reported, and left out of the word on the claim.
        long: runs at the full tier only.
    """

    name: str
    make: Callable[[np.random.Generator, Dataset], Instance]
    enumerable: bool = False
    control: bool = False
    long: bool = False


def unprepared(instance: Instance) -> Instance:
    return instance


def _chance(instance: Instance, key: Key) -> Outcome:
    return key


STATEMENT = "claim"
"""The key under which a trial returns the claim's own sides; every other key is a mutant's."""

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)*")


@dataclass(frozen=True, eq=False)
class Claim:
    """A theorem, as :func:`theory.verify` measures it.

    Attributes:
        id: permanent, "family/name": lower-case words joined by hyphens. Random keys derive from it.
        title: one line in words.
        statement: the formula, in LaTeX.
        sources: where it comes from.
        kind: what is said of the two sides.
        cases: where it is tested.
        trial: ``trial(instance, outcome) -> {"claim": Sides, mutant: Sides, ...}``. The measured side never
            calls the formula that it checks. Mutants share its work: they replace a side.
        mutants: names of false variants, each of which the same check must refute in some case.
        draw: ``draw(instance, key) -> outcome``; without it the outcome is the key itself.
        outcomes: ``outcomes(instance) -> (outcomes, probabilities)`` with a leading axis over all outcomes, for
            enumerable cases; probabilities are [outcomes] or broadcast against the sides' components.
        prepare: ``prepare(instance) -> instance``: work done once an instance and not once a trial.
        hypotheses: predicates of a prepared instance, by name. An instance which one of them rejects is not
            admissible: it is counted, and decides nothing.
        expected: the verdict that the mathematics predicts; None for effects.
        batch: instances and trials that are evaluated at once; smaller where one of them holds a network.
        note: what a reader of the verdict should know.
    """

    id: str
    title: str
    statement: str
    sources: tuple[Source, ...]
    kind: Kind
    cases: tuple[Case, ...]
    trial: Callable[..., dict[str, Sides]]
    mutants: tuple[str, ...] = ()
    draw: Callable[[Instance, Key], Outcome] = _chance
    outcomes: Callable[[Instance], tuple[Outcome, Array]] | None = None
    prepare: Callable[[Instance], Instance] = unprepared
    hypotheses: Mapping[str, Callable[[Instance], Array]] = field(default_factory=dict)
    expected: Literal["SUPPORTED", "REFUTED"] | None = "SUPPORTED"
    batch: int = 4096
    note: str = ""

    def __post_init__(self):
        if not _ID.fullmatch(self.id):
            raise ValueError(
                f"id: got {self.id!r}; takes lower-case words joined by '-' and '/', such as 'sketch/unbiased'"
            )
        if not self.cases:
            raise ValueError(f"cases of {self.id}: got none; takes at least one Case")
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ValueError(f"cases of {self.id}: got the names {names}; takes names that differ")
        if all(case.control or case.long for case in self.cases):
            raise ValueError(f"cases of {self.id}: got controls and long ones; takes at least one that is neither")
        if any(case.control for case in self.cases) and not isinstance(self.kind, Effect):
            raise ValueError(f"cases of {self.id}: got a control; a {type(self.kind).__name__} takes none")
        if STATEMENT in self.mutants or len(set(self.mutants)) < len(self.mutants):
            raise ValueError(
                f"mutants of {self.id}: got {self.mutants}; takes names that differ, none of them {STATEMENT!r}"
            )
        if any(case.enumerable for case in self.cases):
            if self.outcomes is None:
                raise ValueError(f"outcomes of {self.id}: got None; an enumerable case takes a function")
            if isinstance(self.kind, Probability):
                raise ValueError(
                    f"cases of {self.id}: got an enumerable one; a Probability takes cases whose outcomes are drawn"
                )

    def chosen(self, *, long: bool) -> tuple[Case, ...]:
        """The cases that run: all of them, or those that are not long."""
        return tuple(case for case in self.cases if long or not case.long)

    @property
    def family(self) -> str:
        """The part of the id before its first slash."""
        return self.id.split("/", 1)[0]
