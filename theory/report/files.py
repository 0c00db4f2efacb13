"""Writes the files of a report into its folder."""

import json
from pathlib import Path

from sketchprune._files import write_atomically
from theory.report.changes import changes_since
from theory.report.html import as_html
from theory.report.junit import as_junit
from theory.report.replays import write_replays
from theory.report.run import Report
from theory.report.tables import VERDICTS, as_csv, as_json


def write_report(folder: Path, report: Report) -> Path:
    """Write verdicts.json, verdicts.csv, the replays and index.html, and return the path of the page.

    The page says what changed since the report that the folder held. Each file is replaced atomically: whoever reads
    it sees the old content or the new.
    """
    verdicts = as_json(report)
    changes = changes_since(folder, json.loads(verdicts))
    write_atomically(folder / VERDICTS, verdicts)
    write_atomically(folder / "verdicts.csv", as_csv(verdict for _, verdict in report.verdicts))
    write_replays(folder, report)
    page = folder / "index.html"
    write_atomically(page, as_html(report, changes))
    return page


def write_junit(file: Path, report: Report):
    """Write the JUnit report to a file, which is replaced atomically."""
    write_atomically(file, as_junit(report))
