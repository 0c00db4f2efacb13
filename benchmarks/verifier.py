"""The verifier, measured as one measures a test: how often it is wrong on true claims, and how often it finds what is.

Every claim of the catalogue but the effects, of which nothing is expected, is verified at the quick tier with many
seeds. The programs of a claim are compiled once, so that another seed is cheap. What is found is written to
``benchmarks/results/verifier.json`` after each claim, and a run that was interrupted goes on from there. Then the
defects of :mod:`benchmarks.defects` are planted that have no result yet.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import defects
from benchmarks.roofline import hardware
from sketchprune._files import write_atomically
from sketchprune.data import Dataset
from sketchprune.data import load as load_digits
from theory import CATALOGUE
from theory.claim import Claim
from theory.cli import runtime
from theory.engine import Programs
from theory.statistics import binomial_interval
from theory.verdict import REFUTED, TIERS
from theory.verification import verify_with

SEEDS = 200
BATCH = 20
"""Seeds after which what was found is written down."""
LEVEL = 1e-3
"""Probability that a limit of the table is wrong."""
GOAL = 1e-3
"""The rate of false alarms that is aimed at."""
RESULTS = Path(__file__).parent / "results" / "verifier.json"


def main():
    """Go on with the seeds and the defects, and print what all of them show."""
    runtime.configure()
    console = Console()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    data = load_digits()
    for claim in CATALOGUE:
        if claim.expected is None:
            continue
        for counts in _counted(claim, data, found.get(claim.id)):
            found[claim.id] = counts
            RESULTS.parent.mkdir(exist_ok=True)
            write_atomically(RESULTS, json.dumps(found, indent=1, sort_keys=True) + "\n")
            console.print(f"{claim.id}: {counts['seeds']} seeds, {counts['seconds']:.0f} s")
    console.print(_table(found, defects.measured(console)))


def _counted(claim: Claim, data: Dataset, earlier: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The counts of a claim, batch by batch: seeds with another verdict than the expected, and mutants not refuted."""
    counts = earlier or {
        "seeds": 0,
        "seconds": 0.0,
        "unexpected": {},
        "survivors": {name: [] for name in claim.mutants},
    }
    programs = Programs(claim)
    while counts["seeds"] < SEEDS:
        started = time.perf_counter()
        for seed in range(counts["seeds"], min(counts["seeds"] + BATCH, SEEDS)):
            verdict = verify_with(programs, TIERS["quick"], seed, data)
            if verdict.verdict != claim.expected:
                counts["unexpected"][str(seed)] = str(verdict.verdict)
            for name, decision in verdict.mutants.items():
                if decision != REFUTED:
                    counts["survivors"][name].append(seed)
        counts["seeds"] = min(counts["seeds"] + BATCH, SEEDS)
        counts["seconds"] += time.perf_counter() - started
        yield counts


def _table(found: dict[str, Any], caught: defects.Found) -> Table:
    """Rates over all claims, with exact upper limits; and how many planted defects nothing catches."""
    runs = sum(counts["seeds"] for counts in found.values())
    alarms = sum(word == REFUTED for counts in found.values() for word in counts["unexpected"].values())
    other = sum(len(counts["unexpected"]) for counts in found.values()) - alarms
    trials = sum(counts["seeds"] * len(counts["survivors"]) for counts in found.values())
    missed = sum(len(seeds) for counts in found.values() for seeds in counts["survivors"].values())
    table = Table(
        "what", "times", "of", f"upper limit ({1 - LEVEL:.1%})", "aim", title=f"quick tier, digits, {hardware()}"
    )
    for what, times, of, aim in (
        ("a true claim is REFUTED", alarms, runs, f"{GOAL:g}"),
        ("another verdict than the expected", other, runs, ""),
        ("a mutant is not refuted", missed, trials, ""),
    ):
        limit = float(binomial_interval(times, max(of, 1), 2 * LEVEL).high)
        table.add_row(what, f"{times:,}", f"{of:,}", f"{limit:.2g}", aim)
    survived = sum(result["caught_by"] is None for result in caught.values())
    table.add_row("a planted defect is not caught", f"{survived:,}", f"{len(caught):,}", "", "0")
    return table
