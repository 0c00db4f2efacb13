"""The report as one page: index.html, which needs no other file."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
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
from theory.report.comparison import SAME, Change, Comparison
from theory.report.formats import array_text, count, number, points_text
from theory.report.heat_maps import heat_maps
from theory.report.plots import claim_plots, words
from theory.report.references import source_line
from theory.report.replays import REPLAY, file_stem
from theory.report.run import Report, Run, Selected, refuted_mutants, standing, tone
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, UNMET, VACUOUS, CaseVerdict, Decision, Replay, Verdict

OBSERVED: Mapping[str, str] = {
    SUPPORTED: "in agreement",
    REFUTED: "at odds",
    VACUOUS: "says nothing",
    INCONCLUSIVE: "undecided",
    UNMET: "not measured",
}
"""What the page says of an observation, of which nothing was expected, in place of the verdict."""
_ORDER = (REFUTED, INCONCLUSIVE, UNMET, VACUOUS, SUPPORTED)
"""How verdicts are sorted, after what is not as expected."""


def as_html(report: Report, changes: Comparison | str | None = None) -> str:
    """The page of a report. It loads nothing from elsewhere.

    Args:
        report: a run and its verdicts.
        changes: since the last report; why they are not known; None where there was no report.
    """
    verdicts = [verdict for _, verdict in report.verdicts]
    looseness = axes.looseness({verdict.id: verdict.looseness for verdict in verdicts if verdict.expected is not None})
    sections = [_section(report.run, item, verdict) for item, verdict in report.verdicts]
    theorems = [section for section in sections if not section["observed"]]
    observations = [section for section in sections if section["observed"]]
    kinds = [*KINDS, *(item.claim.kind for item, _ in report.verdicts)]  # a user's claim may be of a kind of her own
    contents = _counts(verdicts, theorems, observations) | {
        "report": report,
        "run": report.run,
        "changes": changes,
        "changed": _changed(changes, observations) if isinstance(changes, Comparison) else [],
        "same_instances": isinstance(changes, Comparison) and changes.threshold == SAME,
        "kinds": list(dict.fromkeys(kind.words for kind in kinds)),
        "theorems": _by_family(theorems),
        "observations": observations,
        "looseness": looseness,
        "choices": {
            "family": list(dict.fromkeys(section["claim"].family for section in sections)),
            "kind": list(dict.fromkeys(section["kind"] for section in sections)),
        },
    }
    return _templates().get_template("index.html").render(contents)


_LOGARITHM = re.compile(r"((?<!<msub>)<mi>log</mi>|<msub><mi>log</mi><mn>2</mn></msub>)(?=<m(?:i|n|frac|sub|sup)>)")
"""A logarithm whose argument follows without a bracket: the converter puts no space between the two."""


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
    return Markup(_LOGARITHM.sub(r'\1<mspace width="0.17em"/>', text))


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


def _by_family(sections: list[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The sections of each family, in their order."""
    return [(name, list(members)) for name, members in groupby(sections, lambda section: section["claim"].family)]


def _counts(
    verdicts: Sequence[Verdict], theorems: Sequence[Mapping[str, Any]], observations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What is counted over all claims. Words come with how often there is each, the most frequent first."""
    return {
        "num_theorems": len(theorems),
        "words": Counter(section["word"] for section in theorems).most_common(),
        "results": Counter(section["result"] for section in theorems).most_common(),
        "observed": Counter(section["word"] for section in observations).most_common(),
        "standings": Counter(map(standing, verdicts)),
        "trials": sum(verdict.trials for verdict in verdicts),
        "seconds": sum(verdict.elapsed_s for verdict in verdicts),
    }


def _changed(changes: Comparison, observations: list[Mapping[str, Any]]) -> list[Change]:
    """The verdicts that changed, in the words that the page has for them."""
    observed = {section["claim"].id for section in observations}

    def in_words(change: Change) -> Change:
        id, _, part = change.what.partition(", ")
        if id not in observed or part.startswith("mutant "):
            return change
        return Change(change.what, *(OBSERVED.get(word, word) for word in (change.first, change.second)))

    return [in_words(change) for change in changes.verdicts]


def _section(run: Run, item: Selected, verdict: Verdict) -> Mapping[str, Any]:
    """What the templates show of one claim."""
    claim = item.claim
    observed = verdict.expected is None
    cases = [_case(name, case, verdict.expected) for name, case in verdict.cases.items()]
    return {
        "claim": claim,
        "argument": item.argument,
        "verdict": verdict,
        "observed": observed,
        "word": word(verdict.verdict, observed=observed),
        "result": verdict.verdict + (" (known to be false)" if verdict.verdict == verdict.expected == REFUTED else ""),
        "rank": 0 if not verdict.as_expected else 1 + _ORDER.index(verdict.verdict),
        "standing": standing(verdict),
        "formula": _formula(claim.statement),
        "kind": claim.kind.words.name,
        "meaning": claim.kind.meaning,
        "sources": [source_line(source) for source in claim.sources],
        "plots": claim_plots(claim.kind, verdict),
        "estimates": _estimates(claim, verdict) if observed else (),
        "cases": cases,
        "columns": [label for label in cases[0]["numbers"] if any(case["numbers"][label] != "–" for case in cases)],
        "num_vacuous": sum(case.verdict == VACUOUS for case in verdict.cases.values()),
        "mutants": [(name, word, tone(word, REFUTED)) for name, word in verdict.mutants.items()],
        "num_refuted_mutants": refuted_mutants(verdict),
        "counterexample": _counterexample(claim, verdict),
        "command": run.command(item.argument),
    }


def _case(name: str, case: CaseVerdict, expected: Decision | None) -> Mapping[str, Any]:
    """What the templates show of one case."""
    return {
        "name": name,
        "word": word(case.verdict, observed=expected is None),
        "tone": tone(case.verdict, expected),
        "reason": case.reason,
        "method": case.method,
        "numbers": _numbers(case),
        "points_text": points_text(case) if case.points else "",
    }


def _numbers(case: CaseVerdict) -> dict[str, str]:
    """The numbers of a case as text, by what they are; a dash for one that it does not have."""
    low, high = case.interval or (math.nan, math.nan)
    least, most = case.contrast_interval or (math.nan, math.nan)
    of_all = f" of {case.instances}" if case.admissible != case.instances else ""
    return {
        "measured": number(case.measured),
        "theory": number(case.theory),
        "looseness": number(case.looseness),
        "resolution": number(case.resolution),
        "interval": f"{number(low)} … {number(high)}" if case.interval else "–",
        "effect − control": f"{number(case.contrast)} in {number(least)} … {number(most)}"
        if case.contrast_interval
        else "–",
        "trials": count(case.trials),
        "instances": f"{case.admissible}{of_all}",
    }


def word(decision: Decision, *, observed: bool) -> str:
    """The verdict, or what is said in place of it of an observation.

    Args:
        decision: the verdict.
        observed: whether it is on an observation.
    """
    return OBSERVED[decision] if observed else decision


def _estimates(claim: Claim, verdict: Verdict) -> list[dict[str, str]]:
    """What was estimated in each case that is no control, with its interval, and what is said of it."""
    axis = claim.kind.axis(verdict)
    if axis is None:
        return []
    return [
        {"case": name, "estimate": f"{axis.caption} {words(axis.values[name])}", "word": OBSERVED[case.verdict]}
        for name, case in verdict.cases.items()
        if not case.control and name in axis.values
    ]


def _formula(latex: str) -> Markup:
    """A formula as MathML, or its source where the converter fails: a reader can do with that."""
    try:
        return mathml(latex)
    except Exception:  # the converter raises many kinds of errors
        return Markup(f"<code>{escape(latex)}</code>")


def _counterexample(claim: Claim, verdict: Verdict) -> Mapping[str, Any] | None:
    """The counterexample and the smaller one, their arrays as text and as heat maps."""
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
    texts, drawn = (
        {name: array_text(values) for name, values in arrays.items()} for arrays in (found.values, found.drawn)
    )
    return asdict(found) | {"values": texts, "drawn": drawn, "maps": heat_maps({**found.values, **found.drawn})}
