"""The verdicts as tables for programs: verdicts.json and verdicts.csv."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sketchprune._files import strict_json
from theory.report.run import SCHEMA, Report, Run, Selected
from theory.verdict import Verdict

VERDICTS = "verdicts.json"
"""The file for programs in the folder of a report."""
_CASE_COLUMNS = ("verdict", "trials", "instances", "admissible", "measured", "theory", "looseness", "resolution")


def as_json(report: Report) -> str:
    """The run and its verdicts as strict JSON: a number that is not finite is null.

    What ``measured``, ``theory``, ``looseness``, ``resolution`` and ``interval`` mean depends on the kind of the claim:
    see :class:`theory.CaseVerdict`. Two runs of the same settings differ in ``elapsed_s`` alone.
    """
    run = report.run
    fields = {
        "schema": run.schema,
        "versions": run.versions,
        "seed": run.seed,
        "tier": run.tier,
        "data": run.data,
        "level": run.level,
        "claims": [_entry(run, item, verdict) for item, verdict in report.verdicts],
        "failed": dict(report.failed),
    }
    return json.dumps(fields, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _entry(run: Run, item: Selected, verdict: Verdict) -> dict[str, Any]:
    """The fields of one claim in verdicts.json."""
    fields = strict_json(asdict(verdict))
    elapsed_s = fields.pop("elapsed_s")
    return fields | {"command": run.command(item.argument), "elapsed_s": elapsed_s}


def read_failed(folder: Path) -> dict[str, str]:
    """The claims that the run in a folder could not verify, with the reasons.

    Args:
        folder: of a report; before its run ends there is no such list.

    Raises:
        ValueError: its verdicts.json cannot be read.
    """
    path = folder / VERDICTS
    if not path.exists():
        return {}
    return dict(read_json(path)["failed"])


def read_json(path: Path) -> dict[str, Any]:
    """The fields of a verdicts.json.

    Args:
        path: the file.

    Raises:
        ValueError: it cannot be read, or is no such file, or one of another version of its fields.
    """
    takes = "it takes the verdicts.json of a report"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"file is {path}, which cannot be read ({error.strerror}); {takes}") from None
    except ValueError as error:
        raise ValueError(f"file is {path}, which is no JSON ({error}); {takes}") from None
    if not (isinstance(fields, dict) and isinstance(fields.get("claims"), list) and "schema" in fields):
        raise ValueError(f"file is {path}, which holds no verdicts; {takes}")
    if fields["schema"] != SCHEMA:
        raise ValueError(f"file is {path}, whose schema is {fields['schema']}; it takes schema {SCHEMA}")
    return fields


def as_csv(verdicts: Iterable[Verdict]) -> str:
    """One row for each case of each claim; a number that is not finite is an empty cell."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    ends = ("low", "high", "contrast", "contrast_low", "contrast_high")
    rows.writerow(("id", "kind", "claim_verdict", "expected", "case", *_CASE_COLUMNS, *ends, "method"))
    for verdict in verdicts:
        for name, case in verdict.cases.items():
            fields = strict_json(asdict(case))
            low, high = fields["interval"] or (None, None)
            contrast = (fields["contrast"], *(fields["contrast_interval"] or (None, None)))
            claim = (verdict.id, verdict.kind, verdict.verdict, verdict.expected)
            rows.writerow(
                (*claim, name, *(fields[column] for column in _CASE_COLUMNS), low, high, *contrast, case.method)
            )
    return text.getvalue()
