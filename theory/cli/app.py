"""The ``sketchprune`` command: its subcommands, each of which has a file of its own, and how errors leave it.

Whatever imports JAX is imported inside the functions of the subcommands, so that help and wrong usage answer at once.
"""

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import tyro
from tyro.conf import FlagCreatePairsOff

from sketchprune import __version__
from theory.cli.compare import compare
from theory.cli.devices import devices
from theory.cli.exit_status import ExitStatus
from theory.cli.falsify import falsify
from theory.cli.interrupts import heeded
from theory.cli.listing import list_claims
from theory.cli.merge import merge
from theory.cli.search import search
from theory.cli.show import show
from theory.cli.sweep import sweep
from theory.cli.verify import verify

COMMANDS: Mapping[str, Callable[..., int]] = {
    "verify": verify,
    "list": list_claims,
    "show": show,
    "falsify": falsify,
    "merge": merge,
    "compare": compare,
    "search": search,
    "sweep": sweep,
    "devices": devices,
}
"""Name -> function of each subcommand. Its signature and docstring are its options and its help."""

_DESCRIPTION = (
    "Measure theorems about pruning neural networks at initialisation. With --version alone: print the version."
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        args: the words after ``sketchprune``; those of the process by default.
    """
    words = sys.argv[1:] if args is None else list(args)
    if words == ["--version"]:
        print(f"sketchprune {__version__}")
        return ExitStatus.OK
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no "✓" shows "?"
    try:
        with heeded():
            return tyro.extras.subcommand_cli_from_dict(
                dict(COMMANDS),
                args=words,
                prog="sketchprune",
                description=_DESCRIPTION,
                config=(FlagCreatePairsOff,),
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitStatus.USAGE
    except KeyboardInterrupt as interrupt:
        print(": ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return ExitStatus.INTERRUPTED


def entry():
    """Run the command and leave at once, without waiting for threads that are in the middle of a claim."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
