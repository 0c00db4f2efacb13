"""The table that ``verify`` prints: a row for each claim, and below it what its reader should know.

Where the output is piped, the same lines are printed without colours and without a progress line.
"""

import math
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from theory.cli.console import progress, say, terminal
from theory.report.formats import count, number
from theory.report.remarks import refutation, remarks
from theory.report.replays import REPLAY
from theory.report.run import WHOLE, Report, Run, Selected, refuted_mutants, standing
from theory.verdict import CaseVerdict, Verdict

R = TypeVar("R")

_WIDTHS = {"measured": 9, "theory": 9, "looseness": 9, "resolution": 10, "trials": 7, "mutants": 7, "seconds": 7}
"""The columns of numbers, and how wide they are."""
_VERDICT_WIDTH = len("✓ INCONCLUSIVE")
_MIN_CLAIM_WIDTH = 12
_OPTIONAL_COLUMNS = ("trials", "resolution", "looseness")
"""Columns that a narrow terminal goes without, in this order."""
_MARKS = {"good": ("✓", "green"), "bad": ("✗", "bold red"), "open": ("?", "bold yellow"), "seen": ("•", "cyan")}
"""Mark and colour of a verdict by its standing."""


class VerdictTable:
    """The table of one run.

    Attributes:
        run: the settings, which the opening line and the commands to replay a refutation show.
        chosen: the claims that will have a row.
        console: where it is printed.
    """

    def __init__(self, run: Run, chosen: Sequence[Selected], console: Console | None = None):
        self.run = run
        self.chosen = chosen
        self.console = console or terminal()
        self._layout = _layout([item.argument for item in chosen], self.console)
        self._line = progress(self.console)
        self._task = self._line.add_task("", total=len(chosen))
        self._in_hand = ""
        self._doing: dict[str, str] = {}

    def begin(self):
        """Print what is run, and the head of the table."""
        say(self.console, _opening(self.run, len(self.chosen), self._layout))

    def tracked(self, results: Iterable[tuple[Selected, R]]) -> Generator[tuple[Selected, R], None, None]:
        """Hand on the results of the claims, with a progress line that names the claim in hand.

        The line goes away when the results end or the generator is closed.
        """
        with self._line:
            for item, result in results:
                self._in_hand = item.argument
                self._describe()
                yield item, result
                self._line.advance(self._task)

    def working(self, item: Selected, doing: str):
        """Show what is being measured for a claim while it is the one in hand. Any thread may call this."""
        self._doing[item.argument] = doing
        if item.argument == self._in_hand:
            self._describe()

    def _describe(self):
        """Say on the progress line what is done for the claim in hand."""
        doing = self._doing.get(self._in_hand)
        description = f"{self._in_hand}: {doing}" if doing else self._in_hand
        self._line.update(self._task, description=description, refresh=True)

    def add(self, item: Selected, verdict: Verdict):
        """Print the row of a claim, and below it what was not as expected and the counterexample."""
        say(self.console, _row(item, verdict, self._layout))
        say(self.console, (Text(f"  {remark}", style="yellow") for remark in remarks(verdict)))
        say(self.console, refutation(item, verdict, self.run.command(item.argument)))

    def end(self, report: Report, page: Path, seconds: float):
        """Print how many verdicts of each word there are, what was not as expected, and where the report is."""
        say(self.console, _closing(report, page, seconds))


@dataclass(frozen=True)
class _Layout:
    """Which columns the table has, and how wide that of the claims is."""

    columns: tuple[str, ...]
    claim_width: int

    def line(self, verdict: str, claim: str, cells: Mapping[str, str]) -> str:
        """One line of the table."""
        if len(claim) > self.claim_width:
            claim = claim[: self.claim_width - 1] + "…"
        numbers = "".join(f"  {cells[name]:>{_WIDTHS[name]}}" for name in self.columns)
        return f"{verdict:<{_VERDICT_WIDTH}}  {claim:<{self.claim_width}}{numbers}"


def _layout(claims: Sequence[str], console: Console) -> _Layout:
    """The widest table that fits the terminal; the whole table where the output is piped."""
    columns = list(_WIDTHS)
    claim_width = max(map(len, ["claim", *claims]))
    if not console.is_terminal:
        return _Layout(tuple(columns), claim_width)
    for name in _OPTIONAL_COLUMNS:
        if claim_width > _room_for_claims(columns, console):
            columns.remove(name)
    claim_width = max(_MIN_CLAIM_WIDTH, min(claim_width, _room_for_claims(columns, console)))
    return _Layout(tuple(columns), claim_width)


def _room_for_claims(columns: Sequence[str], console: Console) -> int:
    """The width that is left for the claims' ids beside these columns."""
    return console.width - _VERDICT_WIDTH - 2 - sum(_WIDTHS[name] + 2 for name in columns)


def _opening(run: Run, num_claims: int, layout: _Layout) -> Iterable[Text]:
    """What is run, then the head of the table."""
    versions = ", ".join(f"{name} {run.versions[name]}" for name in ("sketchprune", "jax") if name in run.versions)
    claims = f"{num_claims} claim{'' if num_claims == 1 else 's'}"
    settings = f"{claims}, tier {run.tier}, seed {run.seed}, data {run.data}"
    if run.shard != WHOLE:
        settings += f", shard {run.shard}"
    yield Text(f"{versions} on {run.versions.get('backend', '')}: {settings}", style="dim")
    head = layout.line("  verdict", "claim", {name: name for name in _WIDTHS})
    yield Text(head, style="bold")
    yield Text("─" * len(head), style="dim")


def _row(item: Selected, verdict: Verdict, layout: _Layout) -> Iterable[Text]:
    """The row of a claim."""
    mark, style = _MARKS[standing(verdict)]
    measured, theory = _both_sides(verdict)
    cells = {
        "measured": number(measured),
        "theory": number(theory),
        "looseness": number(verdict.looseness),
        "resolution": number(verdict.resolution),
        "trials": count(verdict.trials),
        "mutants": f"{refuted_mutants(verdict)}/{len(verdict.mutants)}" if verdict.mutants else "–",
        "seconds": f"{verdict.elapsed_s:.1f}",
    }
    line = Text(layout.line(f"{mark} {verdict.verdict}", item.argument, cells))
    line.stylize(style, 0, 2 + len(verdict.verdict))
    yield line


def _both_sides(verdict: Verdict) -> tuple[float, float]:
    """The two numbers that stand for the claim.

    Those of the counterexample if there is one; else those of a case: of the cases that have the claim's verdict, the
    one where the theory is tightest.
    """
    if verdict.counterexample is not None:
        return verdict.counterexample.measured, verdict.counterexample.theory
    cases = [case for case in verdict.cases.values() if not case.control]
    agreeing = [case for case in cases if case.verdict == verdict.verdict]
    tightest = max(agreeing or cases, key=_tightness)
    return tightest.measured, tightest.theory


def _tightness(case: CaseVerdict) -> float:
    """measured ÷ theory; −∞ where that is no number."""
    ratio = case.measured / case.theory if case.theory else math.inf
    return ratio if math.isfinite(ratio) else -math.inf


def _closing(report: Report, page: Path, seconds: float) -> Iterable[Text]:
    """The last lines of a run."""
    verdicts = [verdict for _, verdict in report.verdicts]
    words = ", ".join(
        f"{times} {word}" for word, times in Counter(verdict.verdict for verdict in verdicts).most_common()
    )
    yield Text(
        f"{words or 'no verdict'} in {seconds:.1f} s; {report.num_expected} of {report.num_claims} as expected, "
        f"{report.num_refuted_mutants} of {report.num_mutants} mutants refuted",
        style="bold green" if report.num_expected == report.num_claims else "bold red",
    )
    if report.failed:
        yield Text(f"could not be verified: {', '.join(report.failed)}", style="red")
    if unexpected := [verdict.id for verdict in verdicts if not verdict.as_expected]:
        yield Text(f"not as expected: {', '.join(unexpected)}", style="red")
    if any(verdict.counterexample and verdict.counterexample.smaller for verdict in verdicts):
        yield Text(f"counterexamples, to be run with NumPy alone: {page.parent / REPLAY}")
    yield Text(f"report: {page}")
