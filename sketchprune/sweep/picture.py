"""The picture of a sweep: test accuracy against density, a line for each method."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from tueplots.constants.color.palettes import paultol_bright

from sketchprune._boundary import checked
from sketchprune.sweep.methods import DENSE
from sketchprune.sweep.summary import Summary

_NAMES = ("score", "sampler", "rounds")
_LINES = ("-", "--", ":", "-.")
_MARKERS = "os^Dv<>ph"
EMPTY = Line2D([], [], color="black", marker="x", linestyle="", label="a layer is empty")
"""Legend entry of the crosses on networks of which most have a layer without weights."""
FAILED = Line2D([], [], color="black", marker="|", linestyle="", label="no mask for some seeds")
"""Legend entry of the strokes below densities at which no mask could be drawn for some seeds."""


class Look(NamedTuple):
    """How a method is drawn.

    Attributes:
        colour: The colour of its line.
        line: The style of its line.
        marker: The marker of its points.
    """

    colour: str
    line: str
    marker: str


@checked
def looks(found: Sequence[Summary]) -> dict[str, Look]:
    """A look for each method of a sweep: a colour for its score, a line for its sampler, a marker for its rounds.

    From the eighth score on colours come again, with other markers.

    Args:
        found: The means of a sweep.

    Returns:
        Looks by the label of the method, without the dense network.
    """
    pruned = [each for each in found if each.score != DENSE.score]
    scores, samplers, rounds = (list(dict.fromkeys(getattr(each, name) for each in pruned)) for name in _NAMES)
    found_looks = {}
    for each in pruned:
        again, colour = divmod(scores.index(each.score), len(paultol_bright))
        line = _LINES[samplers.index(each.sampler) % len(_LINES)]
        marker = _MARKERS[(rounds.index(each.rounds) + 4 * again) % len(_MARKERS)]
        found_looks[each.method] = Look(f"#{paultol_bright[colour]}", line, marker)
    return found_looks


@checked
def draw_accuracy(axes: Axes, found: Sequence[Summary], styles: Mapping[str, Look]) -> list[Line2D]:
    """Draws test accuracy against realised density on a log axis, and returns entries for a legend.

    - Points are means over seeds, and bands 95 % intervals of the mean, where there are two seeds or more.
    - A horizontal line is the dense network.
    - A cross is a density at which most networks have a layer without weights.
    - A stroke at the bottom is a density at which no mask could be drawn for some seeds; the mean leaves these out.

    Args:
        axes: What is drawn on.
        found: The means of a sweep of one network; see :func:`sketchprune.sweep.summarise`.
        styles: The looks of its methods, by label; see :func:`looks`. Methods without one are not drawn.

    Returns:
        An entry for each method in the order of ``styles``, for the dense network, and for the marks that occur.
    """
    entries = [
        _draw_method(axes, method, [each for each in found if each.method == method], look)
        for method, look in styles.items()
    ]
    for dense in (each for each in found if each.score == DENSE.score):
        entries.append(axes.axhline(dense.mean, color="black", linewidth=0.8, label=DENSE.label))
        if dense.runs > 1:
            axes.axhspan(dense.low, min(dense.high, 1), color="black", alpha=0.12, linewidth=0)
    shown = [each for each in found if each.method in styles]
    _draw_failures(axes, [each for each in shown if each.failures], styles)
    marks = {EMPTY: any(each.collapsed for each in shown), FAILED: any(each.failures for each in shown)}
    axes.set(xscale="log", xlabel="density (part of the weights that is kept)", ylabel="test accuracy")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return entries + [entry for entry, occurs in marks.items() if occurs]


def _draw_method(axes: Axes, method: str, found: Sequence[Summary], look: Look) -> Line2D:
    """Draws the line of a method with its band, and crosses where networks have a layer without weights."""
    trained = [each for each in found if each.runs]
    x = np.array([each.realised_density for each in trained])
    y = np.array([each.mean for each in trained])
    band = np.array([(each.low, each.high) for each in trained]).reshape(-1, 2).clip(0, 1)
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "label": method}
    axes.fill_between(x, *band.T, color=look.colour, alpha=0.15, linewidth=0)
    axes.plot(x, y, **style)
    for empty, marker in ((False, look.marker), (True, "x")):
        chosen = np.array([each.collapsed == empty for each in trained], bool)
        axes.plot(x[chosen], y[chosen], color=look.colour, linestyle="", marker=marker)
    return Line2D([], [], marker=look.marker, **style)


def _draw_failures(axes: Axes, failed: Sequence[Summary], styles: Mapping[str, Look]) -> None:
    """Draws strokes where no mask could be drawn for some seeds, those of each method at a height of their own."""
    for place, method in enumerate(dict.fromkeys(each.method for each in failed)):
        x = [each.density for each in failed if each.method == method]
        y, look = np.full(len(x), 0.04 + 0.07 * place), styles[method]
        stroke = {"marker": "|", "linestyle": "", "markersize": 5, "markeredgewidth": 1.3, "color": look.colour}
        axes.plot(x, y, transform=axes.get_xaxis_transform(), **stroke)


@checked
def picture(found: Sequence[Summary], title: str) -> Figure:
    """Test accuracy against density, with a legend beside it.

    Args:
        found: The means of a sweep of one network.
        title: What stands above.
    """
    figure = Figure(figsize=(6.75, 3.4), layout="constrained")
    axes = figure.subplots()
    entries = draw_accuracy(axes, found, looks(found))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(handles=entries, loc="outside right upper", frameon=False, fontsize="small", handlelength=3)
    return figure
