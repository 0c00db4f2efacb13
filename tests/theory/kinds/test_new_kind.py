"""A kind of claim is one file: a stranger's own is verified, shown in the report, and checked like those that ship."""

import importlib.util
import sys
from dataclasses import replace

import jax.numpy as jnp
import pytest

from tests.support.claims import DATA, SAMPLE, TINY, VECTOR, promoted, toy
from theory import check_claim, verify
from theory.claim import Sides, Source
from theory.kinds import KINDS
from theory.report.html import as_html
from theory.report.run import Report, Run, Selected
from theory.report.tables import as_json
from theory.verdict import REFUTED, SUPPORTED

FILE = '''
"""Approximations: measured lies within a factor of theory."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from theory.kinds.axes import logarithmic, Strip
from theory.kinds.exact import counterexample
from theory.kinds.kind import Findings, Kind, Words, case_verdict
from theory.measurements import take


@dataclass(frozen=True)
class Approximation(Kind):
    """theory/factor <= measured <= factor·theory on every instance."""

    factor: float

    words: ClassVar[Words] = Words(
        name="approximation",
        meaning="measured is theory up to a factor.",
        measured="largest factor between the sides",
        theory="the factor that the claim allows",
    )

    def measure(self, runs, tier):
        found = Findings.none(runs.statements)
        for group in runs.groups:
            sides = runs.evaluate(group)
            verdicts = {
                name: {case.name: self.decide(take(own, case.rows), case.admissible) for case in group.cases}
                for name, own in sides.items()
            }
            example = counterexample(group, verdicts["claim"], sides["claim"], self.discrepancy, found_by="instance")
            found |= Findings(verdicts, example)
        return found

    def discrepancy(self, sides):
        return np.exp(abs(np.log(sides.values.measured / sides.values.theory)))

    def decide(self, sides, admissible):
        worst = float(self.discrepancy(take(sides, admissible)).max())
        word = "SUPPORTED" if worst <= self.factor else "REFUTED"
        return case_verdict(word, admissible, method="factor", measured=worst, theory=self.factor)

    def tolerance(self, tier):
        return self.factor

    def axis(self, verdict):
        strips = {name: Strip(case.measured) for name, case in verdict.cases.items()}
        return logarithmic("factor", strips, marks={self.factor: "allowed"}, band=(1.0, self.factor))
'''


@pytest.fixture(scope="module")
def approximation(tmp_path_factory):
    """The kind of the file above."""
    path = tmp_path_factory.mktemp("kinds") / "approximation.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("approximation", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["approximation"] = module
    spec.loader.exec_module(module)
    yield module.Approximation
    del sys.modules["approximation"]


def norms(v, _):
    """‖x‖₁ and ‖x‖₂ of three entries differ by √3 at most."""
    right = Sides(jnp.sum(abs(v.x)), jnp.linalg.norm(v.x))
    return {"claim": right, "half": right._replace(theory=right.theory / 4)}


@pytest.fixture(scope="module")
def claim(approximation):
    return toy(
        approximation(3**0.5 + 1e-12), norms, mutants=("half",), title="Norms", statement="a = b",
        sources=(Source("a toy"),), cases=(VECTOR, SAMPLE),
    )  # fmt: skip


def test_a_claim_of_a_new_kind_is_verified(claim, approximation):
    found = verify(claim, tier=TINY, data=DATA)
    assert (found.kind, found.verdict, found.mutants) == ("approximation", SUPPORTED, {"half": REFUTED})
    assert found.tolerance == claim.kind.factor and found.cases["toys"].method == "factor"
    false = replace(promoted(claim, "claim"), kind=approximation(1.0))
    wrong = verify(false, tier=TINY, data=DATA)
    assert wrong.verdict == REFUTED and wrong.counterexample.found_by == "instance"
    x = wrong.counterexample.values["x"]
    assert wrong.counterexample.measured == pytest.approx(sum(map(abs, x)))


def test_the_report_shows_it(claim):
    found = verify(claim, tier=TINY, data=DATA)
    axis = claim.kind.axis(found)
    assert axis.caption == "factor" and all(0 <= strip.point <= axis.band[1] for strip in axis.strips.values())
    run = Run(seed=0, tier="tiny", data="toys", data_crc32=0, versions={})
    report = Report(run, [(Selected(claim, claim.id), found)])
    page = as_html(report)
    for text in (claim.kind.words.meaning, claim.kind.words.measured, "Approximation", "factor"):
        assert text in page
    assert '"kind": "approximation"' in as_json(report)


def test_its_claims_are_checked(claim):
    check_claim(claim, DATA)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.words.name)
def test_kinds_that_ship_have_words(kind):
    words = kind.words
    assert words.name == kind.__name__.lower()
    assert all(text for text in (words.meaning, words.measured, words.theory, words.interval))
    assert kind.__doc__ and words.meaning.endswith(".")
