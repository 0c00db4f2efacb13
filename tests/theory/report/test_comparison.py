"""Two reports side by side: what changed, what drifted, what is on one side only, and the exit status."""

import json
import re
from dataclasses import replace

import pytest

from tests.support.claims import claim
from tests.support.command import run
from theory.report.comparison import NOISE, SAME, compare, lines
from theory.report.run import Report, Run, Selected
from theory.report.tables import as_json
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, VACUOUS, CaseVerdict, Verdict

RUN = Run(seed=0, tier="quick", data="digits", data_crc32=7, versions={"sketchprune": "0.1.0", "jax": "0.10.2"})
CASE = CaseVerdict(SUPPORTED, 4096, 32, 32, 1.0, 2.0, 2.0, None, "rounding")
ONE = Verdict(
    "sketch/one", "bound", SUPPORTED, SUPPORTED, 0.1, {"digits": CASE, "small": CASE}, {"half": REFUTED}, None, 3.0
)
TWO = replace(ONE, id="sketch/two")


def report(*verdicts, run=RUN, failed=()):
    items = [(Selected(claim(verdict.id), verdict.id), verdict) for verdict in verdicts]
    return as_json(Report(run, items, dict(failed)))


def compared(first, second):
    return compare(json.loads(first), json.loads(second))


def with_case(verdict, /, **fields):
    return replace(verdict, cases=verdict.cases | {"digits": replace(CASE, **fields)})


def test_equal_reports():
    found = compared(report(ONE, TWO), report(TWO, ONE))
    assert not (found.settings or found.verdicts or found.looseness or found.only_first or found.only_second)
    assert list(lines(found)) == [
        "2 claims in both; verdicts that changed: 0; cases that drifted: 0; 6.0 s, then 6.0 s"
    ]


def test_verdicts_on_claims_cases_and_mutants():
    changed = replace(with_case(ONE, verdict=VACUOUS), verdict=INCONCLUSIVE, mutants={"half": SUPPORTED})
    assert list(lines(compared(report(ONE), report(changed))))[:-1] == [
        "verdict sketch/one: SUPPORTED, then INCONCLUSIVE",
        "verdict sketch/one, case digits: SUPPORTED, then VACUOUS",
        "verdict sketch/one, mutant half: REFUTED, then SUPPORTED",
    ]


def test_a_claim_that_could_not_be_verified_has_another_verdict():
    failed = {"mine.py::sketch/two": "TypeError"}
    assert "verdict sketch/two: SUPPORTED, then FAILED" in lines(compared(report(ONE, TWO), report(ONE, failed=failed)))
    found = compared(report(ONE, failed=failed), report(ONE, failed=failed))
    assert not found.verdicts and found.shared == 1


@pytest.mark.parametrize(
    ("run", "threshold"),
    [
        (RUN, SAME),
        (replace(RUN, versions=RUN.versions | {"jax": "0.10.3"}), SAME),
        (replace(RUN, seed=1), NOISE),
        (replace(RUN, tier="full"), NOISE),
        (replace(RUN, data="my.npz"), NOISE),
    ],
)
def test_looseness_drifts_beyond_what_other_instances_do_to_it(run, threshold):
    for factor, drifted in ((threshold * 0.999, False), (threshold * 1.001, True)):
        for first, second in ((2.0, 2.0 * factor), (2.0 * factor, 2.0)):
            found = compared(report(with_case(ONE, looseness=first)), report(with_case(ONE, looseness=second), run=run))
            assert [change.what for change in found.looseness] == ["sketch/one, case digits"] * drifted


def test_drift_says_by_how_much_and_what_counts():
    found = list(lines(compared(report(ONE), report(with_case(ONE, looseness=3.0)))))
    assert found[0] == "looseness that moved by more than a factor 1.01, where the instances are the same:"
    assert found[1] == "looseness sketch/one, case digits: 2, then 3 (factor 1.5)"
    found = list(lines(compared(report(ONE), report(with_case(ONE, looseness=float("nan")), run=replace(RUN, seed=4)))))
    assert found[:2] == [
        "setting seed: 0, then 4",
        "looseness that moved by more than a factor 2.0, where the instances are different ones:",
    ]
    assert found[2] == "looseness sketch/one, case digits: 2, then –"


def test_what_one_report_lacks_is_named_once():
    fewer = replace(ONE, cases={"digits": CASE}, mutants={})
    assert list(lines(compared(report(ONE, TWO), report(fewer))))[:-1] == [
        "only in the first: sketch/one, case small",
        "only in the first: sketch/one, mutant half",
        "only in the first: sketch/two",
    ]
    assert compared(report(fewer), report(ONE, TWO)).only_second == [
        "sketch/one, case small", "sketch/one, mutant half", "sketch/two",
    ]  # fmt: skip


def test_claims_that_became_slower_than_most_are_named():
    seconds = dict.fromkeys("bcdefg", 3.0) | {"h": 0.1}
    before = [replace(ONE, id=f"a/{name}", elapsed_s=time) for name, time in seconds.items()]
    for machine in (1.0, 10.0):
        times = seconds | {"f": 5.9, "g": 9.0, "h": 0.1 + 1.9 / machine}
        slower = [replace(verdict, elapsed_s=machine * times[verdict.id[-1]]) for verdict in before]
        found = compared(report(*before), report(*slower))
        assert [(change.what, change.first, change.second) for change in found.slower] == [("a/g", 3.0, 9.0 * machine)]
    assert "seconds a/g: 3.0, then 90.0" in lines(found)


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (report(ONE, TWO), 0),
        (report(ONE), 0),
        (report(with_case(ONE, looseness=9.0), TWO, run=replace(RUN, seed=1)), 0),
        (report(replace(ONE, verdict=REFUTED), TWO), 1),
        (report(replace(ONE, mutants={"half": INCONCLUSIVE}), TWO), 1),
        (report(with_case(ONE, verdict=VACUOUS), TWO), 1),
        (report(ONE, failed={"sketch/two": "TypeError"}), 1),
    ],
)
def test_the_exit_status_is_of_changed_verdicts_alone(tmp_path, capsys, second, status):
    (tmp_path / "a.json").write_text(report(ONE, TWO))
    (tmp_path / "b.json").write_text(second)
    assert run(capsys, "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"))[0] == status


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot be read \(No such file or directory\); it takes the verdicts.json of a report"),
        ("{", "is no JSON .*; it takes the verdicts.json of a report"),
        ("[1]", "holds no verdicts; it takes the verdicts.json of a report"),
        (report(ONE, run=replace(RUN, schema=2)), "schema is 2; it takes schema 4"),
    ],
)
def test_wrong_usage(tmp_path, capsys, text, message):
    (tmp_path / "a.json").write_text(report(ONE))
    if text is not None:
        (tmp_path / "b.json").write_text(text)
    code, _, err = run(capsys, "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    assert code == 2 and re.search(rf"file is {tmp_path}/b.json, (which|whose) {message}", err)
