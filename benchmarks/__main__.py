"""Runs the benchmarks named on the command line, or all of them, each in a process with its own devices and peak."""

import importlib
import pkgutil
import subprocess
import sys
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

import benchmarks

BENCHMARKS = tuple(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__")
_HINT = f"(of {', '.join(BENCHMARKS)}; default: all)"


def run(
    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME ...]", help_behavior_hint=_HINT)]] = (),
) -> int:
    """Measure speed beside peers and rooflines of the same machine, in one run.

    Args:
        names: which benchmarks.
    """
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"error: names: got {unknown[0]!r}; takes {' or '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        importlib.import_module(f"benchmarks.{names[0]}").main()
        return 0
    return max(subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode for name in names or BENCHMARKS)


if __name__ == "__main__":
    sys.exit(tyro.cli(run, prog="python -m benchmarks"))
