"""The table that ``sketchprune sweep`` ends with: test accuracy by method and density."""

import math
from collections.abc import Sequence

from sketchprune.sweep import Summary


def lines(summaries: Sequence[Summary]) -> list[str]:
    """The lines of the table: a row for each method, a column for each density, accuracies in per cent.

    Args:
        summaries: the means over seeds, of one network.

    Returns:
        A heading, a head with the densities, the rows, and notes on marks that occur.
    """
    cells = {(each.method, each.density): each for each in summaries}
    methods = list(dict.fromkeys(each.method for each in summaries))
    densities = sorted({each.density for each in summaries}, reverse=True)
    width = max(map(len, methods))
    seeds = sorted({each.runs + each.failures for each in summaries})
    over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    head = [f"test accuracy in %, mean ± standard error over {over} seed{'s' if seeds[-1] > 1 else ''}, by density"]
    head.append(" " * width + "".join(f"{density:>14g}" for density in densities))
    rows = [
        f"{method:<{width}}" + "".join(f"{_cell(cells.get((method, density))):>14}" for density in densities)
        for method in methods
    ]
    notes = []
    if any(each.collapsed for each in summaries):
        notes.append("* most of these networks have a layer without weights")
    if failed := [each for each in summaries if each.failures]:
        where = "; ".join(f"{each.method} at {each.density:g} ({each.failures})" for each in failed)
        notes.append(f"! no mask could be drawn for some seeds, which the mean leaves out: {where}")
    return [line.rstrip() for line in (*head, *rows, *notes)]


def _cell(found: Summary | None) -> str:
    """An accuracy with its standard error and its marks; nothing where there was no run."""
    if found is None:
        return ""
    marks = ("*" if found.collapsed else "") + ("!" if found.failures else "")
    if not found.runs:
        return f"none{marks}"
    error = "" if math.isnan(found.standard_error) else f" ± {100 * found.standard_error:.1f}"
    return f"{100 * found.mean:.1f}{error}{marks}"
