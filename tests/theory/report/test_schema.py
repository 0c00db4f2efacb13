"""verdicts.json of real verdicts is what verdicts.schema.json says, and the schema lets nothing else through."""

import copy
import json
from importlib import resources

import pytest
from jsonschema import Draft202012Validator

from tests.support.catalogue_report import catalogue_report
from tests.support.claims import FALSE, KINDS, verdict
from theory.report.run import SCHEMA, Report, Run, Selected
from theory.report.tables import as_json

RUN = Run(seed=0, tier="tiny", data="toys", data_crc32=0, versions={"sketchprune": "0.1.0"})


@pytest.fixture(scope="module")
def schema():
    return json.loads(resources.files("theory.report").joinpath("verdicts.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def validator(schema):
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def fields(claims):
    return json.loads(as_json(Report(RUN, [(Selected(claim, "toy/claim"), verdict(claim)) for claim in claims])))


def test_real_verdicts_of_every_kind_validate(validator):
    report = fields([*KINDS.values(), FALSE["bound"], FALSE["rate"]])
    validator.validate(report)
    drawn = [case for claim in report["claims"] for case in claim["cases"].values()]
    assert any(case["points"] for case in drawn) and any(len(case["looseness_quantiles"]) == 7 for case in drawn)
    assert any(claim["counterexample"] and claim["counterexample"]["smaller"] for claim in report["claims"])


def test_a_report_on_the_whole_catalogue_validates(validator):
    validator.validate(json.loads(as_json(catalogue_report())))


def test_the_schema_is_of_the_version_that_is_written(schema):
    assert schema["properties"]["schema"]["const"] == SCHEMA and str(SCHEMA) in schema["title"]


WRONG = {
    "another version": lambda report: report.update(schema=SCHEMA - 1),
    "a field that is not described": lambda report: report.update(comment="mine"),
    "a word that is no verdict": lambda report: report["claims"][0].update(verdict="TRUE"),
    "six quantiles": lambda report: first_case(report)["looseness_quantiles"].pop(),
    "a point without a value": lambda report: first_case(report).update(points=[[64]]),
    "an infinite quantile": lambda report: first_case(report)["looseness_quantiles"].__setitem__(6, None),
    "no field for what is drawn": lambda report: first_case(report).pop("points"),
    "an interval with one end": lambda report: first_case(report).update(interval=[0.5]),
}


def first_case(report):
    return next(iter(report["claims"][0]["cases"].values()))


@pytest.mark.parametrize("change", WRONG)
def test_the_schema_refuses(validator, change):
    report = fields([KINDS["bound"]])
    assert validator.is_valid(report)
    wrong = copy.deepcopy(report)
    WRONG[change](wrong)
    assert not validator.is_valid(wrong)
