"""Runs as tables: one run, and the history of each number over runs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from rich.markup import escape
from rich.table import Table

from benchmarks._record import OURS, Quantity, Row, Run, Target

_HISTORY: tuple[Quantity, ...] = ("seconds", "ratio", "value")
"""The numbers whose history is shown."""
_NAMED: Mapping[Quantity, str] = {"roofline": "roofline ", "error": "error ", "memory_mib": "memory "}
"""The numbers that a target names, since their units do not say which they are."""


Better = Literal["larger", "smaller", "nearer to 1"]
"""Which of two numbers is the better one."""


class History(NamedTuple):
    """One number over all runs on one machine.

    Attributes:
        subject: the benchmark.
        hardware: the machine.
        what: the thing that is done.
        by: who does it.
        quantity: which number of the row.
        numbers: one for each run that has it, the oldest first.
        better: the direction.
    """

    subject: str
    hardware: str
    what: str
    by: str
    quantity: Quantity
    numbers: tuple[float, ...]
    better: Better

    @property
    def best(self) -> float:
        """The best of the numbers."""
        if self.better == "nearer to 1":
            return min(self.numbers, key=_factor_from_1)
        return max(self.numbers) if self.better == "larger" else min(self.numbers)

    @property
    def change(self) -> float:
        """The last number relative to the first: 0.1 where it is 10 % larger; NaN where the first is 0."""
        return self.numbers[-1] / self.numbers[0] - 1 if self.numbers[0] else float("nan")


def histories(runs: Iterable[Run]) -> list[History]:
    """The history of each number, in the order in which they first occur.

    Args:
        runs: the oldest first.
    """
    found: dict[tuple[str, str, str, str, Quantity], list[float]] = {}
    better: dict[tuple[str, str, str, str, Quantity], Better] = {}
    for run in runs:
        for row in run.rows:
            for quantity in _HISTORY:
                number = getattr(row, quantity)
                if number is not None:
                    name = run.subject, run.hardware, row.what, row.by, quantity
                    found.setdefault(name, []).append(number)
                    better[name] = _better(quantity, row.target)
    return [History(*name, tuple(numbers), better[name]) for name, numbers in found.items()]


def _better(quantity: Quantity, target: Target | None) -> Better:
    """What a target asks of the number; else a peer should take long, and everything else be small."""
    if target is not None and target.of == quantity:
        if target.least is not None and target.most is not None:
            return "nearer to 1"
        return "smaller" if target.least is None else "larger"
    return "larger" if quantity == "ratio" else "smaller"


def _factor_from_1(number: float) -> float:
    """How far a number is from 1, as the logarithm of the factor between them."""
    return abs(math.log(number)) if number > 0 else math.inf


def run_table(run: Run) -> Table:
    """The rows of a run. Columns that no row fills are left out.

    Args:
        run: the run.
    """
    columns: Mapping[str, Callable[[Row], str]] = {
        "by": lambda row: escape(row.by),
        "time": lambda row: number("seconds", row.seconds),
        "a second": lambda row: f"{1 / row.seconds:,.4g}" if row.seconds else "",
        "value": lambda row: number("value", row.value),
        "compile": lambda row: number("seconds", row.compile_s),
        "peer / ours": lambda row: number("ratio", row.ratio),
        "of roofline": lambda row: f"{number('roofline', row.roofline)} {row.roof}".strip(),
        "error": lambda row: number("error", row.error),
        "memory": lambda row: number("memory_mib", row.memory_mib),
        "target": target_text,
        "note": lambda row: escape(row.note),
    }
    shown = {name: text for name, text in columns.items() if any(text(row) for row in run.rows)}
    title = (
        f"{run.subject} on {run.hardware}, {run.at[:10]}, {run.commit}, jax {run.versions.get('jax', '?')}; "
        f"load {run.load:g}, {run.seconds:.0f} s, peak {run.memory_mib:,.0f} MiB"
        + (f"; [red]failed after {len(run.rows)} rows: {escape(run.failed)}[/red]" if run.failed else "")
    )
    table = Table("what", *shown, title=title, title_justify="left")
    before = None
    for row in run.rows:
        cells = [text(row) for text in shown.values()]
        table.add_row("" if row.what == before else escape(row.what), *cells, style="bold" if row.by == OURS else "")
        before = row.what
    return table


def history_table(found: Sequence[History], *, title: str = "") -> Table:
    """First, best and last of each number, and the change.

    Args:
        found: the histories, all of one subject and one machine.
        title: of the table.
    """
    table = Table("what", "by", "number", "runs", "first", "best", "last", "change", title=title, title_justify="left")
    for history in found:
        values = history.numbers[0], history.best, history.numbers[-1]
        texts = [number(history.quantity, value) for value in values]
        change = f"{history.change:+.0%}" if len(history.numbers) > 1 else ""
        names = escape(history.what), escape(history.by), history.quantity, str(len(history.numbers))
        table.add_row(*names, *texts, change)
    return table


def number(quantity: Quantity, value: float | None) -> str:
    """A number of a row as text, with its unit; nothing where it was not measured.

    Args:
        quantity: which number.
        value: what it is.

    >>> number("seconds", 0.0025), number("ratio", 12.34), number("roofline", 0.5), number("value", None)
    ('2.5 ms', '12.3x', '50%', '')
    """
    if value is None:
        return ""
    match quantity:
        case "seconds":
            return _time(value)
        case "ratio":
            return f"{value:,.1f}x" if value < 100 else f"{value:,.0f}x"
        case "roofline":
            return f"{value:.0%}"
        case "memory_mib":
            return f"{value:,.0f} MiB"
        case "error":
            return f"{value:.1e}"
        case "value":
            return f"{value:,.4g}"


def _time(seconds: float) -> str:
    """Seconds with a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds / 1e-9:,.3g} ns"


def target_text(row: Row) -> str:
    """The target of a row, and whether it is met, in rich's markup.

    Args:
        row: the row.
    """
    target = row.target
    if target is None:
        return ""
    bounds = [
        f"{sign} {number(target.of, bound)}"
        for sign, bound in (("≥", target.least), ("≤", target.most))
        if bound is not None
    ]
    said = {True: "met", False: "[red]missed[/red]", None: "not measured"}[row.met]
    return f"{_NAMED.get(target.of, '')}{', '.join(bounds)}: {said}"
