"""Runs the benchmarks named on the command line, or those of speed; ``compare`` shows what earlier runs found."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import tyro
from rich.console import Console
from tyro.conf import Positional, arg

import benchmarks
from benchmarks import _record, _results, _tables

BENCHMARKS = tuple(
    module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
)
"""The name of every benchmark."""
OF_THE_VERIFIER = ("defects", "identities", "odd_data", "seconds", "verifier")
"""Those that measure no speed, and take up to hours: they run where they are named."""
COMPARE = "compare"
_HINT = f"(of {', '.join(BENCHMARKS)}; default: all that measure speed)"


def run(
    names: Positional[Annotated[tuple[str, ...], arg(metavar="[compare] [NAME ...]", help_behavior_hint=_HINT)]] = (),
) -> int:
    """Measure speed beside peers and rooflines of the same machine, in one run, and keep what was found.

    Several benchmarks run in a process each, so that each has devices and a peak of memory of its own. With "compare"
    first nothing runs: the history of each number is shown, by machine.

    Args:
        names: which benchmarks; without names those that measure speed run. The others take up to hours.
    """
    comparing = names[:1] == (COMPARE,)
    subjects = names[1:] if comparing else names
    for name in subjects:
        if name not in BENCHMARKS:
            print(f"error: names holds {name!r}; it takes {' or '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
    if comparing:
        return _compare(subjects)
    if len(subjects) == 1:
        return _run_one(subjects[0])
    if subjects:
        return _run_each(subjects)
    status = _run_each([name for name in BENCHMARKS if name not in OF_THE_VERIFIER])
    others = ", ".join(OF_THE_VERIFIER)
    print(f"left out, since they measure no speed: {others}; python -m benchmarks NAME runs one of them")
    return status


def _run_each(subjects: Sequence[str]) -> int:
    """Run benchmarks in a process each, all of them also where some fail."""
    codes = {name: subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode for name in subjects}
    failed = ", ".join(f"{name} (return code {code})" for name, code in codes.items() if code)
    if failed:
        print(f"error: these failed: {failed}", file=sys.stderr)
    return 1 if failed else 0


def _run_one(name: str) -> int:
    """Run a benchmark in this process. One with a ``main`` keeps and prints what it finds by itself."""
    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "main"):
        module.main()
        return 0
    found = _record.measured(name, module.rows())
    _record.keep(found, _results.FOLDER)
    _console().print(_tables.run_table(found))
    return 1 if found.failed else 0


def _compare(subjects: Sequence[str]) -> int:
    """Show the history of each number of these subjects, or of all."""
    try:
        histories = _tables.histories(_record.kept(_results.FOLDER, subjects))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for (subject, hardware), found in groupby(sorted(histories, key=_place), _place):
        _console().print(_tables.history_table(list(found), title=f"{subject} on {hardware}"))
    if not histories:
        print("no run is kept yet: python -m benchmarks [NAME ...] keeps one each time")
    return 0


def _place(history: _tables.History) -> tuple[str, str]:
    """What a table of histories is about."""
    return history.subject, history.hardware


def _console() -> Console:
    """Standard output; wide where it is no terminal, so that rows stay lines."""
    console = Console()
    return console if console.is_terminal else Console(width=240)


if __name__ == "__main__":
    sys.exit(tyro.cli(run, prog="python -m benchmarks"))
