"""Failure rates where all outcomes are enumerated: known probabilities decide, instance by instance."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.claims import VECTOR, all_coins, coins, toy, vector, verdict
from theory.claim import Case, Sides
from theory.kinds import Probability
from theory.verdict import REFUTED, SUPPORTED, UNMET

ALL = Case("all", vector, enumerable=True)


def heads(excess, more=lambda sides: sides):
    """A claim that all three coins show heads with a probability that exceeds δ by this; its mutant has δ/2."""

    def trial(v, coins):
        number, most = 1.0 * jnp.sum(coins), jnp.asarray(2.0)
        right = Sides(number, most, delta=v.p**3 - excess)
        return {"claim": more(right), "δ/2": right._replace(delta=right.delta / 2)}

    return toy(Probability(), trial, draw=coins, outcomes=all_coins, cases=(ALL,), mutants=("δ/2",), free=("p",))


@pytest.mark.parametrize(("excess", "word"), [(1e-3, REFUTED), (1e-9, REFUTED), (0.0, SUPPORTED), (-0.01, SUPPORTED)])
def test_the_probability_of_failure_decides(excess, word):
    """However little it exceeds δ; equality passes."""
    found = verdict(heads(excess))
    case = found.cases["all"]
    assert (found.verdict, case.method, found.mutants) == (word, "enumerated", {"δ/2": REFUTED})
    assert case.measured - case.theory == pytest.approx(excess, abs=1e-12)
    assert case.trials == 0 and np.isnan([case.looseness, case.resolution]).all()


def test_one_instance_refutes():
    claim = heads(0.0, lambda sides: sides._replace(delta=jnp.where(sides.delta < 0.1, 0.5, 0.9) * sides.delta))
    rates = [v.p**3 for v in (vector(np.random.default_rng(seed), None) for seed in range(4))]
    assert min(rates) < 0.1 < max(rates)  # so both branches are met
    assert verdict(claim).verdict == REFUTED


def test_an_outcome_that_is_not_finite_is_a_failure():
    claim = heads(0.0, lambda sides: sides._replace(measured=jnp.where(sides.measured == 3, jnp.nan, 0.0)))
    assert verdict(claim).verdict == SUPPORTED
    worse = heads(0.0, lambda sides: sides._replace(measured=jnp.where(sides.measured >= 2, jnp.nan, 0.0)))
    assert verdict(worse).verdict == REFUTED


def test_a_counterexample_is_shrunk():
    found = verdict(replace(heads(0.01), hypotheses={"δ is in (0, 1)": lambda v: v.p > 0.25})).counterexample
    smaller = found.smaller
    assert found.found_by == "instance" and smaller.found_by == "shrinking"
    assert (smaller.values["p"], smaller.theory) == (pytest.approx(1.0), pytest.approx(0.99))


def test_cases_that_are_enumerated_stand_beside_others():
    claim = replace(heads(-0.1), cases=(VECTOR, ALL), mutants=())
    claim = replace(claim, trial=lambda v, drawn: {"claim": heads(-0.1).trial(v, drawn)["claim"]})
    found = verdict(claim)
    assert {name: case.method for name, case in found.cases.items()} == {
        "vector": "exact binomial", "all": "enumerated"
    }  # fmt: skip
    assert found.verdict == SUPPORTED and found.cases["vector"].trials > 0


def test_a_case_without_admissible_instances_is_unmet():
    claim = replace(heads(0.0), hypotheses={"never": lambda v: v.p > 1})
    assert verdict(claim).verdict == UNMET


def test_rates_outside_of_0_and_1_are_refused():
    with pytest.raises(ValueError, match=r"delta of an enumerated case is 1\..*; it takes numbers in \(0, 1\)"):
        verdict(heads(-1.0))
