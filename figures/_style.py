"""The style that all figures share: the width of a paper's column, its font sizes, and colours for every eye."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from tueplots import axes, figsizes, fontsizes, markers
from tueplots.constants.color.palettes import paultol_bright

BLUE, RED, GREEN, YELLOW, CYAN, PURPLE, GREY = (f"#{code}" for code in paultol_bright)
"""Colours that the colour-blind can tell apart."""
WIDTH = 3.25
"""Width of a column in inches."""
_STYLE: Any = {
    **figsizes.icml2024_half(),
    **fontsizes.icml2024(default_smaller=1),
    **axes.lines(),
    **axes.spines(top=False, right=False),
    **axes.legend(frameon=False),
    **axes.grid(grid_alpha=0.15),
    **markers.inverted(edgewidth=0.8),  # an interval shows inside a hollow point
    "axes.grid": True,
    "errorbar.capsize": 1.5,
    "legend.handlelength": 1.8,
    "lines.markersize": 3.0,
    "savefig.dpi": 300,
    # Fonts that come with matplotlib, kept as text: the same bytes on every machine.
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,
}
_METADATA = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
"""What a file would say of when and by what it was written; without it the bytes do not change."""


class Look(NamedTuple):
    """How one quantity is drawn wherever it occurs.

    Attributes:
        label: its name in a legend.
        colour: the colour of its points and lines.
        marker: the marker of measured points; none if there are no points.
        line: the style of the theory's line.
    """

    label: str
    colour: str
    marker: str
    line: Any

    def entry(self) -> Line2D:
        """Its entry in a legend."""
        return Line2D([], [], color=self.colour, marker=self.marker, linestyle=self.line, label=self.label)


@contextmanager
def style() -> Iterator[None]:
    """This style, whatever the caller's matplotlib settings are. It is a context and a decorator."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@style()
def save(figure: Figure, path: Path) -> None:
    """Write a figure. The same figure gives the same bytes whenever it is written.

    Args:
        figure: the figure.
        path: the file; its suffix, .pdf or .png, is the format.
    """
    figure.savefig(path, metadata=_METADATA[path.suffix])


@style()
def stamp(figure: Figure, refuted: Sequence[str], data: str) -> None:
    """Write below a figure which of the claims that it illustrates are refuted; the panels keep their size.

    Args:
        figure: the figure.
        refuted: the ids of the claims.
        data: the name of the data that refute them.
    """
    if not refuted:
        return
    width, height = figure.get_size_inches()
    lines = [f"REFUTED on {data}: {claim}" for claim in refuted]
    strip = 0.16 * len(lines) + 0.04
    height += strip
    figure.set_size_inches(width, height)
    below = strip
    if label := figure.get_supxlabel():  # the layout would leave it at the bottom edge
        figure.supxlabel(label, y=(strip + 0.03) / height, fontsize="medium")
        below += 0.2
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # the style's
    engine.set(rect=(0, below / height, 1, 1 - below / height))
    share = strip / height
    figure.text(0.5, 0.1 * share, "\n".join(lines), color=RED, ha="center", va="bottom", fontsize=7, in_layout=False)
