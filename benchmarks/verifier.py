"""The verifier, measured as a statistical test is: how often it is wrong on true claims, and what it fails to refute.

Every claim of the catalogue except the effects, which have no expected verdict, is verified at the quick tier with many
seeds. The programs of a claim are compiled once, so that another seed is cheap. What is found is written to
``benchmarks/results/verifier.json`` after each claim, and a run that was interrupted goes on from there. At the end the
defects of :mod:`benchmarks.defects` that have no result yet are planted.
"""

import copy
import hashlib
import inspect
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import _results, defects
from sketchprune.data import Dataset
from sketchprune.data import load as load_digits
from theory import CATALOGUE
from theory.claim import Claim
from theory.cli import runtime
from theory.cli.ordered_map import ordered_map
from theory.engine import Programs
from theory.kinds.kind import STATEMENT
from theory.statistics import binomial_interval
from theory.verdict import REFUTED, TIERS
from theory.verification import decisions

SEEDS = 200
BATCH = 50
"""Seeds of a claim after which what was found is written down, and the next claim has its turn."""
LEVEL = 1e-3
"""Probability that a limit of the table is wrong."""
GOAL = 1e-3
"""The rate of false alarms that is aimed at."""
RESULTS = _results.FOLDER / "verifier.json"

Counts = dict[str, Any]
"""``seeds`` and ``seconds`` spent, ``unexpected`` verdicts by seed, for each mutant the seeds that it survived, and the
``fingerprint`` of the claim's file: where that has changed, the claim starts again."""


def main():
    """Go on with the seeds and the defects, and print what all of them show."""
    runtime.configure()
    console = Console()
    earlier = _results.load(RESULTS)
    claims = [claim for claim in CATALOGUE if claim.expected is not None]
    found = {claim.id: _begun(claim, earlier.get(claim.id)) for claim in claims}
    data = load_digits()
    for target in range(BATCH, SEEDS + 1, BATCH):
        pending = [claim for claim in claims if found[claim.id]["seeds"] < target]

        def more(claim: Claim, target: int = target) -> Counts:
            return _counted(claim, data, found[claim.id], target)

        for claim, result in ordered_map(more, pending, threads=runtime.THREADS):
            counts = found[claim.id] = result()
            _results.keep(RESULTS, found)
            console.print(f"{claim.id}: {counts['seeds']} seeds, {counts['seconds']:.0f} s")
    console.print(_table(found, defects.measured(console)))


def _begun(claim: Claim, earlier: Counts | None) -> Counts:
    """What is known of a claim; nothing where its file has changed since."""
    file = inspect.getsourcefile(claim.trial)
    assert file is not None  # a trial of the catalogue is a function in a file
    fingerprint = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
    if earlier is not None and earlier["fingerprint"] == fingerprint:
        return earlier
    survivors = {name: [] for name in claim.mutants}
    return {"seeds": 0, "seconds": 0.0, "unexpected": {}, "survivors": survivors, "fingerprint": fingerprint}


def _counted(claim: Claim, data: Dataset, counts: Counts, target: int) -> Counts:
    """The counts after further seeds, up to ``target``; the programs are compiled once for all of them."""
    counts, programs, started = copy.deepcopy(counts), Programs(claim), time.perf_counter()
    for seed in range(counts["seeds"], target):
        decided = decisions(programs, TIERS["quick"], seed, data)
        if decided[STATEMENT] != claim.expected:
            counts["unexpected"][str(seed)] = str(decided[STATEMENT])
        for name in claim.mutants:
            if decided[name] != REFUTED:
                counts["survivors"][name].append(seed)
    seconds = counts["seconds"] + time.perf_counter() - started
    return counts | {"seeds": target, "seconds": round(seconds, 1)}


def _table(found: dict[str, Counts], caught: defects.Found) -> Table:
    """Rates over all claims, with exact upper limits; and how many planted defects nothing catches."""
    runs = sum(counts["seeds"] for counts in found.values())
    of_true_claims = sum(found[claim.id]["seeds"] for claim in CATALOGUE if claim.expected not in (None, REFUTED))
    alarms = sum(word == REFUTED for counts in found.values() for word in counts["unexpected"].values())
    other = sum(len(counts["unexpected"]) for counts in found.values()) - alarms
    trials = sum(counts["seeds"] * len(counts["survivors"]) for counts in found.values())
    missed = sum(len(seeds) for counts in found.values() for seeds in counts["survivors"].values())
    table = Table(
        "what",
        "times",
        "of",
        f"upper limit ({1 - LEVEL:.1%})",
        "aim",
        title=f"quick tier, digits, {runtime.hardware()}",
    )
    for what, times, of, aim in (
        ("a true claim is REFUTED", alarms, of_true_claims, f"{GOAL:g}"),
        ("another verdict than the expected", other, runs, ""),
        ("a mutant is not refuted", missed, trials, ""),
    ):
        limit = float(binomial_interval(times, max(of, 1), 2 * LEVEL).high)
        table.add_row(what, f"{times:,}", f"{of:,}", f"{limit:.2g}", aim)
    survived = sum(result["caught_by"] is None for result in caught.values())
    table.add_row("a planted defect is not caught", f"{survived:,}", f"{len(caught):,}", "", "0")
    return table
