"""Runs the benchmarks named on the command line, or all of them."""

import importlib
import pkgutil
import subprocess
import sys
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

import benchmarks

BENCHMARKS = tuple(
    module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
)
"""The name of every benchmark."""
_HINT = f"(of {', '.join(BENCHMARKS)}; default: all)"


def run(
    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME ...]", help_behavior_hint=_HINT)]] = (),
) -> int:
    """Measure speed beside peers and rooflines of the same machine, in one run.

    Several benchmarks run in a process each, so that each has devices and a peak of memory of its own.

    Args:
        names: which benchmarks.
    """
    for name in names:
        if name not in BENCHMARKS:
            print(f"error: names holds {name!r}; it takes {' or '.join(BENCHMARKS)}", file=sys.stderr)
            return 2
    if len(names) == 1:
        importlib.import_module(f"benchmarks.{names[0]}").main()
        return 0
    return max(subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode for name in names or BENCHMARKS)


if __name__ == "__main__":
    sys.exit(tyro.cli(run, prog="python -m benchmarks"))
