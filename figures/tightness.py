"""How loose each bound of the catalogue is, case by case, and how much tighter it could be without being noticed."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._style import BLUE, GREEN, GREY, PURPLE, RED, WIDTH, style
from sketchprune.types import Key
from theory import CATALOGUE, Bound, Claim, Expectation, Probability
from theory.verdict import REFUTED, CaseVerdict

COLOURS = {"sketch": BLUE, "tangent": RED, "paths": GREEN, "lottery": PURPLE}
"""The colour of each family."""
SHOWN = (0.3, 3e3)
"""The range of the axis."""
SETTINGS: dict[Scale, int | None] = {"tiny": 3, "small": None, "paper": None}
"""Scale -> how many claims are drawn, the first of the catalogue; None for all."""


class Row(NamedTuple):
    """A case of a claim.

    Attributes:
        claims: the claim's id.
        cases: the case's name.
        looseness: median of theory ÷ measured; nan where nothing positive was measured.
        slack: the factor by which the theory's side could have been smaller without being refuted; nan where the kind
            of the claim does not say.
        refuted: whether the claim is refuted.
    """

    claims: str
    cases: str
    looseness: float
    slack: float
    refuted: bool


def data(config: Config, key: Key) -> dict[str, Shaped[np.ndarray, " rows"]]:
    """Each case of each bound, from the report, or from verifying.

    Args:
        config: the settings of the run.
        key: not used: the claims have keys of their own.
    """
    bounds = [claim for claim in CATALOGUE if _is_bound(claim)]
    rows = [row for claim in bounds[: config.settings(SETTINGS)] for row in _rows(claim, config)]
    if not rows:
        raise ValueError(f"report is {config.report}; it takes one with a looseness or a resolution of a bound")
    columns = zip(*rows, strict=True)
    return {name: np.array(column) for name, column in zip(Row._fields, columns, strict=True)}


def _is_bound(claim: Claim) -> bool:
    """Whether a claim says that one side is at most the other."""
    match claim.kind:
        case Bound() | Probability():
            return True
        case Expectation():
            return claim.kind.relation == "at most"
    return False


def _rows(claim: Claim, config: Config) -> Iterator[Row]:
    """The cases of a claim that have something to show."""
    verdict = config.verdict(claim.id)
    for name, case in verdict.cases.items():
        row = Row(claim.id, name, case.looseness, _slack(claim, case), verdict.verdict == REFUTED)
        if math.isfinite(row.looseness) or math.isfinite(row.slack):
            yield row


def _slack(claim: Claim, case: CaseVerdict) -> float:
    """1 ÷ the resolution, which of an expectation is no factor."""
    if isinstance(claim.kind, Expectation) or not case.resolution > 0:
        return math.nan
    return 1 / case.resolution


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Every bound of the catalogue. A dot is a case: the theory's side over the measured one, in the median instance.

    A triangle at the edge is a case beyond it. The diamond is the factor by which the whole theory could be smaller
    without the run refuting it, in the sharpest of its cases; left of 2 the check leaves less than half of the theory's
    side unchecked. Crosses belong to claims that are false, where the measured side exceeds the theory's. Failure rates
    have a looseness in few cases, since most of them never failed.
    """
    claims = list(dict.fromkeys(arrays["claims"].tolist()))
    figure = Figure(figsize=(WIDTH, 0.75 + 0.13 * len(claims)))
    axes = figure.subplots()
    axes.axvline(1, color="black", linewidth=0.5)
    axes.axvline(2, color=GREY, linewidth=0.5, linestyle=(0, (4, 3)))
    for height, claim in enumerate(reversed(claims)):
        chosen = arrays["claims"] == claim
        colour = COLOURS.get(claim.partition("/")[0], GREY)
        refuted = arrays["refuted"][chosen].any()
        looseness, slack = arrays["looseness"][chosen], arrays["slack"][chosen]
        inside = np.clip(looseness, *SHOWN) == looseness
        for place, marker in (
            (inside, "x" if refuted else "o"),
            (looseness > SHOWN[1], ">"),
            (looseness < SHOWN[0], "<"),
        ):
            if place.any():  # the layout makes room for a line without points, at the corner of the figure
                shown = looseness[place].clip(*SHOWN)
                axes.plot(shown, np.full(len(shown), height), marker, color=colour, alpha=0.7, clip_on=False)
        if np.isfinite(slack).any():
            axes.plot(np.nanmin(slack), height, "D", color=colour, markerfacecolor=colour, markersize=3.5)
    axes.set_yticks(range(len(claims)), reversed(claims))
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(xscale="log", ylabel="claim", xlabel="theory ÷ measured", xlim=SHOWN, ylim=(-0.7, len(claims) - 0.3))
    look: Any = {"linestyle": "none", "color": "black"}
    axes.plot([], [], marker="o", label="a case, median instance", **look)
    axes.plot([], [], marker="D", markerfacecolor="black", label="could be smaller by this factor", **look)
    axes.plot([], [], marker="x", label="a case of a false claim", **look)
    figure.legend(loc="outside upper center", ncols=2)
    return figure
