"""``sketchprune compare``: what changed between two reports."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from theory.cli.exit_status import ExitStatus

_Report = Positional[Annotated[Path, arg(metavar="VERDICTS.json")]]


def compare(first: _Report, second: _Report) -> int:
    """Compare two reports: verdicts that changed, looseness that drifted, seconds, and claims that one of them lacks.

    Exit status 0: every verdict on a claim, a case or a mutant of both reports is the same; 1: one changed; 2: wrong
    usage. Looseness counts as drifted where it moved by more than 1 % between runs of the same seed, tier and data,
    whose instances are the same, and else by more than a factor 2: other seeds move few cases as far at the quick tier.

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
