"""The JUnit report: what its readers allow, and what it says of expected verdicts and of others."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from tests.support.claims import claim
from theory.report.junit import as_junit
from theory.report.run import Report, Run, Selected
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, CaseVerdict, Replay, Verdict

RUN = Run(seed=3, tier="quick", data="digits", data_crc32=7, versions={"sketchprune": "0.1.0"})
CASE = CaseVerdict(SUPPORTED, 4096, 32, 32, 1.0, 2.0, 2.0, None, "rounding")
GOOD = Verdict("sketch/one", "bound", SUPPORTED, SUPPORTED, 0.1, {"digits": CASE}, {"half": REFUTED}, None, 1.25)
FOUND = Replay("digits", 5, "search", component=0, measured=1.5, theory=1.25, values={"w": [1.0, 2.0]})

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[2] / "support" / "junit.xsd")


def parsed(*verdicts, failed=None, files=None):
    report = Report(RUN, failed=failed or {})
    for verdict in verdicts:
        argument = f"{files}::{verdict.id}" if files else verdict.id
        report.verdicts.append((Selected(claim(verdict.id), argument), verdict))
    text = as_junit(report)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="sketchprune"')
    SCHEMA.validate(text)
    return ElementTree.fromstring(text.encode())


def cases(root):
    return {case.get("name"): case for case in root.iter("testcase")}


def counts(element):
    return [element.get(name) for name in ("tests", "failures", "errors", "time")]


def test_suites_are_families_and_count_their_cases():
    bad = replace(GOOD, id="paths/two", verdict=REFUTED, elapsed_s=2.0)
    failed = {"paths/three": "verification failed with TypeError: no"}
    root = parsed(GOOD, bad, replace(GOOD, id="sketch/four"), failed=failed)
    assert counts(root) == ["4", "1", "1", "4.500"]
    assert [suite.get("name") for suite in root] == ["sketch", "paths"]
    assert [counts(suite) for suite in root] == [["2", "0", "0", "2.500"], ["2", "1", "1", "2.000"]]
    settings = {each.get("name"): each.get("value") for each in root[0].find("properties")}
    assert settings == {"seed": "3", "tier": "quick", "data": "digits", "shard": "1/1", "sketchprune": "0.1.0"}


def test_an_expected_verdict_passes():
    (case,) = parsed(GOOD).iter("testcase")
    assert (case.get("name"), case.get("classname"), case.get("time")) == ("sketch/one", "sketch", "1.250")
    assert len(case) == 0
    false = replace(GOOD, verdict=REFUTED, expected=REFUTED, counterexample=FOUND)
    (case,) = parsed(false).iter("testcase")
    assert [child.tag for child in case] == ["system-out"]
    assert case[0].text == "refuted as expected: this statement is known to be false"


def test_an_unexpected_verdict_fails_with_the_counterexample_and_the_command():
    (case,) = parsed(replace(GOOD, verdict=REFUTED, counterexample=FOUND), files="my/bounds.py").iter("testcase")
    assert case.get("classname") == "my.bounds.sketch" and [child.tag for child in case] == ["failure"]
    failure = case[0]
    assert failure.get("type") == "REFUTED" and failure.get("message") == "REFUTED, expected SUPPORTED"
    lines = failure.text.splitlines()
    assert "counterexample: case digits, instance 5, found by search, component 0" in lines
    assert "w = [1., 2.]" in lines
    assert lines[-1] == "replay: sketchprune verify my/bounds.py::sketch/one --tier quick --seed 3 --out replay"


def test_surviving_mutants_and_undecided_claims_fail():
    root = parsed(
        replace(GOOD, mutants={"half": SUPPORTED, "twice": REFUTED}), replace(GOOD, id="a/b", verdict=INCONCLUSIVE)
    )
    messages = {name: case.find("failure").get("message") for name, case in cases(root).items()}
    command = "replay: sketchprune verify sketch/one --tier quick --seed 3"
    assert cases(root)["sketch/one"].find("failure").text.endswith(command)
    assert messages == {
        "sketch/one": "SUPPORTED; mutant half is SUPPORTED, expected REFUTED",
        "a/b": "INCONCLUSIVE, expected SUPPORTED",
    }


def test_observations_pass_and_say_what_was_seen():
    case = replace(CASE, measured=0.02, interval=(0.01, 0.03))
    seen = replace(GOOD, expected=None, verdict=REFUTED, mutants={}, cases={"digits": case})
    (case,) = parsed(seen).iter("testcase")
    assert case[0].tag == "system-out" and "digits: 0.02 in [0.01, 0.03], SUPPORTED" in case[0].text


def test_a_claim_that_failed_is_an_error_and_any_text_is_fit_for_xml():
    reason = "it said <b>\x1b[31m & \ud800 ]]> \U0001f600"
    (case,) = parsed(failed={"dir/mine.py::my/bad": reason}).iter("testcase")
    assert (case.get("name"), case.get("classname")) == ("dir/mine.py::my/bad", "dir.mine.my")
    assert case[0].tag == "error" and case[0].get("message") == "it said <b>?[31m & ? ]]> \U0001f600"


def test_no_verdict():
    assert counts(parsed()) == ["0", "0", "0", "0.000"]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ('tests="1"', 'tests="one"'),
        ('tests="1"', ""),
        ('time="1.250"', 'time="1,250"'),
        ("testcase", "case"),
        ('classname="', 'class="'),
        ("<properties>", "<properties>seed"),
    ],
)
def test_the_schema_refuses_what_servers_would(text, other):
    report = Report(RUN)
    report.verdicts.append((Selected(claim(GOOD.id), GOOD.id), GOOD))
    written = as_junit(report)
    assert text in written and not SCHEMA.is_valid(written.replace(text, other))
