"""Runs the benchmarks named on the command line, or all of them."""

import importlib
import pkgutil
import sys

import benchmarks


def main() -> None:
    every = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]
    chosen = sys.argv[1:] or every
    if unknown := [name for name in chosen if name not in every]:
        print(f"error: names: got {unknown[0]!r}; takes {' or '.join(every)}", file=sys.stderr)
        sys.exit(2)
    for name in chosen:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
