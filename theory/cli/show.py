"""``sketchprune show``: a claim in words."""

from typing import Annotated

from tyro.conf import Positional, arg

from theory.cli.exit_status import ExitStatus


def show(claim: Positional[Annotated[str, arg(metavar="CLAIM|FILE.py::CLAIM")]]) -> int:
    """Show a claim: its statement, sources, cases and mutants.

    Args:
        claim: its id, or a pattern.
    """
    from rich.text import Text

    from theory.cli.console import say, terminal
    from theory.cli.entries import entries

    console = terminal()
    for index, entry in enumerate(entries([claim])):
        if index:
            console.print()
        say(console, (Text.assemble(*line) for line in entry.lines))
    return ExitStatus.OK
