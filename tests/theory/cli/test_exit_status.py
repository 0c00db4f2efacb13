"""The exit status that verdicts deserve."""

from dataclasses import replace

import pytest

from theory.cli.exit_status import ExitStatus, exit_status
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, UNMET, CaseVerdict, Verdict

CASE = CaseVerdict(SUPPORTED, 4096, 32, 32, 1.0, 2.0, 2.0, None, "rounding")
GOOD = Verdict("sketch/one", "bound", SUPPORTED, SUPPORTED, 0.1, {"digits": CASE}, {"half": REFUTED}, None, 1.0)


@pytest.mark.parametrize(
    "expected, outcome, mutant, plain, strict",
    [
        (SUPPORTED, SUPPORTED, REFUTED, 0, 0),
        (REFUTED, REFUTED, REFUTED, 0, 0),
        (None, REFUTED, REFUTED, 0, 0),
        (SUPPORTED, INCONCLUSIVE, REFUTED, 1, 3),
        (SUPPORTED, SUPPORTED, INCONCLUSIVE, 1, 3),
        (None, INCONCLUSIVE, REFUTED, 0, 3),
        (SUPPORTED, REFUTED, REFUTED, 1, 1),
        (SUPPORTED, REFUTED, INCONCLUSIVE, 1, 1),
        (SUPPORTED, INCONCLUSIVE, SUPPORTED, 1, 1),
        (SUPPORTED, SUPPORTED, SUPPORTED, 1, 1),
        (SUPPORTED, UNMET, REFUTED, 1, 1),
        (REFUTED, SUPPORTED, REFUTED, 1, 1),
    ],
)
def test_exit_status(expected, outcome, mutant, plain, strict):
    verdict = replace(GOOD, expected=expected, verdict=outcome, mutants={"half": mutant})
    assert exit_status([verdict]) == plain and exit_status([verdict], strict=True) == strict
    assert exit_status([GOOD, verdict]) == plain and exit_status([GOOD, verdict], strict=True) == strict
    wrong = replace(GOOD, verdict=REFUTED)
    assert exit_status([verdict, wrong]) == exit_status([verdict, wrong], strict=True) == ExitStatus.UNEXPECTED


def test_no_verdict_is_fine():
    assert exit_status([]) == exit_status([], strict=True) == ExitStatus.OK
