"""What a claim is: a theorem as data that :func:`theory.verify` can measure.

A claim says how instances are made (``cases``), which of them it speaks about (``hypotheses``), and how the
two sides of the theorem are evaluated on one of them (``trial``). Its kind decides how often the trial runs, and what
follows from the results.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array

from sketchprune.data import Dataset
from sketchprune.types import Key
from theory import checks
from theory.kinds.kind import STATEMENT, Kind

Instance = Any
"""One record of arrays: a flax.struct dataclass. All instances of one case have one shape."""
Outcome = Any
"""What chance decided in one trial: usually a mask."""
Expected = Literal["SUPPORTED", "REFUTED", "VACUOUS"]
"""The verdicts that mathematics can predict."""


class Sides(NamedTuple):
    """Both sides of a statement on one instance, component by component.

    Attributes:
        measured: what was measured; any shape.
        theory: what the theory says of it; broadcasts against ``measured``.
        scale: what rounding errors and tolerances are relative to; |theory| where it is not given. Chance may not
            decide it: the mean of ratios is not the ratio of means.
        trivial: a value known without the theory, such as the error of the zero mask: a bound above it is vacuous.
        range: for expectations, an upper bound on max(measured) − min(measured) over the outcomes. With it
            the confidence interval holds at every sample size; without it the interval is asymptotic.
        delta: for probabilities, the failure rate that the statement allows.
    """

    measured: Array
    theory: Array
    scale: Array | None = None
    trivial: Array | None = None
    range: Array | None = None
    delta: Array | None = None


@dataclass(frozen=True)
class Source:
    """Where a statement comes from.

    Attributes:
        key: key of ``references.bib``; for a paper that is not there, what it is called.
        status: "stated" there; "derived" here from what it announces; "known-false": a tempting strengthening.
        locus: the lemma or theorem, where one is known.
    """

    key: str
    status: Literal["stated", "derived", "known-false"] = "derived"
    locus: str = ""

    def __post_init__(self):
        checks.check_source(self)


@dataclass(frozen=True)
class Case:
    """A generator of instances.

    Attributes:
        name: unique within a claim; ``{data}`` in it becomes the name of the data set.
        make: ``make(rng, dataset) -> instance``, in NumPy: making instances compiles nothing. It raises
            :class:`NoInstance` where the data have none.
        enumerable: whether all outcomes of a trial are enumerated by the claim's ``outcomes``, so that an expectation
            is an identity and a failure rate a probability that is known.
        control: a control arm: reported, but not part of the claim's verdict.
        long: whether the case runs at the full tier only.
        stream: name of the random stream that ``make`` draws from; the case's own name where it is empty. Cases of one
            stream, such as an arm and its controls, draw the same.
    """

    name: str
    make: Callable[[np.random.Generator, Dataset], Instance]
    enumerable: bool = False
    control: bool = False
    long: bool = False
    stream: str = ""

    def __post_init__(self):
        checks.check_case(self)


class Axis(NamedTuple):
    """An axis along which an instance can be cut: its samples, features, layers, or the units of a layer.

    Attributes:
        size: ``size(instance)``, how many entries the axis has.
        keep: ``keep(instance, indices)``, the instance with these entries of the axis alone, as NumPy arrays. What is
            returned must be an instance of the claim.
    """

    size: Callable[[Instance], int]
    keep: Callable[[Instance, np.ndarray], Instance]


def along(**axis_of: int) -> Axis:
    """The axis that some fields share.

    Args:
        axis_of: field -> which of its axes it is.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(x=np.eye(3), w=np.arange(3.0), replace=lambda **fields: fields)
        >>> features = along(x=1, w=0)
        >>> features.size(model), features.keep(model, np.array([0, 2]))["w"].tolist()
        (3, [0.0, 2.0])
    """
    first, axis = next(iter(axis_of.items()))

    def keep(instance: Instance, indices: np.ndarray) -> Instance:
        return instance.replace(
            **{field: np.take(getattr(instance, field), indices, axis) for field, axis in axis_of.items()}
        )

    return Axis(lambda instance: np.shape(getattr(instance, first))[axis], keep)


class NoInstance(ValueError):
    """What ``make`` raises where the data have no instance of a case: the case is UNMET, and this says why.

    Its message is a statement that the data would have to meet, as the name of a hypothesis is.
    """


def unprepared(instance: Instance) -> Instance:
    """The instance as its case made it: the default of :attr:`Claim.prepare`."""
    return instance


def key_alone(instance: Instance, key: Key) -> Outcome:
    """The key itself: the default of :attr:`Claim.draw`."""
    return key


_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)*")


@dataclass(frozen=True, eq=False)
class Claim:
    """A theorem, as :func:`theory.verify` measures it.

    Attributes:
        id: permanent, "family/name": lower-case words joined by hyphens. Random keys derive from it.
        title: one line in words.
        statement: the formula, in LaTeX.
        sources: where it comes from.
        kind: what is said of the two sides: see :mod:`theory.kinds`.
        cases: where it is tested.
        trial: ``trial(instance, outcome) -> {"claim": Sides, mutant: Sides, ...}``. The measured side never
            calls the formula that it checks. Mutants share the trial's work: they replace a side.
        mutants: names of false variants, each of which the same check must refute in some case.
        draw: ``draw(instance, key) -> outcome``; without it the outcome is the key itself.
        outcomes: ``outcomes(instance) -> (outcomes, probabilities)`` with a leading axis over all outcomes, for
            enumerable cases; probabilities are [outcomes] or broadcast against the sides' components.
        prepare: ``prepare(instance) -> instance``: work done once per instance, and not once per trial.
        hypotheses: predicates of a prepared instance, by name. An instance that one of them rejects is not
            admissible: it is counted, and decides nothing.
        free: fields of an instance whose floating entries may take any value, as far as the hypotheses allow it: a
            counterexample is made simpler in them. The fields that the kind's search moves are free as well.
        axes: name -> axis along which a counterexample may be cut, such as ``{"samples": along(x=0, y=0)}``.
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
    draw: Callable[[Instance, Key], Outcome] = key_alone
    outcomes: Callable[[Instance], tuple[Outcome, Array]] | None = None
    prepare: Callable[[Instance], Instance] = unprepared
    hypotheses: Mapping[str, Callable[[Instance], Array]] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    axes: Mapping[str, Axis] = field(default_factory=dict)
    expected: Expected | None = "SUPPORTED"
    batch: int = 4096
    note: str = ""

    def __post_init__(self):
        if not (isinstance(self.id, str) and _ID.fullmatch(self.id)):
            raise ValueError(
                f"id is {self.id!r}; it takes lower-case words joined by '-' and '/', such as 'sketch/unbiased'"
            )
        checks.check_fields(self)
        self._check_cases()
        if STATEMENT in self.mutants or len(set(self.mutants)) < len(self.mutants):
            raise ValueError(
                f"mutants of {self.id} is {self.mutants}; it takes names that differ, none of them {STATEMENT!r}"
            )
        if not isinstance(self.free, tuple) or not all(isinstance(name, str) for name in self.free):
            raise ValueError(f"free of {self.id} is {self.free!r}; it takes a tuple of field names, such as ('x',)")
        if not isinstance(self.axes, Mapping) or not all(isinstance(axis, Axis) for axis in self.axes.values()):
            raise ValueError(
                f"axes of {self.id} is {self.axes!r}; it takes names with an Axis each, such as along(x=0)"
            )

    def _check_cases(self):
        if not self.cases:
            raise ValueError(f"cases of {self.id} is (); it takes at least one Case")
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ValueError(f"cases of {self.id} have the names {names}; it takes names that differ")
        if all(case.control or case.long for case in self.cases):
            raise ValueError(f"cases of {self.id} are controls or long; it takes at least one that is neither")
        if self.outcomes is None and any(case.enumerable for case in self.cases):
            raise ValueError(f"outcomes of {self.id} is None; an enumerable case takes a function")
        self.kind.check_cases(self)

    def chosen(self, *, long: bool) -> tuple[Case, ...]:
        """The cases that run: all of them, or those that are not long."""
        return tuple(case for case in self.cases if long or not case.long)

    @property
    def movable_fields(self) -> tuple[str, ...]:
        """The fields that a counterexample may be changed in: the free ones, and those that the search moves."""
        return tuple(dict.fromkeys((*self.free, *self.kind.searched_fields)))

    @property
    def family(self) -> str:
        """The part of the id before its first slash."""
        return self.id.split("/", 1)[0]
