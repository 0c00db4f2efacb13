"""What is said of a verdict in words: remarks, the counterexample, and the command that replays it."""

import math
from collections.abc import Iterable
from dataclasses import replace

from rich.text import Text

from theory.instances import top_field
from theory.report.formats import array_text, number, points_text
from theory.report.run import Selected
from theory.verdict import INCONCLUSIVE, REFUTED, VACUOUS, Replay, Verdict

MAX_COUNTEREXAMPLE_LINES = 16


def summary(verdict: Verdict) -> str:
    """The verdict in one line, with what is not as expected about it.

    >>> from theory.verdict import SUPPORTED
    >>> summary(Verdict("a/b", "bound", REFUTED, SUPPORTED, 0.1, {}, {"half": VACUOUS}, None, 1.0))
    'REFUTED, expected SUPPORTED; mutant half is VACUOUS, expected REFUTED'
    """
    parts = [f"{verdict.verdict}"]
    if verdict.expected not in (None, verdict.verdict):
        parts[0] += f", expected {verdict.expected}"
    parts += [f"mutant {name} is {word}, expected REFUTED" for name, word in verdict.mutants.items() if word != REFUTED]
    return "; ".join(parts)


def explanation(item: Selected, verdict: Verdict, command: str) -> str:
    """All that is said of a verdict: remarks, the counterexample, and the command that verifies the claim again.

    Args:
        item: the claim.
        verdict: on it.
        command: what verifies it again.
    """
    lines = [*remarks(verdict), *(line.plain.removeprefix("    ") for line in refutation(item, verdict, command))]
    if not any(command in line for line in lines):
        lines.append(f"replay: {command}")
    return "\n".join(lines)


def remarks(verdict: Verdict) -> Iterable[str]:
    """What its reader should know besides the word: what is not as expected, and what two numbers cannot show.

    Args:
        verdict: on one claim.
    """
    if verdict.expected not in (None, verdict.verdict):
        yield f"expected {verdict.expected}"
        if verdict.verdict == VACUOUS:
            yield "  the statement holds and says nothing: it allows more than is known without it"
        for name, case in verdict.cases.items():
            if case.verdict == verdict.verdict:
                yield f"  case {name}: measured {number(case.measured)}, theory {number(case.theory)}"
    elif verdict.expected is None:
        for name, case in verdict.cases.items():
            line = f"{name}: {_estimate(case.measured, case.interval)}, {case.verdict}"
            if case.contrast_interval is not None:
                line += f"; effect − control {_estimate(case.contrast, case.contrast_interval)}"
            yield line
    elif verdict.verdict == REFUTED:
        yield "refuted as expected: this statement is known to be false"
    elif vacuous := [name for name, case in verdict.cases.items() if case.verdict == VACUOUS]:
        yield f"says nothing (VACUOUS) on {len(vacuous)} of {len(verdict.cases)} cases: {', '.join(vacuous)}"
    for name, case in verdict.cases.items():
        if case.reason:
            yield f"case {name} is {case.verdict}: {case.reason}"
        if case.points:
            yield f"case {name}: {points_text(case)}"
    for name, outcome in verdict.mutants.items():
        if outcome == INCONCLUSIVE:
            yield f"mutant {name} is undecided"
        elif outcome != REFUTED:
            yield f"mutant {name} survives ({outcome})"


def _estimate(mean: float, interval: tuple[float, float] | None) -> str:
    """A mean with its confidence interval."""
    low, high = interval or (math.nan, math.nan)
    return f"{number(mean)} in [{number(low)}, {number(high)}]"


def refutation(item: Selected, verdict: Verdict, command: str) -> Iterable[Text]:
    """The counterexample, the smaller one where there is one, and the command that replays the refutation.

    Args:
        item: the claim.
        verdict: on it; one that refutes nothing gives no line.
        command: what verifies the claim again.
    """
    found = verdict.counterexample
    if found is not None:
        yield Text(
            f"    counterexample: case {found.case}, instance {found.instance}, "
            f"found by {found.found_by}, component {found.component}"
        )
        if found.smaller is None:
            yield from _cut_short(instance_lines(found))
            if found.found_by == "trials":
                yield Text("    not made smaller: only trials contradict the statement, and no single instance does")
        else:
            yield Text(f"    measured {found.measured}, theory {found.theory}")
            yield from _shrunk(item, found.smaller)
    if found is not None or (verdict.verdict == REFUTED and verdict.expected is not None):
        yield Text(f"    replay: {command} --out replay")


def _shrunk(item: Selected, found: Replay) -> Iterable[Text]:
    """The shrunk counterexample, in the fields that may change, and what ball arithmetic says of it."""
    yield Text(f"    made smaller: case {found.case}, from instance {found.instance}, component {found.component}")
    movable = [name for name in found.values if top_field(name) in item.claim.movable_fields]
    shown = {name: found.values[name] for name in movable} or found.values
    yield from _cut_short(instance_lines(replace(found, values={**shown, **found.drawn})))
    if found.certificate is not None:
        yield Text(f"    {found.certificate.text}", style="bold" if found.certificate.certified else "")


def _cut_short(lines: Iterable[Text]) -> Iterable[Text]:
    """The first lines, and how many more there are."""
    lines = list(lines)
    yield from lines[:MAX_COUNTEREXAMPLE_LINES]
    if len(lines) > MAX_COUNTEREXAMPLE_LINES:
        yield Text(f"    … {len(lines) - MAX_COUNTEREXAMPLE_LINES} more lines in verdicts.json", style="dim")


def instance_lines(found: Replay) -> Iterable[Text]:
    """Both sides of a statement on an instance, and the instance's arrays.

    Args:
        found: the instance.
    """
    yield Text(f"    measured {found.measured}, theory {found.theory}")
    for name, values in found.values.items():
        indent = " " * (len(name) + len(" = "))
        for line in f"{name} = {array_text(values)}".replace("\n", "\n" + indent).split("\n"):
            yield Text(f"    {line}", style="dim")
