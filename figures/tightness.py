"""How loose each claim of a family is, theory ÷ measured, case by case."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from matplotlib.figure import Figure

from figures._config import Config
from figures._style import BLUE, RED, WIDTH, style
from sketchprune.types import Key

FAMILY = "sketch/"
LOOKS = {
    "synthetic": ("synthetic", "#888888", "^"),
    "informative": ("informative", RED, "s"),
    "data": ("digits", BLUE, "o"),
}
"""What a case is made of: the last is drawn on top."""

Row = tuple[str, str, float]
"""Claim, case, looseness."""


def data(config: Config, key: Key) -> dict[str, Shaped[np.ndarray, " rows"]]:
    """Claims, cases and their median looseness, where they have one: from the report, or from verifying at quick."""
    rows = _verified(config.seed) if config.report is None else _reported(config.report)
    seen = [row for row in rows if math.isfinite(row[2]) and row[2] > 0]
    if not seen:
        raise ValueError(f"report: got {config.report}; takes one with a looseness for a claim {FAMILY}*")
    claims, cases, looseness = zip(*seen, strict=True)
    return {"claims": np.array(claims), "cases": np.array(cases), "looseness": np.array(looseness)}


def _reported(path: Path) -> list[Row]:
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
        return [
            (claim["id"], name, math.nan if case["looseness"] is None else float(case["looseness"]))
            for claim in claims
            if claim["id"].startswith(FAMILY)
            for name, case in claim["cases"].items()
        ]
    except OSError as error:
        raise ValueError(f"report: got {path}: {error.strerror}; takes a verdicts.json") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"report: got {path}, which is malformed; takes a verdicts.json") from None


def _verified(seed: int) -> Iterable[Row]:
    from theory import CATALOGUE, Identity, verify  # a report needs no catalogue

    for claim in CATALOGUE:
        if claim.id.startswith(FAMILY) and not isinstance(claim.kind, Identity):
            for name, case in verify(claim, tier="quick", seed=seed).cases.items():
                yield claim.id, name, case.looseness


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """A row a claim, the loosest on top; 1 is tight."""
    claims, cases, looseness = arrays["claims"], arrays["cases"], arrays["looseness"]
    median = {claim: np.median(looseness[claims == claim]) for claim in np.unique(claims)}
    order = sorted(median, key=lambda claim: median[claim])
    figure = Figure(figsize=(WIDTH, 0.6 + 0.16 * len(order)))
    axes = figure.subplots()
    axes.axvline(1, color="black", linewidth=0.5)
    made_of = np.array([_made_of(case) for case in cases])
    for kind, (label, colour, marker) in LOOKS.items():
        chosen = made_of == kind
        places = [order.index(claim) for claim in claims[chosen]]
        axes.plot(looseness[chosen], places, linestyle="none", color=colour, marker=marker, label=label)
    axes.set_yticks(range(len(order)), [claim.removeprefix(FAMILY) for claim in order])
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel=FAMILY, xscale="log", xlabel="looseness (theory ÷ measured)", ylim=(-0.6, len(order) - 0.4))
    figure.legend(loc="outside upper center", ncols=len(LOOKS))
    return figure


def _made_of(case: str) -> str:
    return case if case == "informative" else "data" if case.endswith("digits") else "synthetic"
