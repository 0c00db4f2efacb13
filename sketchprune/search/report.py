"""The files of ``sketchprune search``: the best masks, the numbers, and a histogram with the theory drawn on it."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from sketchprune._files import strict_json, write_atomically
from sketchprune.search.problems import DELTA, DirectMask
from sketchprune.search.random_search import SearchResult
from sketchprune.types import Mask

QUANTILES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
"""The levels that result.json lists."""
_MAX_BARS = 80
"""The most bars in the figure; neighbouring bins are merged to have no more."""


def write(
    folder: Path,
    result: SearchResult,
    *,
    theory: Mapping[str, float],
    zero_mask: float | None,
    direct_masks: Sequence[DirectMask] = (),
    label: str,
    facts: Mapping[str, Any],
) -> None:
    """Write best.npz, result.json and histogram.png, each by an atomic rename.

    Args:
        folder: where they go.
        result: what the search found.
        theory: what theory says, by name; see :class:`sketchprune.search.problems.Problem`.
        zero_mask: the objective of the zero mask; None where there is none.
        direct_masks: masks that were found without random ones; best.npz holds them by their names.
        label: what the figure shows.
        facts: further entries of result.json.
    """
    arrays = _named("mask", result.masks)
    for direct in direct_masks:
        arrays |= _named(direct.name, direct.mask)
    best = io.BytesIO()
    np.savez_compressed(best, indices=result.indices, values=result.values, **arrays)
    write_atomically(folder / "best.npz", best.getvalue())
    direct = {mask.name: {"kind": mask.kind, "value": mask.value, "bound": mask.bound} for mask in direct_masks}
    found = numbers(result, theory) | {"zero_mask": zero_mask, "direct_masks": direct} | dict(facts)
    write_atomically(folder / "result.json", json.dumps(strict_json(found), indent=1, allow_nan=False) + "\n")
    picture = io.BytesIO()
    figure = histogram(result, theory=theory, zero_mask=zero_mask, direct_masks=direct_masks, label=label)
    figure.savefig(picture, format="png", dpi=200)
    write_atomically(folder / "histogram.png", picture.getvalue())


def _named(name: str, mask: Mask) -> dict[str, Any]:
    """The leaves of a mask by their names in best.npz."""
    paths, _ = jax.tree_util.tree_flatten_with_path(mask)
    return {name + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}


def numbers(result: SearchResult, theory: Mapping[str, float]) -> dict[str, Any]:
    """What result.json says of a search.

    Args:
        result: what the search found.
        theory: what theory says, by name.

    Returns:
        The entries of the file.
    """
    best = zip(result.indices.tolist(), result.values.tolist(), strict=True)
    return {
        "num_masks": result.num_masks,
        "undefined": result.undefined,
        "infinite": result.infinite,
        "mean": result.mean,
        "standard_error": standard_error(result),
        "variance": result.variance,
        "largest": result.largest,
        "quantiles": {str(level): result.quantile(level) for level in QUANTILES},
        "quantile_error": 0.011,
        "best": [{"index": index, "value": value} for index, value in best],
        "theory": dict(theory),
        "delta": DELTA,
        "rate": result.rate,
        "seconds": result.seconds,
    }


def standard_error(result: SearchResult) -> float:
    """The standard error of the mean, √(variance/count) over the finite values; NaN if there is none.

    Args:
        result: what the search found.

    Returns:
        One number.
    """
    finite = result.num_masks - result.undefined - result.infinite
    return math.sqrt(result.variance / finite) if finite else math.nan


def histogram(
    result: SearchResult,
    *,
    theory: Mapping[str, float],
    zero_mask: float | None,
    direct_masks: Sequence[DirectMask] = (),
    label: str,
) -> Figure:
    """How many masks have which objective, with the best, the mean, those of other masks, and what theory says.

    Args:
        result: what the search found.
        theory: what theory says, by name; at most two of them are drawn.
        zero_mask: the objective of the zero mask; None where there is none.
        direct_masks: masks that were found without random ones; at most two of them are drawn.
        label: what the figure shows.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    counts, edges = _bars(result)
    if len(counts):
        axes.stairs(counts, edges, fill=True, color="#4477AA", alpha=0.6)
        axes.axvline(float(result.values[0]), color="black", linewidth=0.8, label=f"best: {result.values[0]:.4g}")
    axes.axvline(result.mean, color="#4477AA", linewidth=1.2, label=f"mean: {result.mean:.4g}")
    logarithmic = len(counts) and edges[0] > 0
    if zero_mask is not None and math.isfinite(zero_mask) and (zero_mask > 0 or not logarithmic):
        axes.axvline(zero_mask, color="grey", linestyle=":", linewidth=1.2, label=f"zero mask: {zero_mask:.4g}")
    for direct, line in zip(direct_masks, ("-", "--"), strict=False):
        if math.isfinite(direct.value) and (direct.value > 0 or not logarithmic):
            said = f"{direct.name}: {direct.value:.4g}"
            axes.axvline(direct.value, color="#AA3377", linestyle=line, linewidth=1.2, label=said)
    styles = (("#EE6677", "--"), ("#228833", "-."))
    for (name, value), (colour, line) in zip(theory.items(), styles, strict=False):
        said = name if name.startswith("expectation") else f"{name}, {1 - DELTA:.0%} of masks below"
        axes.axvline(value, color=colour, linestyle=line, linewidth=1.2, label=f"{said}: {value:.4g}")
    if logarithmic:
        axes.set_xscale("log")
    axes.set(yscale="log", xlabel=label, ylabel=f"masks of {result.num_masks:,}")
    figure.legend(frameon=False, fontsize="small", loc="outside upper center", ncols=2)
    return figure


def _bars(result: SearchResult) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of the occupied finite bins, neighbours merged until there are few enough."""
    edges = result.edges
    finite = np.isfinite(edges[:-1]) & np.isfinite(edges[1:])
    counts = result.histogram[finite]
    low = edges[:-1][finite]
    high = edges[1:][finite]
    occupied = np.flatnonzero(counts)
    if not len(occupied):
        return np.zeros(0), np.zeros(1)
    first = occupied[0]
    last = occupied[-1] + 1
    step = -(-(last - first) // _MAX_BARS)
    starts = np.arange(first, last, step)
    return np.add.reduceat(counts[:last], starts), np.append(low[starts], high[last - 1])
