"""How the figures of trained networks are drawn: a line for each pruner, in the colour of its first trace."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._intervals import mean_interval
from figures._path_networks import ARCHITECTURES, PRUNERS
from figures._style import WIDTH
from figures._trained_paths import DENSE

COLOURS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))
"""From a small first trace to a large one, without the yellow that is pale on paper."""
_LINES: dict[str, tuple[str, str, Any]] = {DENSE: ("dense", "", "-")} | {
    name: (pruner.look.label, pruner.look.marker, pruner.look.line) for name, pruner in PRUNERS.items()
}


class Row(NamedTuple):
    """A row of panels.

    Attributes:
        quantity: the name of what is drawn.
        label: of the vertical axis.
    """

    quantity: str
    label: str


def table(
    found: dict[str, np.ndarray], quantities: dict[str, Float[np.ndarray, "networks pruners seeds steps"]]
) -> dict[str, np.ndarray]:
    """What is drawn, one row for each network, pruner and step.

    Args:
        found: as `followed` returns it.
        quantities: what is averaged over the seeds; NaN where it is undefined.

    Returns:
        ``network``, ``pruner``, ``step``; ``log10_first_trace``, the mean of log₁₀ Tr Π before training over the seeds
        that have a path, and ``seeds``, their number; and for each quantity its mean and half the width of its 95 %
        interval, ``*_half``.
    """
    networks, pruners, steps = (found[name] for name in ("networks", "pruners", "steps"))
    network, pruner, step = (axis.ravel() for axis in np.meshgrid(networks, pruners, steps, indexing="ij"))
    first = found["log_trace"][..., 0] / np.log(10)
    alive = np.isfinite(first)
    log_first = mean_interval(np.moveaxis(first, 2, 0))[0]
    arrays = {
        "network": network,
        "pruner": pruner,
        "step": step,
        "log10_first_trace": np.repeat(log_first.ravel(), len(steps)),
        "seeds": np.repeat(alive.sum(axis=2).ravel(), len(steps)),
    }
    for name, values in quantities.items():
        mean, half = mean_interval(np.moveaxis(values, 2, 0))
        arrays |= {name: mean.ravel(), f"{name}_half": half.ravel()}
    return arrays


def draw_lines(arrays: dict[str, np.ndarray], rows: list[Row]) -> Figure:
    """A column of panels for each network, a row for each quantity, and a line for each pruner.

    Args:
        arrays: as `table` returns them.
        rows: what is drawn.
    """
    networks = list(dict.fromkeys(arrays["network"].tolist()))
    figure = Figure(figsize=(WIDTH * min(len(networks), 2), WIDTH * (0.3 + 0.58 * len(rows))))
    grid = figure.add_gridspec(len(rows), 2 * len(networks), width_ratios=(1, 0.03) * len(networks))
    panels = np.empty((len(rows), len(networks)), object)
    for place, network in enumerate(networks):
        here = arrays["network"] == network
        first = arrays["log10_first_trace"][here]
        known = first[np.isfinite(first)]
        colour_of = ScalarMappable(Normalize(known.min(), known.max()) if known.size else None, COLOURS)
        for index, row in enumerate(rows):
            axes = figure.add_subplot(grid[index, 2 * place], sharex=panels[0, place])
            _draw_panel(axes, arrays, here, row, colour_of)
            axes.tick_params(labelbottom=index == len(rows) - 1)
            panels[index, place] = axes
        panels[0, place].set_title(ARCHITECTURES[network].title)
        panels[-1, place].set_xlabel("training step")
        bar = figure.colorbar(colour_of, cax=figure.add_subplot(grid[:, 2 * place + 1]))
        bar.ax.set_xlabel("$\\log_{10}$\n$\\mathrm{Tr}\\,\\Pi(\\theta_0)$", fontsize="small", labelpad=9)
    for axes, row in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(row.label)
    names = dict.fromkeys(arrays["pruner"].tolist())
    handles = [
        Line2D([], [], color="black", marker=marker, linestyle=line, linewidth=_width(name), label=label)
        for name, (label, marker, line) in ((name, _LINES[name]) for name in names)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5 if len(networks) > 1 else 3)
    return figure


def _width(name: str) -> float:
    """The width of a line: that of the unpruned network stands out."""
    return 2.0 if name == DENSE else 1.0


def _draw_panel(
    axes: Axes,
    arrays: dict[str, np.ndarray],
    here: Bool[np.ndarray, " rows"],
    row: Row,
    colour_of: ScalarMappable,
) -> None:
    """The lines of one network and quantity."""
    lost = []
    for index, name in enumerate(dict.fromkeys(arrays["pruner"].tolist())):
        chosen = here & (arrays["pruner"] == name)
        label, marker, line = _LINES[name]
        step, mean, half = (arrays[key][chosen] for key in ("step", row.quantity, f"{row.quantity}_half"))
        if not arrays["seeds"][chosen].any():
            lost.append(label)
            continue
        colour = colour_of.to_rgba(arrays["log10_first_trace"][chosen])[0]
        every = (index % 3, 3)
        axes.plot(step, mean, color=colour, marker=marker, linestyle=line, linewidth=_width(name), markevery=every)
        axes.fill_between(step, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
    if lost:
        axes.annotate(f"no path is left: {', '.join(lost)}", (0.02, 0.02), xycoords="axes fraction", fontsize="small")
