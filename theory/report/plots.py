"""The plots of a claim, as inline SVG made from the numbers in verdicts.json.

A rate has its points with the fitted slope and the theory's. Every kind has its cases on an axis: quantiles of
theory ÷ measured, failure rates against the one that is allowed, or effects with their controls.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from theory.kinds import Kind
from theory.kinds.axes import RATIO, Axis, Strip, power_of_ten, ratios
from theory.kinds.effect import contrast_name
from theory.report.formats import number
from theory.report.run import Tone, tone
from theory.report.svg import CHARACTERS, WIDTH, drawing, element, shortened, text, tip
from theory.verdict import CaseVerdict, Verdict

LEFT, RIGHT = 8.0, WIDTH - 8.0
"""Where the axis of cases begins and ends."""
TOP, ROW, LINE, BOTTOM = 34.0, 34.0, 14.0, 22.0
"""Height of what is above the cases, of a case, of one more line of its text, and of the ticks below the cases."""
FRAME = (44.0, 54.0, WIDTH - 10.0, 208.0)
"""Left, top, right and bottom of the points of a rate; the ticks are outside."""
Place = tuple[float, float]
"""Across and up, or across and down in a drawing."""


@dataclass(frozen=True)
class Row:
    """A line of the plot of cases.

    Attributes:
        name: of the strip on the axis.
        label: what is written at its left.
        tone: its colour.
        shape: "dot" for an estimate; "ring" for that on a control arm; "diamond" for an effect minus a control.
    """

    name: str
    label: str
    tone: Tone
    shape: str = "dot"


def claim_plots(kind: Kind, verdict: Verdict) -> list[Markup]:
    """All plots of a claim.

    Args:
        kind: the claim's.
        verdict: on it.
    """
    shown = [
        rate_plot(name, case, tone(case.verdict, verdict.expected))
        for name, case in verdict.cases.items()
        if case.points
    ]
    axis = kind.axis(verdict)
    if axis is not None:
        shown.append(case_plot(axis, list(_rows(verdict, axis))))
    loose = ratios(verdict) if axis is None or axis.caption != RATIO else None
    if loose is not None:
        shown.append(case_plot(loose, [row for row in _rows(verdict, loose) if loose.values[row.name] != Strip(None)]))
    return shown


def case_plot(axis: Axis, rows: Sequence[Row]) -> Markup:
    """The cases of a claim on its axis: estimates with intervals, or medians with quantiles.

    A box holds the middle half of the instances, the thick line nine tenths of them, the thin line all.

    Args:
        axis: the claim's.
        rows: a line for each case, and for each effect minus a control.
    """
    rows = [row for row in rows if row.name in axis.strips]
    said = "; ".join(f"{row.label}: {words(axis.values[row.name])}" for row in rows)
    lines, bottom = [], TOP
    for row in rows:
        line, bottom = _line(axis, row, bottom)
        lines.append(line)
    return drawing(
        bottom + BOTTOM,
        text(0.0, 11.0, axis.caption, "caption"),
        *_scale(axis, bottom),
        *lines,
        label=f"{axis.caption}. {said}",
        class_="plot",
    )


def words(values: Strip) -> str:
    """An estimate with its interval or quantiles, in words.

    >>> words(Strip(0.5, (0.25, 1.0))), words(Strip(2.0, quantiles=(1.0, 2.0, 8.0))), words(Strip(None))
    ('0.5 in [0.25, 1]', 'least 1, median 2', 'no number')
    """
    if values.quantiles:
        said = f"least {number(values.quantiles[0])}, median {number(values.point)}"
    elif values.point is None:
        said = "no number"
    else:
        said = number(values.point)
    if values.interval:
        said += f" in [{number(values.interval[0])}, {number(values.interval[1])}]"
    return said if values.counterexample is None else f"{said}; counterexample {number(values.counterexample)}"


def rate_plot(name: str, case: CaseVerdict, colour: Tone) -> Markup:
    """What a rate measured at each size, both axes logarithmic, with the fitted slope and the theory's.

    Args:
        name: of the case.
        case: one that has points.
        colour: of the points and the fit.
    """
    logs = [(math.log(size), math.log(value)) for size, value in case.points]
    fit, theory = (_through_middle(logs, slope) for slope in (case.measured, case.theory))
    frame = _Frame.around([*logs, *fit, *theory])
    fitted = words(Strip(case.measured, case.interval))
    bottom = FRAME[3]
    return drawing(
        bottom + 34,
        text(0.0, 11.0, name, "caption"),
        element("line", x1=0, y1=24, x2=18, y2=24, class_="fit"),
        text(23.0, 28.0, f"fit, exponent {fitted}", "value"),
        element("line", x1=0, y1=39, x2=18, y2=39, class_="theory"),
        text(23.0, 43.0, f"theory, exponent {number(case.theory)}", "value"),
        *frame.ticks(size for size, _ in case.points),
        frame.line(theory, "theory"),
        frame.line(fit, "fit"),
        *(
            frame.point(place, f"{number(value)} at {size:g}")
            for place, (size, value) in zip(logs, case.points, strict=True)
        ),
        text((FRAME[0] + FRAME[2]) / 2, bottom + 30, "size", "tick", anchor="middle"),
        label=f"{name}: measured against size, both logarithmic. Exponent {fitted}, theory {number(case.theory)}",
        class_=f"plot {colour}",
    )


def _through_middle(logs: Sequence[Place], slope: float) -> tuple[Place, Place]:
    """The two ends of the line with a slope through the mean of some points."""
    x, y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    start, stop = logs[0][0], logs[-1][0]
    return (start, y + slope * (start - x)), (stop, y + slope * (stop - x))


@dataclass(frozen=True)
class _Frame:
    """Where the logarithms of sizes and of values lie in the plot of a rate.

    Attributes:
        sizes: the logarithms at its left and at its right.
        values: those at its bottom and at its top.
    """

    sizes: tuple[float, float]
    values: tuple[float, float]

    @classmethod
    def around(cls, logs: Sequence[Place]) -> "_Frame":
        """The frame that holds these points, with a little room around them."""
        return cls(*(_padded(values) for values in zip(*logs, strict=True)))

    def place(self, logs: Place) -> Place:
        """From the logarithms of a size and a value to a place in the drawing."""
        left, top, right, bottom = FRAME
        across = (logs[0] - self.sizes[0]) / (self.sizes[1] - self.sizes[0])
        up = (logs[1] - self.values[0]) / (self.values[1] - self.values[0])
        return left + (right - left) * across, bottom - (bottom - top) * up

    def line(self, ends: tuple[Place, Place], class_: str) -> Markup:
        """A line between two points."""
        (x1, y1), (x2, y2) = map(self.place, ends)
        return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)

    def point(self, logs: Place, said: str) -> Markup:
        """A point, and what is said of it."""
        x, y = self.place(logs)
        return element("circle", tip(said), cx=x, cy=y, r=4, class_="point")

    def ticks(self, sizes: Iterable[float]) -> Iterator[Markup]:
        """The frame itself, a tick for each size, and lines at round values."""
        left, top, right, bottom = FRAME
        yield element("rect", x=left, y=top, width=right - left, height=bottom - top, class_="frame")
        written = -math.inf
        for size in sizes:
            x, _ = self.place((math.log(size), self.values[0]))
            yield element("line", x1=x, y1=bottom, x2=x, y2=bottom + 4, class_="mark")
            if x - written > 34:  # else it would be written over the one before
                yield text(x, bottom + 16, f"{size:g}", "tick", anchor="middle")
                written = x
        for value, label in _round_values(*self.values):
            _, y = self.place((self.sizes[0], math.log(value)))
            yield element("line", x1=left, y1=y, x2=right, y2=y, class_="track")
            yield text(left - 5, y + 3.5, label, "tick", anchor="end")


def _round_values(low: float, high: float) -> list[tuple[float, str]]:
    """At most six powers of ten between two logarithms, or 1, 2 and 5 times them where there are few."""
    exponents = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
    powers = {10.0**exponent: power_of_ten(exponent) for exponent in exponents}
    fine = {factor * power: number(factor * power) for power in powers for factor in (1, 2, 5)}
    coarse, all_ = (
        [(value, label) for value, label in each.items() if low <= math.log(value) <= high] for each in (powers, fine)
    )
    shown = coarse if len(coarse) > 1 else all_
    return shown[:: max(1, -(-len(shown) // 6))]


def _rows(verdict: Verdict, axis: Axis) -> Iterator[Row]:
    """A row for each case, and below each control one for the effect minus it, where the axis has one."""
    effects = [name for name, case in verdict.cases.items() if not case.control]
    for name, case in verdict.cases.items():
        colour = tone(case.verdict, verdict.expected)
        if case.control:
            # A control is mostly called "digits, shuffled masks", after the case that is called "digits".
            effect = max((each for each in effects if name.startswith(f"{each}, ")), key=len, default="")
            yield Row(name, f"control, {name.removeprefix(f'{effect}, ')}", colour, "ring")
        else:
            yield Row(name, name, colour)
        if contrast_name(name) in axis.strips:
            yield Row(contrast_name(name), "effect − this control", "seen", "diamond")


def _scale(axis: Axis, bottom: float) -> Iterator[Markup]:
    """The band, the ticks and the marks of an axis."""
    start, stop = map(_x, axis.band)
    yield element("rect", x=start, y=TOP, width=stop - start, height=bottom - TOP, class_="band")
    for place, label in axis.ticks:
        yield element("line", x1=_x(place), y1=TOP, x2=_x(place), y2=bottom + 4, class_="track")
        yield text(_x(place), bottom + 16, label, "tick", anchor=_anchor(place))
    written = -1.0
    for place, label in axis.marks:
        yield element("line", tip(label), x1=_x(place), y1=TOP - 4, x2=_x(place), y2=bottom, class_="mark")
        if place - written > 0.1:
            yield text(_x(place), TOP - 8, label, "tick", anchor=_anchor(place))
            written = place


def _line(axis: Axis, row: Row, top: float) -> tuple[Markup, float]:
    """A row of the plot of cases, its words above what they say; and where the next row begins."""
    strip, said = axis.strips[row.name], words(axis.values[row.name])
    drop = LINE if len(row.label) + len(said) + 3 > CHARACTERS else 0.0
    middle = top + drop + 23
    written = [
        text(0.0, top + 11, shortened(row.label), "label"),
        text(WIDTH, top + drop + 11, said, "value", anchor="end"),
    ]
    parts = [element("line", x1=LEFT, y1=middle, x2=RIGHT, y2=middle, class_="track")]
    if strip.interval is not None:
        parts.append(_segment(*strip.interval, middle, "interval"))
    if strip.quantiles:
        parts += _box(strip.quantiles, middle)
    elif strip.point is not None:
        parts.append(_shape(row.shape, _x(strip.point), middle))
    if strip.counterexample is not None:
        x = _x(strip.counterexample)
        cross = f"M{x - 4:.2f} {middle - 4:.2f}l8 8m0 -8l-8 8"
        parts.append(element("path", tip("counterexample"), d=cross, class_="cross"))
    drawn = element("g", tip(f"{row.label}: {said}"), *written, *parts, class_=row.tone)
    return drawn, top + drop + ROW


def _box(quantiles: Sequence[float], y: float) -> list[Markup]:
    """Seven quantiles: all, nine tenths, the middle half, the median."""
    least, low, quarter, median, three_quarters, high, largest = quantiles
    x, width = _x(quarter), max(_x(three_quarters) - _x(quarter), 1.0)
    return [
        _segment(least, largest, y, "whisker"),
        _segment(low, high, y, "most"),
        element("rect", x=x, y=y - 5, width=width, height=10, class_="box"),
        element("line", x1=_x(median), y1=y - 6, x2=_x(median), y2=y + 6, class_="median"),
    ]


def _segment(start: float, stop: float, y: float, class_: str) -> Markup:
    """A horizontal line between two places."""
    return element("line", x1=_x(start), y1=y, x2=_x(stop), y2=y, class_=class_)


def _shape(name: str, x: float, y: float) -> Markup:
    """The mark of an estimate."""
    if name == "diamond":
        return element("path", d=f"M{x - 5:.2f} {y:.2f}l5 -5l5 5l-5 5z", class_="point")
    return element("circle", cx=x, cy=y, r=4.5, class_="point" if name == "dot" else "point ring")


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest value, and a little room around them."""
    room = 0.08 * (max(values) - min(values)) or 0.5
    return min(values) - room, max(values) + room


def _x(place: float) -> float:
    """Where a place on the axis of cases lies in the drawing."""
    return LEFT + (RIGHT - LEFT) * place


def _anchor(place: float) -> str | None:
    """How a text is aligned that must not leave the plot."""
    return None if place < 0.04 else "end" if place > 0.96 else "middle"
