"""The exit statuses of the command, and the one that a list of verdicts deserves."""

from collections.abc import Iterable
from enum import IntEnum

from theory.verdict import INCONCLUSIVE, REFUTED, Verdict


class ExitStatus(IntEnum):
    """What the command returns to the shell."""

    OK = 0
    UNEXPECTED = 1
    """A verdict is not the expected one, a mutant is not refuted, or a claim could not be verified."""
    USAGE = 2
    """The command was used wrongly."""
    UNDECIDED = 3
    """With --strict: nothing is amiss, but a claim, an effect or a mutant is undecided."""
    INTERRUPTED = 130


def exit_status(verdicts: Iterable[Verdict], *, failed: bool = False, strict: bool = False) -> ExitStatus:
    """The exit status that verdicts deserve.

    Args:
        verdicts: the verdicts of a run.
        failed: whether a claim could not be verified.
        strict: whether a run that is only undecided has a status of its own.
    """
    if failed:
        return ExitStatus.UNEXPECTED
    verdicts = tuple(verdicts)
    wrong = [verdict for verdict in verdicts if not verdict.as_expected]
    if not all(map(_only_undecided, wrong)):
        return ExitStatus.UNEXPECTED
    if strict and any(map(_only_undecided, verdicts)):
        return ExitStatus.UNDECIDED
    return ExitStatus.UNEXPECTED if wrong else ExitStatus.OK


def _only_undecided(verdict: Verdict) -> bool:
    """Whether the claim or a mutant is undecided, and nothing about the verdict is wrong."""
    claim_may_hold = verdict.expected is None or verdict.verdict in (verdict.expected, INCONCLUSIVE)
    mutants_may_fall = set(verdict.mutants.values()) <= {REFUTED, INCONCLUSIVE}
    return verdict.undecided and claim_may_hold and mutants_may_fall
