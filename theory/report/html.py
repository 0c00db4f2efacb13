"""The report as one page: index.html, which needs no other file."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from itertools import groupby
from typing import Any

import jinja2
from latex2mathml.converter import convert
from markupsafe import Markup, escape

from theory.claim import Claim
from theory.instances import top_field
from theory.kinds import KINDS, axes
from theory.report.formats import array_text, count, number, points_text
from theory.report.references import source_line
from theory.report.replays import REPLAY, file_stem
from theory.report.run import Report, Run, Selected, refuted_mutants, standing
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, VACUOUS, Replay, Verdict


def as_html(report: Report) -> str:
    """The page of a report. It loads nothing from elsewhere."""
    verdicts = [verdict for _, verdict in report.verdicts]
    sections = [_section(report.run, item, verdict) for item, verdict in report.verdicts]
    kinds = [*KINDS, *(item.claim.kind for item, _ in report.verdicts)]  # a user's claim may be of a kind of her own
    contents = {
        "report": report,
        "run": report.run,
        "kinds": list(dict.fromkeys(kind.words for kind in kinds)),
        "families": [(name, list(members)) for name, members in groupby(sections, lambda one: one["claim"].family)],
        "looseness": axes.looseness({verdict.id: verdict.looseness for verdict in verdicts}),
        "counts": Counter(verdict.verdict for verdict in verdicts).most_common(),
        "standings": Counter(map(standing, verdicts)),
        "trials": sum(verdict.trials for verdict in verdicts),
        "seconds": sum(verdict.elapsed_s for verdict in verdicts),
    }
    return _templates().get_template("index.html").render(contents)


def mathml(latex: str) -> Markup:
    r"""A formula as MathML.

    >>> print(mathml("x"))
    <math display="block"><mrow><mi>x</mi></mrow></math>

    Raises:
        ValueError: the converter does not know a command of the formula.
    """
    text = convert(latex, display="block").replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    if "\\" in text or "&#x0005C;" in text:
        raise ValueError(f"statement is {latex!r}; it takes LaTeX that latex2mathml knows")
    return Markup(text)


@cache
def _templates() -> jinja2.Environment:
    """The templates of the page, with the filters that they use."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("theory.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "count": count}
    return environment


def _section(run: Run, item: Selected, verdict: Verdict) -> Mapping[str, Any]:
    """What the templates show of one claim."""
    claim = item.claim
    axis = claim.kind.axis(verdict)
    return {
        "claim": claim,
        "argument": item.argument,
        "verdict": verdict,
        "standing": standing(verdict),
        "formula": _formula(claim.statement),
        "kind": claim.kind.words.name,
        "meaning": claim.kind.meaning,
        "sources": [source_line(source) for source in claim.sources],
        "axis": axis,
        "cases": [
            asdict(case)
            | {
                "name": name,
                "tone": _tone(case.verdict, verdict.expected),
                "strip": axis and axis.strips[name],
                "points_text": points_text(case) if case.points else "",
            }
            for name, case in verdict.cases.items()
        ],
        "has_contrasts": any(case.contrast_interval is not None for case in verdict.cases.values()),
        "num_vacuous": sum(case.verdict == VACUOUS for case in verdict.cases.values()),
        "mutants": [(name, word, _tone(word, REFUTED)) for name, word in verdict.mutants.items()],
        "num_refuted_mutants": refuted_mutants(verdict),
        "counterexample": _counterexample(claim, verdict),
        "command": run.command(item.argument),
    }


def _formula(latex: str) -> Markup:
    """A formula as MathML, or its source where the converter fails: a reader can do with that."""
    try:
        return mathml(latex)
    except Exception:  # the converter raises many kinds of errors
        return Markup(f"<code>{escape(latex)}</code>")


def _tone(word: str, expected: str | None) -> str:
    """The colour of a verdict word, given the word that was expected."""
    if expected is None and word in (SUPPORTED, REFUTED):
        return "seen"
    if word == expected:
        return "good"
    tones: dict[str, str] = {SUPPORTED: "good", REFUTED: "bad", INCONCLUSIVE: "open"}
    return tones.get(word, "idle")


def _counterexample(claim: Claim, verdict: Verdict) -> Mapping[str, Any] | None:
    """The counterexample and the smaller one, their arrays as text."""
    found = verdict.counterexample
    if found is None:
        return None
    smaller = found.smaller and _shown(found.smaller) | {
        "movable": [name for name in found.smaller.values if top_field(name) in claim.movable_fields],
        "certificate": found.smaller.certificate,
        "files": f"{REPLAY}/{file_stem(verdict.id)}",
    }
    return _shown(found) | {"smaller": smaller}


def _shown(found: Replay) -> dict[str, Any]:
    return asdict(found) | {"values": {name: array_text(values) for name, values in found.values.items()}}
