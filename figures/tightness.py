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
"""The family whose claims are drawn."""
LOOKS = {
    "synthetic": ("synthetic", "#888888", "^"),
    "informative": ("informative", RED, "s"),
    "data": ("digits", BLUE, "o"),
}
"""What the instances of a case are made of -> label, colour and marker; the last one is drawn on top."""

Row = tuple[str, str, float]
"""A claim, one of its cases, and the looseness there; nan where there is none."""


def data(config: Config, key: Key) -> dict[str, Shaped[np.ndarray, " rows"]]:
    """Claims, cases and their median looseness, from the report, or from verifying at the quick tier.

    Args:
        config: the settings of the run.
        key: not used: the claims have keys of their own.
    """
    rows = _verified(config.seed) if config.report is None else _reported(config.report)
    drawable = [row for row in rows if math.isfinite(row[2]) and row[2] > 0]
    if not drawable:
        raise ValueError(f"report is {config.report}; it takes one with a looseness for a claim {FAMILY}*")
    claims, cases, looseness = zip(*drawable, strict=True)
    return {"claims": np.array(claims), "cases": np.array(cases), "looseness": np.array(looseness)}


def _reported(path: Path) -> list[Row]:
    """The rows of a verdicts.json."""
    try:
        claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
        return [
            (claim["id"], name, math.nan if case["looseness"] is None else float(case["looseness"]))
            for claim in claims
            if claim["id"].startswith(FAMILY)
            for name, case in claim["cases"].items()
        ]
    except OSError as error:
        raise ValueError(
            f"report is {path}, which cannot be read ({error.strerror}); it takes a verdicts.json"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"report is {path}, which is malformed; it takes a verdicts.json") from None


def _verified(seed: int) -> Iterable[Row]:
    """The rows of a verification of the family, without its identities, which have no looseness."""
    from theory import CATALOGUE, verify  # slow to import, and a report needs no catalogue

    for claim in CATALOGUE:
        if claim.id.startswith(FAMILY) and claim.kind.words.name != "identity":
            for name, case in verify(claim, tier="quick", seed=seed).cases.items():
                yield claim.id, name, case.looseness


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """One row for each claim, the loosest on top; 1 is tight."""
    claims, looseness = arrays["claims"], arrays["looseness"]
    medians = {claim: np.median(looseness[claims == claim]) for claim in np.unique(claims)}
    order = sorted(medians, key=lambda claim: medians[claim])
    figure = Figure(figsize=(WIDTH, 0.6 + 0.16 * len(order)))
    axes = figure.subplots()
    axes.axvline(1, color="black", linewidth=0.5)
    made_of = np.array([_made_of(case) for case in arrays["cases"]])
    for source, (label, colour, marker) in LOOKS.items():
        chosen = made_of == source
        heights = [order.index(claim) for claim in claims[chosen]]
        axes.plot(looseness[chosen], heights, linestyle="none", color=colour, marker=marker, label=label)
    axes.set_yticks(range(len(order)), [claim.removeprefix(FAMILY) for claim in order])
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel=FAMILY, xscale="log", xlabel="looseness (theory ÷ measured)", ylim=(-0.6, len(order) - 0.4))
    figure.legend(loc="outside upper center", ncols=len(LOOKS))
    return figure


def _made_of(case: str) -> str:
    """What the instances of a case are made of."""
    if case == "informative":
        return case
    return "data" if case.endswith("digits") else "synthetic"
