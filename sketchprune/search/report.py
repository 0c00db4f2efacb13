"""The files of ``sketchprune search``: the best masks, the numbers, and the histogram with the theory on it."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from sketchprune._files import strict_json, write_atomically
from sketchprune.search.random_search import SearchResult
from sketchprune.search.problems import DELTA

QUANTILES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
_BARS = 80
"""Of the figure at most: bins are merged until they are so few."""


def write(
    folder: Path,
    result: SearchResult,
    theory: Mapping[str, float],
    zero_mask: float,
    facts: Mapping[str, Any],
    label: str,
):
    """Write best.npz, result.json and histogram.png, each by an atomic rename."""
    paths, _ = jax.tree_util.tree_flatten_with_path(result.masks)
    arrays: dict[str, Any] = {"mask" + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, indices=result.indices, values=result.values, **arrays)
    write_atomically(folder / "best.npz", buffer.getvalue())
    found = numbers(result, theory) | {"zero_mask": zero_mask} | dict(facts)
    text = json.dumps(strict_json(found), indent=1, allow_nan=False)
    write_atomically(folder / "result.json", text + "\n")
    buffer = io.BytesIO()
    histogram(result, theory, zero_mask, label).savefig(buffer, format="png", dpi=200)
    write_atomically(folder / "histogram.png", buffer.getvalue())


def numbers(result: SearchResult, theory: Mapping[str, float]) -> dict[str, Any]:
    """What result.json says of a search."""
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
    """Of the mean, √(variance/count) with the count of the finite values, of which the mean is; NaN of none."""
    finite = result.num_masks - result.undefined - result.infinite
    return math.sqrt(result.variance / finite) if finite else math.nan


def histogram(result: SearchResult, theory: Mapping[str, float], zero_mask: float, label: str) -> Figure:
    """How many masks have which objective, the best, the mean, the zero mask's, and what theory says."""
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.subplots()
    counts, edges = _bars(result)
    if len(counts):
        axes.stairs(counts, edges, fill=True, color="#4477AA", alpha=0.6)
        axes.axvline(float(result.values[0]), color="black", linewidth=0.8, label=f"best: {result.values[0]:.4g}")
    axes.axvline(result.mean, color="#4477AA", linewidth=1.2, label=f"mean: {result.mean:.4g}")
    logarithmic = len(counts) and edges[0] > 0
    if math.isfinite(zero_mask) and (zero_mask > 0 or not logarithmic):
        axes.axvline(zero_mask, color="grey", linestyle=":", linewidth=1.2, label=f"zero mask: {zero_mask:.4g}")
    styles = iter((("#EE6677", "--"), ("#228833", "-.")))
    for (name, value), (colour, line) in zip(theory.items(), styles, strict=False):
        said = name if name.startswith("expectation") else f"{name}, {1 - DELTA:.0%} of masks below"
        axes.axvline(value, color=colour, linestyle=line, linewidth=1.2, label=f"{said}: {value:.4g}")
    if logarithmic:
        axes.set_xscale("log")
    axes.set(yscale="log", xlabel=label, ylabel=f"masks of {result.num_masks:,}")
    figure.legend(frameon=False, fontsize="small", loc="outside upper center", ncols=2)
    return figure


def _bars(result: SearchResult) -> tuple[np.ndarray, np.ndarray]:
    """The occupied finite bins, neighbours merged until they are few."""
    edges = result.edges
    finite = np.isfinite(edges[:-1]) & np.isfinite(edges[1:])
    counts, low, high = result.histogram[finite], edges[:-1][finite], edges[1:][finite]
    occupied = np.flatnonzero(counts)
    if not len(occupied):
        return np.zeros(0), np.zeros(1)
    first, last = occupied[0], occupied[-1] + 1
    step = -(-(last - first) // _BARS)
    starts = np.arange(first, last, step)
    ends = np.append(low[starts], high[last - 1])
    return np.add.reduceat(counts[:last], starts), ends
