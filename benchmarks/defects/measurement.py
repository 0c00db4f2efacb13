"""Which defects are caught, and by what."""

import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import _results
from benchmarks.defects.defect import Defect
from benchmarks.defects.planting import Copy
from benchmarks.defects.tables import DEFECTS, TABLES

RESULTS = _results.FOLDER / "defects.json"

Found = dict[str, dict[str, Any]]
"""Name of a defect -> ``caught_by`` ("claim", "test", or None for a survivor), ``by`` which, ``seconds`` and
``fingerprint``."""


def main():
    """Plant the defects that have no result yet, and print what all of them show."""
    console = Console()
    found = measured(console)
    console.print(table(found))
    for name, result in found.items():
        if result["caught_by"] is None:
            console.print(f"survived: {name}", soft_wrap=True)


def measured(console: Console) -> Found:
    """What catches each defect; those that have no result yet, or are not what they were, are planted.

    Args:
        console: where each result is shown as it is reached.
    """
    earlier: Found = _results.load(RESULTS)
    found: Found = {}
    pending = []
    for defect in DEFECTS:
        known = earlier.get(defect.name)
        if known is not None and known["fingerprint"] == defect.fingerprint:
            found[defect.name] = known
        else:
            pending.append(defect)
    if not pending:
        return found
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        _check_without_defects(copy, pending)
        for defect in pending:
            result = found[defect.name] = _caught(copy, defect)
            _results.keep(RESULTS, found)
            by = result["by"] or "nothing: it survives"
            console.print(f"{defect.name}: {by}, {result['seconds']:.0f} s", markup=False, soft_wrap=True)
    return found


def table(found: Found) -> Table:
    """How many defects of each subject are caught, and by what.

    Args:
        found: what catches each defect.
    """
    result = Table("defects planted in", "planted", "caught by a claim", "caught by a test", "survived")
    for subject, defects in TABLES.items():
        result.add_row(subject, *_counts(found, defects))
    result.add_section()
    result.add_row("all", *_counts(found, DEFECTS))
    return result


def _counts(found: Found, defects: Sequence[Defect]) -> Iterable[str]:
    caught_by = [found[defect.name]["caught_by"] for defect in defects]
    return map(str, (len(defects), *(caught_by.count(what) for what in ("claim", "test", None))))


def _check_without_defects(copy: Copy, defects: Sequence[Defect]):
    """Refuse claims and tests that fail without a defect: they would catch everything."""
    claims = sorted({claim for defect in defects for claim in defect.claims})
    tests = sorted({test for defect in defects for test in defect.tests})
    for failing in (copy.failing_claim(claims), copy.failing_test(tests)):
        if failing is not None:
            raise RuntimeError(f"{failing}, without a defect; it takes claims and tests that pass")


def _caught(copy: Copy, defect: Defect) -> dict[str, Any]:
    """What catches a defect: the first claim, or else the first test."""
    started = time.perf_counter()
    with copy.planted(defect):
        claim = copy.failing_claim(defect.claims)
        test = None if claim else copy.failing_test(defect.tests)
    return {
        "caught_by": "claim" if claim else "test" if test else None,
        "by": claim or test,
        "seconds": round(time.perf_counter() - started, 1),
        "fingerprint": defect.fingerprint,
    }
