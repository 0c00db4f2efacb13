"""What a terminal shows of a run: a table that grows by a row a claim; where it is piped, plain lines."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from theory.claim import Case, Claim, Source
from theory.cli.select import Selected
from theory.falsify import Closest
from theory.report.journal import Run
from theory.report.references import citation, references
from theory.verdict import INCONCLUSIVE, REFUTED, VACUOUS, CaseVerdict, Replay, Verdict

_COLUMNS = {"measured": 9, "theory": 9, "looseness": 9, "trials": 7, "mutants": 7, "seconds": 7}
_VERDICT = len("✓ INCONCLUSIVE")
LINES = 16
"""Of a counterexample's numbers at most."""


@dataclass(frozen=True)
class Layout:
    """Which columns a table has, and how wide that of the claims is."""

    columns: tuple[str, ...]
    claim: int

    def line(self, verdict: str, claim: str, cells: Mapping[str, str]) -> str:
        """One row of the table."""
        claim = claim if len(claim) <= self.claim else claim[: self.claim - 1] + "…"
        tail = "".join(f"  {cells[name]:>{_COLUMNS[name]}}" for name in self.columns)
        return f"{verdict:<{_VERDICT}}  {claim:<{self.claim}}{tail}"


def terminal(*, quiet: bool = False) -> Console:
    """Standard output, as commands print to it: plain text, no markup. ``quiet``: nothing is shown."""
    return Console(markup=False, highlight=False, quiet=quiet)


def layout(chosen: Sequence[Selected], console: Console) -> Layout:
    """The widest table that fits a terminal; where output is piped, all of it."""
    columns, claim = [*_COLUMNS], max(len("claim"), *(len(item.argument) for item in chosen), 0)
    if console.is_terminal:
        for name in ("trials", "looseness"):
            if _VERDICT + 2 + claim + sum(_COLUMNS[name] + 2 for name in columns) > console.width:
                columns.remove(name)
        room = console.width - _VERDICT - 2 - sum(_COLUMNS[name] + 2 for name in columns)
        claim = max(12, min(claim, room))
    return Layout(tuple(columns), claim)


def progress(console: Console) -> Progress:
    """The line below the table that says what is being verified; absent where output is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def opening(run: Run, chosen: Sequence[Selected], layout: Layout) -> Iterable[Text]:
    """What is run, then the table's head."""
    versions = ", ".join(f"{name} {value}" for name, value in run.versions.items() if name in ("sketchprune", "jax"))
    claims = f"{len(chosen)} claim{'s' if len(chosen) != 1 else ''}"
    backend = run.versions.get("backend", "")
    yield Text(f"{versions} on {backend}: {claims}, tier {run.tier}, seed {run.seed}, data {run.data}", style="dim")
    head = layout.line("  verdict", "claim", {name: name for name in _COLUMNS})
    yield Text(head, style="bold")
    yield Text("─" * len(head), style="dim")


def row(item: Selected, verdict: Verdict, run: Run, layout: Layout) -> Iterable[Text]:
    """A claim's row; below it, what was not as expected and the counterexample where there is one."""
    mark, style = _standing(verdict)
    case = deciding(verdict)
    refuted = sum(v == REFUTED for v in verdict.mutants.values())
    cells = {
        "measured": number(case.measured),
        "theory": number(case.theory),
        "looseness": number(verdict.looseness),
        "trials": count(verdict.trials),
        "mutants": f"{refuted}/{len(verdict.mutants)}" if verdict.mutants else "–",
        "seconds": f"{verdict.elapsed_s:.1f}",
    }
    line = Text(layout.line(f"{mark} {verdict.verdict}", item.argument, cells))
    line.stylize(style, 0, 2 + len(verdict.verdict))
    yield line
    yield from (Text("  " + remark, style="yellow") for remark in _remarks(verdict))
    if verdict.counterexample is not None:
        yield from _counterexample(item, verdict.counterexample, run)
    elif verdict.verdict == REFUTED and verdict.expected is not None:
        yield Text(_replayed(item, run))


def closing(verdicts: Sequence[Verdict], failed: Mapping[str, str], index: Path, seconds: float) -> Iterable[Text]:
    """The count of each verdict, the seconds of the run, what was not as expected, and where the report is."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    words = ", ".join(f"{count} {word}" for word, count in counts.most_common())
    mutants = [v for verdict in verdicts for v in verdict.mutants.values()]
    good = sum(verdict.as_expected for verdict in verdicts)
    claims = len(verdicts) + len(failed)
    yield Text(
        f"{words or 'no verdict'} in {seconds:.1f} s; {good} of {claims} as expected, "
        f"{mutants.count(REFUTED)} of {len(mutants)} mutants refuted",
        style="bold green" if good == claims else "bold red",
    )
    if failed:
        yield Text(f"could not be verified: {', '.join(failed)}", style="red")
    if wrong := [verdict.id for verdict in verdicts if not verdict.as_expected]:
        yield Text(f"not as expected: {', '.join(wrong)}", style="red")
    yield Text(f"report: {index}")


def search_opening(item: Selected) -> Iterable[Text]:
    """The claim that is searched for a counterexample, and the table's head."""
    yield Text(f"{item.argument}: {item.claim.title}", style="bold")
    yield Text(_search_line("case", "measured÷theory", "at the start", "measured", "theory"), style="dim")


def search_row(found: Closest) -> Text:
    """How close a search came to a counterexample on one case."""
    if found.instance is None:
        return Text(f"  {found.case:<20}  no instance meets the hypotheses")
    numbers = (found.ratio, found.start, found.instance.measured, found.instance.theory)
    return Text(_search_line(found.case, *map(number, numbers)), style="bold red" if found.refutes else "")


def search_closing(found: Sequence[Closest]) -> Iterable[Text]:
    """The worst counterexample, or that there is none."""
    refuting = [each for each in found if each.refutes]
    if not refuting:
        yield Text("    no counterexample")
        return
    worst = max(refuting, key=lambda each: math.inf if math.isnan(each.ratio) else each.ratio)
    assert worst.instance is not None
    yield Text(f"    counterexample: case {worst.case}, from instance {worst.instance.instance}")
    yield from _instance(worst.instance)


def _search_line(case: str, *cells: str) -> str:
    return f"  {case:<20}  {cells[0]:>15}  {cells[1]:>12}  {cells[2]:>9}  {cells[3]:>9}"


def listing(claims: Sequence[Claim]) -> Iterable[Text]:
    """One line a claim."""
    width = max((len(claim.id) for claim in claims), default=0)
    for claim in claims:
        note = "  (known to be false)" if claim.expected == REFUTED else ""
        line = Text(f"{claim.id:<{width}}  {claim.kind.words.name:<11}  {claim.title}{note}")
        line.stylize("bold", 0, len(claim.id))
        yield line


def description(item: Selected) -> Iterable[Text]:
    """A claim in words."""
    claim = item.claim
    yield Text(claim.id, style="bold")
    yield Text(claim.title)
    yield Text(f"\n    {claim.statement}\n", style="cyan")
    yield from _listed("kind", [f"{claim.kind.words.name}: {claim.kind.meaning}"])
    yield from _listed("expected", [claim.expected or "nothing: an observation"])
    yield from _listed("hypotheses", claim.hypotheses)
    yield from _listed("cases", map(_case, claim.cases))
    yield from _listed("mutants", claim.mutants)
    yield from _listed("sources", map(source_line, claim.sources))
    yield from _listed("note", [claim.note] if claim.note else [])
    yield from _listed("run", [shlex.join(["sketchprune", "verify", item.argument])])


def source_line(source: Source) -> str:
    """Citation, place and status of a statement's source."""
    places = {
        "stated": "stated there",
        "derived": "derived from it",
        "known-false": "a false strengthening of it",
    }
    locus = f"{source.locus}, " if source.locus else ""
    key = f"{source.key}: " if source.key in references() else ""
    return f"{citation(source.key)} [{key}{locus}{places[source.status]}]"


def deciding(verdict: Verdict) -> CaseVerdict:
    """The case that stands for the claim: of those with its verdict, the one where the theory is tightest."""
    cases = [case for case in verdict.cases.values() if not case.control]
    same = [case for case in cases if case.verdict == verdict.verdict]
    return max(same or cases, key=_tightness)


def number(value: Any) -> str:
    """Three significant digits; a dash for what is not finite.

    >>> number(0.000123456), number(0.5), number(1234.5), number(1234567.0), number(float("nan"))
    ('1.23e-04', '0.5', '1234', '1.23e+06', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:.0f}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"


def count(value: int) -> str:
    """A number of trials, short.

    >>> count(4096), count(131072), count(67108864), count(0)
    ('4096', '131k', '67.1M', '–')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= max(size, 10**4):
            return f"{value / size:.3g}{unit}"
    return str(value) if value else "–"


def arrays(values: Any) -> str:
    """An instance's numbers, as NumPy prints them."""
    array = np.asarray(values)
    if array.dtype == object:  # None stands for numbers that are not finite
        array = array.astype(float)
    return np.array2string(array, precision=4, separator=", ", max_line_width=96, threshold=64)


def _listed(name: str, items: Iterable[str]) -> Iterable[Text]:
    for index, item in enumerate(items):
        yield Text.assemble((f"{name if index == 0 else '':<12}", "bold"), item)


def _case(case: Case) -> str:
    remarks = {"all outcomes enumerated": case.enumerable, "a control": case.control, "full tier": case.long}
    said = ", ".join(remark for remark, holds in remarks.items() if holds)
    return f"{case.name} ({said})" if said else case.name


def _tightness(case: CaseVerdict) -> float:
    ratio = case.measured / case.theory if case.theory else math.inf
    return ratio if math.isfinite(ratio) else -math.inf


def _standing(verdict: Verdict) -> tuple[str, str]:
    if verdict.undecided:
        return "?", "bold yellow"
    if not verdict.as_expected:
        return "✗", "bold red"
    return ("•", "cyan") if verdict.expected is None else ("✓", "green")


def _remarks(verdict: Verdict) -> Iterable[str]:
    if verdict.expected not in (None, verdict.verdict):
        yield f"expected {verdict.expected}"
        for name, case in verdict.cases.items():
            if case.verdict == verdict.verdict:
                yield f"  case {name}: measured {number(case.measured)}, theory {number(case.theory)}"
    elif verdict.expected is None:
        for name, case in verdict.cases.items():
            low, high = case.interval or (math.nan, math.nan)
            yield f"{name}: {number(case.measured)} in [{number(low)}, {number(high)}], {case.verdict}"
    elif verdict.verdict == REFUTED:
        yield "refuted as expected: this statement is known to be false"
    elif vacuous := [name for name, case in verdict.cases.items() if case.verdict == VACUOUS]:
        yield f"says nothing (VACUOUS) on {len(vacuous)} of {len(verdict.cases)} cases: {', '.join(vacuous)}"
    for name, outcome in verdict.mutants.items():
        if outcome != REFUTED:
            word = "is undecided" if outcome == INCONCLUSIVE else f"survives ({outcome})"
            yield f"mutant {name} {word}"


def _counterexample(item: Selected, found: Replay, run: Run) -> Iterable[Text]:
    yield Text(
        f"    counterexample: case {found.case}, instance {found.instance}, "
        f"found by {found.found_by}, component {found.component}"
    )
    lines = list(_instance(found))
    more = [Text(f"    … {len(lines) - LINES} lines more in verdicts.json", style="dim")] if len(lines) > LINES else []
    yield from (*lines[:LINES], *more)
    yield Text(_replayed(item, run))


def _replayed(item: Selected, run: Run) -> str:
    return f"    replay: {run.command(item.argument)} --out replay"


def _instance(found: Replay) -> Iterable[Text]:
    yield Text(f"    measured {found.measured}, theory {found.theory}")
    for name, values in found.values.items():
        for line in f"{name} = {arrays(values)}".replace("\n", "\n" + " " * (len(name) + 3)).split("\n"):
            yield Text(f"    {line}", style="dim")
