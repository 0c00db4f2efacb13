"""The files that a run leaves: verdicts.json and verdicts.csv for programs, index.html for people."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from latex2mathml.converter import convert
from markupsafe import Markup, escape

from theory.kinds import KINDS, axes
from theory.cli.console import arrays, count, number, source_line
from theory.report.journal import Run
from sketchprune._files import strict_json, write_atomically
from theory.cli.select import Selected
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, VACUOUS, Verdict


def write_report(
    folder: Path, run: Run, chosen: Sequence[Selected], verdicts: Sequence[Verdict], failed: Mapping[str, str]
) -> Path:
    """Write the three files, each at once; the page's path. ``failed``: why what could not be verified could not."""
    write_atomically(folder / "verdicts.json", as_json(run, chosen, verdicts, failed))
    write_atomically(folder / "verdicts.csv", as_csv(verdicts))
    write_atomically(folder / "index.html", as_html(run, chosen, verdicts, failed))
    return folder / "index.html"


def as_json(run: Run, chosen: Sequence[Selected], verdicts: Sequence[Verdict], failed: Mapping[str, str]) -> str:
    """The run and its verdicts; numbers that are not finite are null.

    What ``measured``, ``theory``, ``looseness`` and ``interval`` are, kind by kind: see
    :class:`theory.CaseVerdict`. Two runs with one seed differ in ``elapsed_s`` alone.
    """
    report = {
        "schema": run.schema,
        "versions": run.versions,
        "seed": run.seed,
        "tier": run.tier,
        "data": run.data,
        "level": run.level,
        "claims": [_entry(run, item, verdict) for item, verdict in zip(chosen, verdicts, strict=True)],
        "failed": dict(failed),
    }
    return json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _entry(run: Run, item: Selected, verdict: Verdict) -> dict[str, Any]:
    fields = strict_json(asdict(verdict))
    elapsed_s = fields.pop("elapsed_s")
    return fields | {"command": run.command(item.argument), "elapsed_s": elapsed_s}


_COLUMNS = ("verdict", "trials", "instances", "admissible", "measured", "theory", "looseness")


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """One row a claim and case; numbers that are not finite are empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("id", "kind", "claim_verdict", "expected", "case", *_COLUMNS, "low", "high", "method"))
    for verdict in verdicts:
        for name, case in verdict.cases.items():
            fields = strict_json(asdict(case))
            interval = fields["interval"] or (None, None)
            head = (verdict.id, verdict.kind, verdict.verdict, verdict.expected, name)
            rows.writerow((*head, *(fields[column] for column in _COLUMNS), *interval, case.method))
    return text.getvalue()


def as_html(run: Run, chosen: Sequence[Selected], verdicts: Sequence[Verdict], failed: Mapping[str, str]) -> str:
    """A page that needs no other file."""
    tightness = axes.looseness({verdict.id: verdict.looseness for verdict in verdicts})
    claims = [_view(run, item, verdict) for item, verdict in zip(chosen, verdicts, strict=True)]
    mutants = [outcome for verdict in verdicts for outcome in verdict.mutants.values()]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("theory.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "count": count}
    return environment.get_template("index.html").render(
        run=run,
        claims=claims,
        kinds=list(dict.fromkeys([kind.words for kind in KINDS] + [item.claim.kind.words for item in chosen])),
        failed=failed,
        families=[(name, list(group)) for name, group in groupby(claims, lambda claim: claim["family"])],
        tightness=tightness,
        counts=Counter(verdict.verdict for verdict in verdicts).most_common(),
        standings=Counter(claim["standing"] for claim in claims),
        expected=sum(verdict.as_expected for verdict in verdicts),
        mutants=len(mutants),
        refuted=mutants.count(REFUTED),
        trials=sum(verdict.trials for verdict in verdicts),
        seconds=sum(verdict.elapsed_s for verdict in verdicts),
    )


def mathml(latex: str) -> Markup:
    """A formula as MathML. Raises ValueError for a command that the converter does not know."""
    text = convert(latex, display="block").replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    if "\\" in text or "&#x0005C;" in text:
        raise ValueError(f"statement: got {latex!r}; takes LaTeX that latex2mathml knows")
    return Markup(text)


def _formula(latex: str) -> Markup:
    try:
        return mathml(latex)
    except Exception:  # the converter raises many kinds; a reader can do with the source
        return Markup(f"<code>{escape(latex)}</code>")


def _standing(verdict: Verdict) -> str:
    if verdict.undecided:
        return "open"
    if not verdict.as_expected:
        return "bad"
    return "seen" if verdict.expected is None else "good"


def _tone(word: str, expected: str | None) -> str:
    if expected is None and word in (SUPPORTED, REFUTED):
        return "seen"
    tones: dict[str, str] = {SUPPORTED: "good", REFUTED: "bad", INCONCLUSIVE: "open"}
    return "good" if word == expected else tones.get(word, "idle")


def _view(run: Run, item: Selected, verdict: Verdict) -> Mapping[str, Any]:
    claim = item.claim
    axis = claim.kind.axis(verdict)
    return {
        "id": claim.id,
        "argument": item.argument,
        "family": claim.family,
        "title": claim.title,
        "formula": _formula(claim.statement),
        "latex": claim.statement,
        "kind": claim.kind.words.name,
        "meaning": claim.kind.meaning,
        "sources": [source_line(source) for source in claim.sources],
        "hypotheses": list(claim.hypotheses),
        "note": claim.note,
        "standing": _standing(verdict),
        "verdict": verdict,
        "vacuous": sum(case.verdict == VACUOUS for case in verdict.cases.values()),
        "axis": axis,
        "cases": [
            {"name": name, "tone": _tone(case.verdict, verdict.expected), "strip": axis and axis.strips[name]}
            | asdict(case)
            for name, case in verdict.cases.items()
        ],
        "mutants": [(name, word, _tone(word, REFUTED)) for name, word in verdict.mutants.items()],
        "counterexample": verdict.counterexample
        and asdict(verdict.counterexample)
        | {"values": {name: arrays(values) for name, values in verdict.counterexample.values.items()}},
        "command": run.command(item.argument),
    }
