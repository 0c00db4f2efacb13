"""The terminal: how commands print, and the progress line below what they print."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


def terminal(*, quiet: bool = False) -> Console:
    """Standard output as commands print to it: plain text, no markup.

    Args:
        quiet: print nothing.
    """
    return Console(markup=False, highlight=False, quiet=quiet)


def say(console: Console, lines: Iterable[Text | str]):
    """Print lines; a long one is left to the terminal to wrap."""
    for line in lines:
        console.print(line, soft_wrap=True)


def progress(console: Console) -> Progress:
    """A line below the output that shows how far the work is; nothing where the output is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
