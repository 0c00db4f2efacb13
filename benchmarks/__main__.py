"""Runs the benchmarks named on the command line, or all of them, each in a process with its own devices and peak."""

import importlib
import pkgutil
import subprocess
import sys

import benchmarks


def main() -> None:
    every = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]
    chosen = sys.argv[1:] or every
    if unknown := [name for name in chosen if name not in every]:
        print(f"error: names: got {unknown[0]!r}; takes {' or '.join(every)}", file=sys.stderr)
        sys.exit(2)
    if len(chosen) == 1:
        importlib.import_module(f"benchmarks.{chosen[0]}").main()
        return
    for name in chosen:
        if code := subprocess.run([sys.executable, "-m", "benchmarks", name]).returncode:
            sys.exit(code)


if __name__ == "__main__":
    main()
