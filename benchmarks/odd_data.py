"""Data sets of odd shapes and sizes: each is legal, and no true claim may be refuted on one.

Of each true claim the cases that use the data are verified, with several seeds, on fewer instances and trials than at
the quick tier: what odd data do wrong shows in each of them. What is found is written to
``benchmarks/results/odd_data.json`` after each claim, and a run that was interrupted goes on from there.
"""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _results
from sketchprune.data import Dataset
from theory import CATALOGUE
from theory.claim import Claim
from theory.cli import runtime
from theory.engine import Programs
from theory.kinds.kind import STATEMENT
from theory.verdict import REFUTED, TIERS
from theory.verification import decisions

SEEDS = 5
TIER = replace(TIERS["quick"], name="odd data", instances=8, looks=(32, 128, 512))
RESULTS = _results.FOLDER / "odd_data.json"

ODD = (
    "5x4",
    "3x200",
    "60x2",
    "rank-1",
    "one-class",
    "equal-columns",
    "constant",
    "zero",
    "one-sample",
    "two-samples",
    "one-hot",
    "1e8",
    "1e-8",
    "1e-160",
    "normal",
)
"""Names of data sets."""


def odd(name: str) -> Dataset:
    """The data set of this name, called that."""
    rng = np.random.default_rng(7)
    x, classes = rng.standard_normal((60, 16)), 3
    match name:
        case "5x4" | "3x200" | "60x2":
            x = rng.standard_normal([int(length) for length in name.split("x")])
        case "rank-1":
            x = np.outer(rng.standard_normal(60), rng.standard_normal(16))
        case "one-class":
            classes = 1
        case "equal-columns":
            x[:, 5] = x[:, 3]
        case "constant":
            x = np.full_like(x, 3.0)
        case "zero":
            x = np.zeros_like(x)
        case "one-sample":
            x = x[:1]
        case "two-samples":
            x = x[:2]
        case "one-hot":
            x = np.eye(16)[rng.integers(16, size=60)]
        case "1e8" | "1e-8" | "1e-160":
            x = x * float(name)
        case "normal":
            pass
        case _:
            raise ValueError(f"name is {name!r}; it takes one of {', '.join(ODD)}")
    image_shape = (4, 4, 1) if name == "constant" else ()
    return Dataset(x, np.arange(len(x)) % classes, name, classes, image_shape)


def main() -> None:
    """Go on with the claims, and print the verdicts on each data set."""
    runtime.configure()
    console = Console()
    found = _results.load(RESULTS)
    for claim in CATALOGUE:
        if claim.expected in (None, REFUTED) or claim.id in found or not _data_cases(claim):
            continue
        started = time.perf_counter()
        found[claim.id] = _words(claim)
        _results.keep(RESULTS, found)
        console.print(f"{claim.id}: {time.perf_counter() - started:.0f} s")
    console.print(_table(found))


def _data_cases(claim: Claim) -> tuple:
    return tuple(case for case in claim.cases if "{data}" in case.name and not case.long)


def _words(claim: Claim) -> dict[str, list[str]]:
    """The verdict on each data set, seed by seed."""
    programs = Programs(replace(claim, cases=_data_cases(claim)))
    words = {}
    for name in ODD:
        data = odd(name)
        words[name] = [str(decisions(programs, TIER, seed, data)[STATEMENT]) for seed in range(SEEDS)]
    return words


def _table(found: dict[str, dict[str, list[str]]]) -> Table:
    """How often each word was said of each data set."""
    counts = {name: Counter(word for words in found.values() for word in words[name]) for name in ODD}
    kinds = sorted({word for count in counts.values() for word in count})
    table = Table(
        "data",
        *kinds,
        title=f"{len(found)} true claims, {SEEDS} seeds, {TIER.instances} instances a case",
        title_justify="left",
    )
    for name, count in counts.items():
        table.add_row(name, *(str(count[word]) for word in kinds))
    return table
