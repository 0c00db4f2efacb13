"""The files of a figure: the pictures, the numbers as CSV, and a JSON that says how they came about."""

import csv
import inspect
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from figures._config import Config
from figures._style import save
from sketchprune._files import strict_json, write_atomically

if TYPE_CHECKING:
    from theory.verdict import Verdict

SUFFIXES = (".csv", ".json", ".pdf", ".png")
"""What is written for each figure."""


def write(
    folder: Path, name: str, figure: Figure, arrays: Mapping[str, np.ndarray], sidecar: Mapping[str, Any]
) -> None:
    """Write the files of a figure into a folder.

    Args:
        folder: the folder; it exists.
        name: the figure's.
        figure: the picture.
        arrays: the numbers that it was drawn from.
        sidecar: how they came about.
    """
    write_atomically(folder / f"{name}.csv", as_csv(arrays))
    text = json.dumps(strict_json(sidecar), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / f"{name}.json", text + "\n")
    for suffix in (".pdf", ".png"):
        save(figure, folder / (name + suffix))


def as_csv(arrays: Mapping[str, np.ndarray]) -> str:
    """The arrays side by side: rows are along the first axis, and each place on the other axes has a column.

    A column is called after its array, with the place in brackets: ``error[0]``, ``error[1]``. Columns that are shorter
    than others end in empty cells.

    >>> print(as_csv({"s": np.array([1, 2]), "error": np.array([[0.5, 0.25]])}), end="")
    s,error[0],error[1]
    1,0.5,0.25
    2,,
    """
    columns: dict[str, list[Any]] = {}
    for name, values in arrays.items():
        rows = np.atleast_1d(values)
        for place in np.ndindex(rows.shape[1:]):
            title = f"{name}[{','.join(map(str, place))}]" if place else name
            columns[title] = rows[(slice(None), *place)].tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(itertools.zip_longest(*columns.values(), fillvalue=""))
    return text.getvalue()


def sidecar(
    name: str, config: Config, draw: Callable[..., Figure], settings: Any, verdicts: Sequence["Verdict"]
) -> dict[str, Any]:
    """How a figure came about.

    Args:
        name: the figure's.
        config: the settings of the run.
        draw: draws it; its docstring is the caption.
        settings: what the figure does at this scale.
        verdicts: those on the claims that it illustrates.
    """
    from theory.cli import runtime

    return {
        "figure": name,
        "caption": " ".join((inspect.getdoc(draw) or "").split()),
        "seed": config.seed,
        "scale": config.scale,
        "settings": repr(settings),
        "data": {"name": config.data.name, "samples": len(config.data.x), "features": config.data.x.shape[1]},
        "versions": runtime.versions(),
        "hardware": runtime.hardware(),
        "report": None if config.report is None else str(config.report),
        "claims": {
            verdict.id: {
                "verdict": verdict.verdict,
                "expected": verdict.expected,
                "mutants": verdict.mutants,
                "looseness": verdict.looseness,
                "resolution": verdict.resolution,
            }
            for verdict in verdicts
        },
    }
