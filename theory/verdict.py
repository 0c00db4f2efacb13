"""What a verification returns, and the tiers of effort at which it is made."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from statistics import median_high
from typing import Any


class Decision(StrEnum):
    """What was decided about a statement, on one case or on all of them."""

    SUPPORTED = "SUPPORTED"
    """The statement holds on every admissible instance; where it is statistical, within the tolerance."""
    REFUTED = "REFUTED"
    """Some admissible instance contradicts the statement, or gave a number that is not finite."""
    VACUOUS = "VACUOUS"
    """The statement holds, but in the median instance its bound exceeds the trivial one."""
    UNMET = "UNMET"
    """No instance met the hypotheses."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """All trials of the tier were run, and the confidence interval still allows both answers."""


SUPPORTED = Decision.SUPPORTED
REFUTED = Decision.REFUTED
VACUOUS = Decision.VACUOUS
UNMET = Decision.UNMET
INCONCLUSIVE = Decision.INCONCLUSIVE

LEVEL = 1e-6
"""Probability of a wrong decision, per decision: below 10^-3 for any catalogue of under 1,000 decisions."""
EFFECT_LEVEL = 1e-3
"""The same for rates and effects, whose intervals are 99.9 % intervals."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""The quantiles of theory/measured that a case keeps: the least, the median, the largest, and four between them."""


def combine(decisions: Iterable[str]) -> Decision:
    """One decision from those on several cases or components: the worst one.

    REFUTED comes before INCONCLUSIVE, SUPPORTED and VACUOUS; the result is UNMET where all of them are, or where
    there are none.

    >>> str(combine(["UNMET", "VACUOUS", "SUPPORTED"]))
    'SUPPORTED'
    """
    present = set(decisions)
    return next((word for word in (REFUTED, INCONCLUSIVE, SUPPORTED, VACUOUS) if word in present), UNMET)


@dataclass(frozen=True)
class Tier:
    """How much work a verification may do; budgets count trials, never seconds.

    Attributes:
        name: quick, standard or full.
        instances: instances per case.
        looks: numbers of trials per instance after which the intervals are looked at, ascending.
        tolerance: relative deviation of a mean that still supports a claim.
        search_steps: gradient steps of the search for counterexamples.
        seeds: instances per case of an effect, whose trials train networks.
        few_seeds: the same of effects that ask for few seeds; 0 for as many as others have.
        min_trials: trials, over all cases of a claim, that run before the first look; observations take fewer.
        long: whether cases that are marked as long run.
    """

    name: str
    instances: int
    looks: tuple[int, ...]
    tolerance: float
    search_steps: int
    seeds: int = 16
    few_seeds: int = 0
    min_trials: int = 0
    long: bool = False

    def with_min_trials(self, instances: int) -> "Tier":
        """The tier, without looks before ``min_trials`` trials have run on that many instances together."""
        first = -(-self.min_trials // max(instances, 1))
        return replace(self, looks=tuple(sorted({max(look, first) for look in self.looks})))


TIERS = {
    tier.name: tier
    for tier in (
        Tier("quick", instances=32, looks=(32, 128, 1024, 4096), tolerance=0.10, search_steps=50, few_seeds=8),
        Tier(
            "standard",
            instances=128,
            looks=(128, 256, 1024, 4096, 16384),
            min_trials=100_000,
            tolerance=0.02,
            search_steps=200,
            seeds=32,
        ),
        Tier(
            "full",
            instances=512,
            looks=(128, 1024, 4096, 16384),
            min_trials=100_000,
            tolerance=0.01,
            search_steps=500,
            seeds=64,
            long=True,
        ),
    )
}


class _Record:
    """A record that equals another one of the same fields; nan equals nan."""

    def __eq__(self, other: object) -> bool:
        # Dataclasses would compare so only where both hold the same object nan, and from Python 3.13 on not even there.
        if other.__class__ is not self.__class__:
            return NotImplemented
        named = [field.name for field in fields(self) if field.compare]  # pyright: ignore[reportArgumentType]
        return all(_same(getattr(self, name), getattr(other, name)) for name in named)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or are nan, or are tuples of such values."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    both_nan = one != one and other != other
    return bool(one == other) or both_nan


@dataclass(frozen=True, eq=False)
class CaseVerdict(_Record):
    """The verdict on one case.

    What ``measured``, ``theory``, ``resolution`` and ``interval`` are depends on the kind of claim: see the ``words``
    of each kind in :mod:`theory.kinds`.

    Attributes:
        verdict: the decision.
        trials: trials behind the verdict; 0 where all outcomes are enumerated or nothing is random.
        instances: instances made.
        admissible: instances that met the hypotheses.
        measured: the measured side, in one number.
        theory: the theory's side, in one number.
        looseness: median of theory/measured over instances and components whose measured side is > 0 (bounds,
            expectations, probabilities), else nan.
        resolution: what a wrong statement would have to get wrong to be noticed; nan where the kind does not say.
        interval: the confidence interval that decided; None where nothing is random.
        method: how it was decided: "rounding", "enumerated", "empirical Bernstein", "asymptotic",
            "exact binomial", "slopes" or "paired".
        control: whether the case is a control arm, which has no part in the verdict on the claim.
        reason: why the verdict is UNMET, INCONCLUSIVE or REFUTED, where the numbers do not say it; else empty.
        contrast: of a control, the effect minus this control, averaged over the instances that they share; else nan.
        contrast_interval: the confidence interval of that mean; else None.
        points: of a rate, each size with the geometric mean of what was measured there; else empty.
        looseness_quantiles: the :data:`QUANTILES` of the same ratios whose median is ``looseness``; else empty.
    """

    verdict: Decision
    trials: int
    instances: int
    admissible: int
    measured: float
    theory: float
    looseness: float
    interval: tuple[float, float] | None
    method: str
    control: bool = False
    resolution: float = math.nan
    reason: str = ""
    contrast: float = math.nan
    contrast_interval: tuple[float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    looseness_quantiles: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Certificate(_Record):
    """Whether ball arithmetic proves that an instance contradicts a statement.

    Attributes:
        certified: whether it does. The instance's numbers are taken as exact, and so are those of the trial's draw.
        margin: by how much the statement fails at least, relative to the larger side and the scale; nan where this is
            not certified.
        bits: precision of the balls that decided; 0 where nothing was evaluated.
        reason: why this is not certified; empty where it is.
    """

    certified: bool
    margin: float = math.nan
    bits: int = 0
    reason: str = ""

    @property
    def text(self) -> str:
        """What it says, in words.

        >>> Certificate(True, margin=0.1875, bits=64).text
        'CERTIFIED, the statement fails by at least 0.187 of the larger side (balls of 64 bits)'
        >>> Certificate(False, reason="erf has no ball version").text
        'not certified, erf has no ball version'
        """
        if not self.certified:
            return f"not certified, {self.reason}"
        digits = 10.0 ** (2 - math.floor(math.log10(self.margin)))
        shown = math.floor(self.margin * digits * (1 + 1e-12)) / digits
        excess = f"the statement fails by at least {shown:.3g} of the larger side"
        return f"CERTIFIED, {excess} (balls of {self.bits} bits)"


@dataclass(frozen=True, eq=False)
class Replay(_Record):
    """An instance that contradicts a claim, or comes closest to it, written down.

    Attributes:
        case: name of its case.
        instance: its index among the instances of the case; where a search found it, of the instance it started from.
        found_by: "instance", "search", "trials", "memory" of an earlier run, or "shrinking" from one of these.
        component: the component of the sides that is meant, counted over the raveled sides.
        measured: the measured side; a mean where trials found it.
        theory: the theory's side; a mean where trials found it.
        values: the instance's fields: small arrays as nested lists, large ones as their dtype and shape.
        key: the data of the random key that the trial draws with; empty for means over trials.
        smaller: the smallest counterexample that shrinking reached from this one; None where it does not apply.
        certificate: of a shrunk counterexample; else None.
        program: of a shrunk counterexample, a Python file that prints both sides; else empty.
        drawn: of a shrunk counterexample, what its key drew, such as the mask, as ``values`` are; else empty.
    """

    case: str
    instance: int
    found_by: str
    component: int
    measured: float
    theory: float
    values: Mapping[str, Any]
    key: tuple[int, ...] = ()
    smaller: "Replay | None" = None
    certificate: Certificate | None = None
    program: str = ""
    drawn: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Replay":
        """The replay from its ``dataclasses.asdict`` as strict JSON, in which numbers that are nan are None."""
        known: dict[str, Any] = _with_nan(fields, "measured", "theory")
        known["key"] = tuple(fields["key"])
        known["smaller"] = fields["smaller"] and cls.from_json(fields["smaller"])
        known["certificate"] = fields["certificate"] and Certificate(**_with_nan(fields["certificate"], "margin"))
        return cls(**known)

    @property
    def ratio(self) -> float:
        """measured/theory; nan where the theory's side is zero."""
        return self.measured / self.theory if self.theory else math.nan


@dataclass(frozen=True, eq=False)
class Verdict(_Record):
    """The verdict on a claim, its cases and its mutants.

    Attributes:
        id: the claim's.
        kind: name of the claim's kind: identity, bound, expectation, probability, rate, effect, or a user's own.
        verdict: the decision over all cases that are no controls.
        expected: the decision that the mathematics predicts; None for effects.
        tolerance: relative tolerance of the decision (of the exponent for rates, the margin for effects; 1 for
            probabilities: failure rates that are known to lie below 2δ pass).
        cases: case name -> verdict.
        mutants: mutant name -> decision; every one should be REFUTED.
        counterexample: what refuted the claim, where it is REFUTED and one instance shows why; else None.
        elapsed_s: seconds it took.
    """

    id: str
    kind: str
    verdict: Decision
    expected: Decision | None
    tolerance: float
    cases: dict[str, CaseVerdict]
    mutants: dict[str, Decision]
    counterexample: Replay | None
    elapsed_s: float = field(compare=False)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Verdict":
        """The verdict from its ``dataclasses.asdict`` as strict JSON, in which numbers that are nan are None."""
        cases = {name: CaseVerdict(**_case_fields(case)) for name, case in fields["cases"].items()}
        replay = fields["counterexample"] and Replay.from_json(fields["counterexample"])
        words = {
            "verdict": Decision(fields["verdict"]),
            "expected": None if fields["expected"] is None else Decision(fields["expected"]),
            "mutants": {name: Decision(word) for name, word in fields["mutants"].items()},
        }
        return cls(**{**fields, **words, "cases": cases, "counterexample": replay})

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one and every mutant is refuted."""
        return (self.expected in (None, self.verdict)) and all(word == REFUTED for word in self.mutants.values())

    @property
    def undecided(self) -> bool:
        """Whether more trials could change this: the claim or a mutant is INCONCLUSIVE."""
        return INCONCLUSIVE in (self.verdict, *self.mutants.values())

    @property
    def trials(self) -> int:
        """Trials behind the verdict, over all cases."""
        return sum(case.trials for case in self.cases.values())

    @property
    def looseness(self) -> float:
        """Median of theory/measured over the cases that have one; nan where no case has."""
        finite = [case.looseness for case in self.cases.values() if not math.isnan(case.looseness)]
        return median_high(finite) if finite else math.nan

    @property
    def resolution(self) -> float:
        """The largest of the cases that have one; nan where no case has."""
        finite = [case.resolution for case in self.cases.values() if not math.isnan(case.resolution)]
        return max(finite, default=math.nan)


def _with_nan(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The fields, with nan for those numbers that strict JSON has as None."""
    return {**fields, **{name: math.nan for name in names if fields[name] is None}}


def _case_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    intervals = {
        name: fields[name] and tuple(math.nan if end is None else end for end in fields[name])
        for name in ("interval", "contrast_interval")
    }
    numbers = _with_nan(fields, "measured", "theory", "looseness", "resolution", "contrast")
    drawn = {
        "points": tuple(tuple(point) for point in fields["points"]),
        "looseness_quantiles": tuple(fields["looseness_quantiles"]),
    }
    return numbers | intervals | drawn | {"verdict": Decision(fields["verdict"])}
