"""Where each case's estimate, interval and quantiles lie on its claim's axis, as fractions of the axis's length."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from theory.verdict import Verdict

RATIO = "theory ÷ measured"
"""The caption of the axis of :func:`looseness` and of :func:`ratios`."""
_MAX_END = sys.float_info.max / 4
"""A linear axis ends here at the latest, so that its length is a finite number; what lies beyond is at its end."""
Place = Callable[[float], float]
"""From a value to where it lies on an axis: 0 at the left end, 1 at the right one."""


@dataclass(frozen=True)
class Strip:
    """One case on an axis.

    Attributes:
        point: the estimate; None where there is none.
        interval: the ends of its confidence interval; None where there is none.
        quantiles: over the instances, ascending; empty where there are none.
        counterexample: an instance that contradicts the statement; None where there is none.
    """

    point: float | None
    interval: tuple[float, float] | None = None
    quantiles: tuple[float, ...] = ()
    counterexample: float | None = None


@dataclass(frozen=True)
class Axis:
    """What the strips of a claim share. All places are fractions of the axis's length; ``values`` has the values.

    Attributes:
        caption: the quantity.
        ticks: (place, text): round values along it.
        marks: (place, text): where measured and theory agree, or a decision falls.
        band: the stretch that the statement, or its tolerance, allows.
        strips: case name -> strip.
        values: case name -> the same strip in the units of the quantity.
    """

    caption: str
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]
    band: tuple[float, float]
    strips: Mapping[str, Strip]
    values: Mapping[str, Strip]


def linear(
    caption: str,
    strips: Mapping[str, Strip],
    *,
    marks: Mapping[float, str],
    band: tuple[float, float],
    floor: float | None = None,
) -> Axis | None:
    """A linear axis, long enough for all strips and marks.

    Args:
        caption: the quantity.
        strips: case name -> its values; values that are not finite are left out.
        marks: value -> what is written there.
        band: the values that the statement allows; an end may be infinite.
        floor: the value at the left end; chosen by the values where it is None.

    Returns:
        The axis; None where no case has a finite value.
    """
    strips = {name: _finite(strip) for name, strip in strips.items()}
    shown = list(_numbers(strips.values()))
    if not shown:
        return None
    shown += [*marks, *(end for end in band if math.isfinite(end))]
    low, high = (min(_MAX_END, max(-_MAX_END, end)) for end in (min(shown), max(shown)))
    padding = 0.08 * (high - low) or max(1.0, 1e-9 * abs(high))
    high += padding
    low = low - padding if floor is None else floor

    def place(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (high - low)))

    ticks = {value: f"{value:.6g}" for value in round_values(low, high)}
    return _placed(caption, ticks, marks, band, strips, place)


def logarithmic(
    caption: str, strips: Mapping[str, Strip], *, marks: Mapping[float, str], band: tuple[float, float]
) -> Axis | None:
    """A logarithmic axis from one power of ten to another, with 1 inside; zero lies at its left end.

    Args:
        caption: the quantity.
        strips: case name -> its values; values that are not finite are left out.
        marks: value -> what is written there.
        band: the values that the statement allows; its ends may be zero and infinite.

    Returns:
        The axis; None where no case has a finite value that is not negative.
    """
    strips = {name: _finite(strip) for name, strip in strips.items()}
    shown = [value for value in _numbers(strips.values()) if value > 0]
    if not shown and not any(strip.point == 0 for strip in strips.values()):
        return None
    low = math.floor(min(math.log10(value) for value in [*shown, 0.5]))
    high = min(math.ceil(max(math.log10(value) for value in [*shown, 2.0])), sys.float_info.max_10_exp)

    def place(value: float) -> float:
        return 0.0 if value <= 0 else min(1.0, max(0.0, (math.log10(value) - low) / (high - low)))

    ticks = {10.0**exponent: power_of_ten(exponent) for exponent in _spread(low, high)}
    return _placed(caption, ticks, marks, band, strips, place)


def looseness(values: Mapping[str, float]) -> Axis | None:
    """The axis of theory ÷ measured: at 1 a bound is tight, below 1 it fails.

    Args:
        values: name of a case, or of a claim -> its looseness; what is not positive has no point.

    Example:
        >>> axis = looseness({"tight": 1.0, "ten times too large": 10.0})
        >>> axis.ticks, axis.strips["ten times too large"].point
        (((0.0, '0.1'), (0.5, '1'), (1.0, '10')), 1.0)
    """
    return _ratio_axis({name: Strip(value if value > 0 else None) for name, value in values.items()})


def ratios(verdict: Verdict) -> Axis | None:
    """The same axis with the cases of a verdict: the median, the quantiles over instances, and the counterexample.

    The counterexample is left out where a case has no quantiles, for then its sides are no sides of the statement.

    Args:
        verdict: on one claim.
    """
    found = verdict.counterexample
    refuting = {} if found is None or not found.measured > 0 else {found.case: found.theory / found.measured}
    strips = {
        name: Strip(
            case.looseness if case.looseness > 0 else None,
            quantiles=case.looseness_quantiles,
            counterexample=refuting.get(name) if case.looseness_quantiles else None,
        )
        for name, case in verdict.cases.items()
    }
    return _ratio_axis(strips)


def round_values(low: float, high: float) -> list[float]:
    """Three to six round values between two numbers.

    >>> round_values(-0.013, 0.052)
    [0.0, 0.02, 0.04]
    """
    half = high / 2 - low / 2  # the whole length may be more than the largest number
    unit = 10.0 ** math.floor(math.log10(half / 1.5))
    step = unit * next(factor for factor in (5, 2, 1) if factor * unit * 1.5 * (1 - 1e-9) <= half)
    return [count * step for count in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def power_of_ten(exponent: int) -> str:
    """10^exponent, in digits where it is short.

    >>> power_of_ten(-2), power_of_ten(3), power_of_ten(-12)
    ('0.01', '1000', '10⁻¹²')
    """
    if -2 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + "".join("⁻" if digit == "-" else "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))


def _ratio_axis(strips: Mapping[str, Strip]) -> Axis | None:
    """The axis of theory ÷ measured."""
    return logarithmic(RATIO, strips, marks={1.0: "tight"}, band=(1.0, math.inf))


def _spread(low: int, high: int) -> range:
    """At most seven whole numbers from the first one to the last one, 0 among them, evenly spaced."""
    step = -(-(high - low) // 6)
    return range(-(-low // step) * step, high + 1, step)


def _placed(
    caption: str,
    ticks: Mapping[float, str],
    marks: Mapping[float, str],
    band: tuple[float, float],
    strips: Mapping[str, Strip],
    place: Place,
) -> Axis:
    """The axis, with every value replaced by its place."""
    return Axis(
        caption,
        ticks=tuple((place(value), text) for value, text in ticks.items()),
        marks=tuple((place(value), text) for value, text in marks.items()),
        band=(place(band[0]), place(band[1])),
        strips={name: _placed_strip(strip, place) for name, strip in strips.items()},
        values=strips,
    )


def _placed_strip(strip: Strip, place: Place) -> Strip:
    return Strip(
        None if strip.point is None else place(strip.point),
        strip.interval and (place(strip.interval[0]), place(strip.interval[1])),
        tuple(map(place, strip.quantiles)),
        None if strip.counterexample is None else place(strip.counterexample),
    )


def _finite(strip: Strip) -> Strip:
    """The strip without what is not finite."""
    return Strip(
        strip.point if strip.point is not None and math.isfinite(strip.point) else None,
        strip.interval if strip.interval and all(map(math.isfinite, strip.interval)) else None,
        strip.quantiles if all(map(math.isfinite, strip.quantiles)) else (),
        strip.counterexample if strip.counterexample is not None and math.isfinite(strip.counterexample) else None,
    )


def _numbers(strips: Iterable[Strip]) -> Iterable[float]:
    """All values of the strips."""
    for strip in strips:
        yield from strip.interval or ()
        yield from strip.quantiles
        yield from (value for value in (strip.point, strip.counterexample) if value is not None)
