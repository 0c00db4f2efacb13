"""Where each case's estimate and interval lie on its claim's axis, as fractions of the axis's length."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Place = Callable[[float], float]
"""From a value to where it lies on an axis: 0 at the left end, 1 at the right one."""


@dataclass(frozen=True)
class Strip:
    """One case on an axis.

    Attributes:
        point: the estimate; None where there is none.
        interval: the ends of its confidence interval; None where there is none.
    """

    point: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Axis:
    """What the strips of a claim share. All places are fractions of the axis's length.

    Attributes:
        caption: the quantity.
        ends: what is written at its two ends.
        marks: (place, text): where measured and theory agree, or a decision falls.
        band: the stretch that the statement, or its tolerance, allows.
        strips: case name -> strip.
    """

    caption: str
    ends: tuple[str, str]
    marks: tuple[tuple[float, str], ...]
    band: tuple[float, float]
    strips: Mapping[str, Strip]


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
    low, high = min(shown), max(shown)
    padding = 0.08 * (high - low) or 1.0
    high += padding
    low = low - padding if floor is None else floor

    def place(value: float) -> float:
        return min(1.0, max(0.0, (value - low) / (high - low)))

    return _placed(caption, (f"{low:.3g}", f"{high:.3g}"), marks, band, strips, place)


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
    high = math.ceil(max(math.log10(value) for value in [*shown, 2.0]))

    def place(value: float) -> float:
        return 0.0 if value <= 0 else min(1.0, max(0.0, (math.log10(value) - low) / (high - low)))

    return _placed(caption, (_power(low), _power(high)), marks, band, strips, place)


def looseness(values: Mapping[str, float]) -> Axis | None:
    """The axis of theory ÷ measured: at 1 a bound is tight, below 1 it fails.

    Args:
        values: name of a case, or of a claim -> its looseness; what is not positive has no point.

    Example:
        >>> axis = looseness({"tight": 1.0, "ten times too large": 10.0})
        >>> axis.ends, axis.strips["tight"].point, axis.strips["ten times too large"].point
        (('0.1', '10'), 0.5, 1.0)
    """
    strips = {name: Strip(value if value > 0 else None) for name, value in values.items()}
    return logarithmic("theory ÷ measured", strips, marks={1.0: "tight"}, band=(1.0, math.inf))


def _placed(
    caption: str,
    ends: tuple[str, str],
    marks: Mapping[float, str],
    band: tuple[float, float],
    strips: Mapping[str, Strip],
    place: Place,
) -> Axis:
    """The axis, with every value replaced by its place."""
    return Axis(
        caption,
        ends,
        marks=tuple((place(value), text) for value, text in marks.items()),
        band=(place(band[0]), place(band[1])),
        strips={name: _placed_strip(strip, place) for name, strip in strips.items()},
    )


def _placed_strip(strip: Strip, place: Place) -> Strip:
    interval = strip.interval and (place(strip.interval[0]), place(strip.interval[1]))
    return Strip(None if strip.point is None else place(strip.point), interval)


def _finite(strip: Strip) -> Strip:
    """The strip without what is not finite."""
    point = strip.point if strip.point is not None and math.isfinite(strip.point) else None
    interval = strip.interval if strip.interval and all(map(math.isfinite, strip.interval)) else None
    return Strip(point, interval)


def _numbers(strips: Iterable[Strip]) -> Iterable[float]:
    """All values of the strips."""
    for strip in strips:
        yield from strip.interval or ()
        if strip.point is not None:
            yield strip.point


def _power(exponent: int) -> str:
    """10^exponent, in digits where it is short.

    >>> _power(-2), _power(3), _power(-12)
    ('0.01', '1000', '10⁻¹²')
    """
    if -2 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + "".join("⁻" if digit == "-" else "⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))
