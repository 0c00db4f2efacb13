"""The small pictures of the report: where each case lies on one axis a claim, as fractions of its length."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from theory.claim import Bound, Claim, Effect, Expectation, Identity, Probability, Rate
from theory.verdict import CaseVerdict, Verdict


@dataclass(frozen=True)
class Strip:
    """One case: a point and the interval around it; None where it has none."""

    point: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axis:
    """What the strips of a claim share.

    Attributes:
        caption: the quantity.
        ends: what is written at its two ends.
        marks: (place, words): where measured and theory agree, or a decision falls.
        band: the stretch that the statement, or its tolerance, allows.
        strips: by case.
    """

    caption: str
    ends: tuple[str, str]
    marks: tuple[tuple[float, str], ...]
    band: tuple[float, float]
    strips: Mapping[str, Strip]


def axis(claim: Claim, verdict: Verdict) -> Axis | None:
    """The axis that suits the claim's kind; None where no case has a number to show."""
    cases = verdict.cases
    tolerance = verdict.tolerance
    match claim.kind:
        case Identity():
            points = {name: Strip(_ratio(case.measured, case.theory)) for name, case in cases.items()}
            return _logarithmic("residual ÷ allowance", points, marks={1.0: "limit"}, band=(0.0, 1.0))
        case Bound() | Expectation(relation="at most"):
            return looseness({name: case.looseness for name, case in cases.items()})
        case Expectation():
            points = {name: _deviation(case) for name, case in cases.items()}
            marks = {0.0: "theory"}
            return _linear("deviation ÷ scale", points, marks, band=(-tolerance, tolerance))
        case Probability():
            points = {name: _relative(case) for name, case in cases.items()}
            return _linear("failure rate ÷ δ", points, {1.0: "δ", 2.0: "2δ"}, band=(0.0, 1.0), floor=0.0)
        case Rate():
            points = {name: Strip(case.measured, case.interval) for name, case in cases.items()}
            theory = next(iter(cases.values())).theory
            return _linear("exponent", points, {theory: "theory"}, band=(theory - tolerance, theory + tolerance))
        case Effect():
            points = {name: Strip(case.measured, case.interval) for name, case in cases.items()}
            return _linear("mean difference", points, {0.0: "none"}, band=(-tolerance, math.inf))


def looseness(values: Mapping[str, float]) -> Axis | None:
    """The axis of theory ÷ measured: 1 is tight, below 1 the statement fails."""
    points = {name: Strip(value if value > 0 else None) for name, value in values.items()}
    return _logarithmic("theory ÷ measured", points, marks={1.0: "tight"}, band=(1.0, math.inf))


def _ratio(measured: float, theory: float) -> float | None:
    return measured / theory if theory else None


def _deviation(case: CaseVerdict) -> Strip:
    """An expectation's interval is one of the deviation; where outcomes are enumerated, so is what was measured."""
    return Strip(case.measured) if case.interval is None else Strip(sum(case.interval) / 2, case.interval)


def _relative(case: CaseVerdict) -> Strip:
    if not case.theory:
        return Strip(None)
    interval = case.interval and (case.interval[0] / case.theory, case.interval[1] / case.theory)
    return Strip(case.measured / case.theory, interval)


def _linear(
    caption: str,
    points: Mapping[str, Strip],
    marks: Mapping[float, str],
    band: tuple[float, float],
    floor: float | None = None,
) -> Axis | None:
    points = {name: _finite(strip) for name, strip in points.items()}
    seen = list(_numbers(points.values()))
    if not seen:
        return None
    seen += [*marks, *(end for end in band if math.isfinite(end))]
    low, high = min(seen), max(seen)
    pad = 0.08 * (high - low) or 1.0
    low, high = (low - pad if floor is None else floor), high + pad

    def place(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (high - low)))

    return _placed(Axis(caption, (f"{low:.3g}", f"{high:.3g}"), tuple(marks.items()), band, points), place)


def _logarithmic(
    caption: str, points: Mapping[str, Strip], marks: Mapping[float, str], band: tuple[float, float]
) -> Axis | None:
    points = {name: _finite(strip) for name, strip in points.items()}
    seen = [value for value in _numbers(points.values()) if value > 0]
    if not seen and not any(strip.point == 0 for strip in points.values()):
        return None
    low = math.floor(min(math.log10(value) for value in [*seen, 0.5]))
    high = math.ceil(max(math.log10(value) for value in [*seen, 2.0]))

    def place(value: float) -> float:
        return 0.0 if value <= 0 else min(1.0, max(0.0, (math.log10(value) - low) / (high - low)))

    ends = (_power(low), _power(high))
    return _placed(Axis(caption, ends, tuple(marks.items()), band, points), place)


def _placed(axis: Axis, place) -> Axis:
    def strip(item: Strip) -> Strip:
        interval = item.interval and (place(item.interval[0]), place(item.interval[1]))
        return Strip(None if item.point is None else place(item.point), interval)

    return replace(
        axis,
        marks=tuple((place(value), words) for value, words in axis.marks),
        band=(place(axis.band[0]), place(axis.band[1])),
        strips={name: strip(item) for name, item in axis.strips.items()},
    )


def _finite(strip: Strip) -> Strip:
    point = strip.point if strip.point is not None and math.isfinite(strip.point) else None
    interval = strip.interval if strip.interval and all(map(math.isfinite, strip.interval)) else None
    return Strip(point, interval)


def _numbers(strips: Iterable[Strip]) -> Iterable[float]:
    for strip in strips:
        yield from strip.interval or ()
        if strip.point is not None:
            yield strip.point


def _power(exponent: int) -> str:
    if -2 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] if d != "-" else "⁻" for d in str(exponent))
