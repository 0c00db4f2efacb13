"""``sketchprune list``: one line for each claim."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from theory.cli.arguments import Selection
from theory.cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from rich.text import Text

    from theory.cli.entries import Entry


def list_claims(selection: Selection = ()) -> int:
    """List the claims of the catalogue, of patterns or of files.

    Args:
        selection: claims, patterns such as 'sketch/*', Python files that define claims.
    """
    from theory.cli.console import say, terminal
    from theory.cli.entries import entries

    say(terminal(), _lines(entries(selection)))
    return ExitStatus.OK


def _lines(claims: "Sequence[Entry]") -> "Iterable[Text]":
    """Id, kind and title of each claim."""
    from rich.text import Text

    width = max((len(claim.id) for claim in claims), default=0)
    for claim in claims:
        remark = "  (known to be false)" if claim.known_false else ""
        line = Text(f"{claim.id:<{width}}  {claim.kind:<11}  {claim.title}{remark}")
        line.stylize("bold", 0, len(claim.id))
        yield line
