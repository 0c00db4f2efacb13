"""``sketchprune compare``: what changed between two reports."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from theory.cli.exit_status import ExitStatus

_Report = Positional[Annotated[Path, arg(metavar="VERDICTS.json")]]


def compare(first: _Report, second: _Report) -> int:
    """Compare two reports: verdicts that changed, looseness that drifted, seconds, and claims that one of them lacks.

    Exit status 0: every verdict on a claim, a case or a mutant of both reports is the same; 1: one changed; 2: wrong
    usage.

    Runs of the same seed, tier and data have the same instances: between them a looseness has drifted if it moved by
    more than 1 %. Between other runs it has drifted if it moved by more than a factor 2, as few cases do.

    Args:
        first: the verdicts.json of a report.
        second: that of another one.
    """
    from theory.cli.console import say, terminal
    from theory.report.comparison import compare as differences
    from theory.report.comparison import lines
    from theory.report.tables import read_json

    found = differences(read_json(first), read_json(second))
    say(terminal(), lines(found))
    return ExitStatus.UNEXPECTED if found.verdicts else ExitStatus.OK
