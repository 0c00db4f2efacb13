"""The page of one claim, in Markdown."""

import importlib
from functools import cache

from figures.__main__ import FIGURES
from theory.claim import Claim
from theory.report.formats import array_text, count, number
from theory.report.heat_maps import heat_maps
from theory.report.html import mathml, word
from theory.report.plots import claim_plots
from theory.report.references import source_line
from theory.verdict import Replay, Verdict


def page(claim: Claim, verdict: Verdict, report: dict) -> str:
    """What is said, where it comes from, where it was tested, and what came out.

    Args:
        claim: of the catalogue.
        verdict: on it.
        report: the report that the verdict comes from, as parsed JSON.
    """
    parts = [
        "---\nhide: [toc]\n---",
        f"# {claim.id}",
        f"{claim.title}.",
        f'<div class="statement">{mathml(claim.statement)}</div>',
        _facts(claim, verdict),
    ]
    if claim.note:
        parts += ["## Why, and what to know", claim.note]
    if claim.hypotheses:
        parts += ["## Hypotheses", "\n".join(f"- {name}" for name in claim.hypotheses)]
    parts += ["## Sources", "\n".join(f"- {source_line(source)}" for source in claim.sources)]
    parts += ["## What was measured", provenance(report), _cases(claim, verdict), _tightness(claim, verdict)]
    parts.append(f'<div class="plots">{"".join(claim_plots(claim.kind, verdict))}</div>')
    if claim.mutants:
        parts += ["## Mutants", "False variants that the same check must refute, since a check that cannot fail shows "
                  "nothing.", "\n".join(f"- {name}: {word}" for name, word in verdict.mutants.items())]  # fmt: skip
    if verdict.counterexample is not None:
        parts += ["## Counterexample", *_counterexample(claim, verdict.counterexample)]
    drawn = figures_of().get(claim.id, ())
    if drawn:
        parts += ["## In a figure", *(f"[![{name}](FIGURES/{name}.png)](FIGURES/gallery.md#{name})" for name in drawn)]
    parts += ["## Verify it again", f"```\nsketchprune verify {claim.id} --tier {report['tier']} "
              f"--seed {report['seed']}\nsketchprune show {claim.id}\n```"]  # fmt: skip
    up = "../" * (claim.id.count("/") + 1)
    return "\n\n".join(part for part in parts if part).replace("FIGURES/", f"{up}figures/") + "\n"


def provenance(report: dict) -> str:
    """One sentence: which run the numbers come from."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"Verified at the {report['tier']} tier on {report['data']} with seed {report['seed']} ({versions})."


def badge(verdict: Verdict) -> str:
    """The word on a claim, coloured by whether it is the expected one."""
    observed = verdict.expected is None
    tone = "seen" if observed else "good" if verdict.as_expected else "bad"
    return f'<span class="verdict {tone}">{word(verdict.verdict, observed=observed)}</span>'


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return text.replace("|", "\\|")


@cache
def figures_of() -> dict[str, list[str]]:
    """Claim -> the figures that show it."""
    found: dict[str, list[str]] = {}
    for name in FIGURES:
        for claim in getattr(importlib.import_module(f"figures.{name}"), "CLAIMS", ()):
            found.setdefault(claim, []).append(name)
    return found


def _facts(claim: Claim, verdict: Verdict) -> str:
    expected = {None: "nothing: this is an observation", "REFUTED": "REFUTED: it is known to be false"}
    rows = [
        ("verdict", badge(verdict)),
        ("expected", expected.get(claim.expected, claim.expected)),
        ("says nothing on", ", ".join(name for name, case in verdict.cases.items() if case.verdict == "VACUOUS")),
        ("kind", f"{claim.kind.words.name}: {cell(claim.kind.meaning)}"),
        ("looseness", number(verdict.looseness)),
        ("resolution", number(verdict.resolution)),
    ]
    shown = [f"| **{name}** | {value} |" for name, value in rows if value not in ("", "–")]
    return "\n".join(["| | |", "|---|---|", *shown])


def _cases(claim: Claim, verdict: Verdict) -> str:
    rows = [
        "| case | verdict | measured | theory | looseness | resolution | interval | trials | instances | decided by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, case in verdict.cases.items():
        interval = "–" if case.interval is None else f"{number(case.interval[0])} … {number(case.interval[1])}"
        instances = f"{case.admissible}" + (f" of {case.instances}" if case.admissible != case.instances else "")
        numbers = map(number, (case.measured, case.theory, case.looseness, case.resolution))
        control = " (a control)" if case.control else ""
        said = word(case.verdict, observed=claim.expected is None)
        reason = f": {cell(case.reason)}" if case.reason else ""
        cells = [f"{name}{control}", f"{said}{reason}", *numbers, interval, count(case.trials), instances]
        rows.append(f"| {' | '.join(cells)} | {case.method} |")
    return "\n".join(rows)


def _tightness(claim: Claim, verdict: Verdict) -> str:
    """Where a bound is tight, and where it says nothing."""
    loose = {name: case.looseness for name, case in verdict.cases.items() if case.looseness == case.looseness}
    vacuous = [name for name, case in verdict.cases.items() if case.verdict == "VACUOUS"]
    words = []
    if claim.kind.words.name == "bound" and verdict.verdict != "REFUTED" and loose:
        tight = min(loose, key=lambda name: loose[name])
        words.append(f"The theory is tightest on *{tight}*, {number(loose[tight])} times what was measured.")
    if vacuous:
        words.append(f"It says nothing on {', '.join(f'*{name}*' for name in vacuous)}: the bound exceeds the trivial "
                     "one in the median instance.")  # fmt: skip
    return " ".join(words)


def _counterexample(claim: Claim, found: Replay) -> list[str]:
    shown = found.smaller or found
    parts = [f"Case *{shown.case}*, component {shown.component}: measured **{shown.measured}**, theory "
             f"**{shown.theory}**{', after making it smaller' if found.smaller else ''}."]  # fmt: skip
    arrays = {**shown.values, **shown.drawn}
    names = [name for name in arrays if name.split(".")[0] in claim.movable_fields] or list(shown.values)
    names += shown.drawn
    lines = [
        f"{name} = {array_text(arrays[name])}".replace("\n", "\n" + " " * (len(name) + 3))
        for name in names
        if not isinstance(arrays[name], str)
    ]
    pictures = [f"<figure>{picture}<figcaption>{caption}</figcaption></figure>" for caption, picture in heat_maps(
        {name: arrays[name] for name in names})]  # fmt: skip
    parts.append(f'<div class="maps">{"".join(pictures)}</div>')
    parts.append("```\n" + "\n".join(lines) + "\n```")
    if shown.certificate is not None:
        parts.append(f"{shown.certificate.text}.")
    return parts
