"""A case that is undecided, or refuted by a number that cannot be shown, says what was found and what would decide."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.claims import KINDS, TINY, toy, verdict
from tests.support.simulated_runs import SimulatedRuns, failing, normal, rare
from theory.claim import Sides
from theory.kinds import Bound, Expectation, Probability, Rate, retrials
from theory.kinds.kind import Findings
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, VACUOUS, Tier

SHORT = Tier("short", instances=16, looks=(512,), tolerance=0.1, search_steps=0)


def case(kind, draw, tier=SHORT, **sides):
    runs = SimulatedRuns(draw, tier, **sides)
    found = retrials.measure(runs, tier, kind, float32=False, found=Findings.none(runs.statements))
    return found.cases["claim"]["simulated"]


def test_the_trials_that_a_mean_is_said_to_need_decide_it():
    """At the named number of trials for each instance the same claim is SUPPORTED."""
    rng = np.random.default_rng(0)
    draw = normal(rng, np.full((16, 1), 0.02), deviation=4.0)
    undecided = case(Expectation(), draw)
    assert undecided.verdict == INCONCLUSIVE
    needed = float(re.search("about (.*) trials would decide", undecided.reason)[1])
    assert 16 * 512 < needed < 16 * 512 * 100
    enough = replace(SHORT, looks=(int(2 * needed / 16),))
    assert case(Expectation(), draw, enough).verdict == SUPPORTED


def test_a_mean_that_may_hide_deviations_says_how_large_they_are():
    opposite = 0.45 * np.where(np.arange(256) % 2, 1, -1)[:, None]
    tier = replace(SHORT, instances=256, looks=(64,))
    undecided = case(Expectation(), normal(np.random.default_rng(1), opposite, deviation=1.5), tier)
    if undecided.verdict == INCONCLUSIVE:  # else the second stage has found one
        assert "root mean square" in undecided.reason
    assert undecided.verdict != SUPPORTED and undecided.resolution > 0.45


def test_what_is_rare_and_unbounded_asks_for_a_range():
    undecided = case(Expectation(), rare(np.random.default_rng(2), np.zeros((16, 1)), 1e-4))
    assert undecided.verdict == INCONCLUSIVE
    assert "a few trials dominate the variance" in undecided.reason and "a range" in undecided.reason


def test_a_failure_rate_says_how_many_trials_an_instance_needs():
    undecided = case(Probability(), failing(np.random.default_rng(3), np.zeros((16, 1))), delta=0.004)
    assert undecided.verdict == INCONCLUSIVE
    assert undecided.reason == "each instance needs at least 1000 trials, and had 512"


@pytest.mark.parametrize("value", [0.0, np.inf, -1.0])
def test_a_rate_names_the_value_without_a_logarithm(value):
    def trial(v, key, size):
        return Sides(jnp.where((size == 16) & (v.x[0] > 0), value, 1 / size), jnp.asarray(-1.0))

    found = verdict(toy(Rate((4, 16, 64)), trial))
    (reason,) = (case.reason for case in found.cases.values())
    instance = found.counterexample.instance
    assert found.verdict == REFUTED
    assert reason.startswith(f"measured is {value} in instance {instance} at size 16, which has no logarithm")
    assert found.counterexample.measured == value and found.counterexample.values["x"][0] > 0


def test_a_bound_that_says_nothing_can_be_expected():
    claim = toy(Bound(), lambda v, _: Sides(abs(v.p), abs(v.p) + 2, trivial=abs(v.p) + 1))
    assert verdict(claim).verdict == VACUOUS and not verdict(claim).as_expected
    assert verdict(replace(claim, expected="VACUOUS")).as_expected


def test_the_resolution_of_a_probability_is_the_largest_refuted_factor():
    """measured is uniform on [0, 1] and the theory 0.9, at δ = 0.1: a factor c fails with probability 1 − 0.9c."""
    found = verdict(KINDS["probability"], tier=replace(TINY, looks=(4096,)))
    (resolution,) = (case.resolution for case in found.cases.values())
    assert resolution in Probability.counted_factors and 0.8 < resolution < 1


@pytest.mark.parametrize(("expected", "trials"), [("SUPPORTED", 16 * 313), (None, 16 * 32)])
def test_a_theorem_is_not_decided_before_the_least_number_of_trials(expected, trials):
    tier = replace(SHORT, looks=(32, 1024), min_trials=5000)
    runs = SimulatedRuns(normal(np.random.default_rng(0), np.full((16, 1), -5.0)), tier)
    runs.claim.expected = expected
    kind = Expectation("at most")
    found = retrials.measure(runs, tier, kind, float32=False, found=Findings.none(runs.statements))
    decided = found.cases["claim"]["simulated"]
    assert (decided.verdict, decided.trials) == (SUPPORTED, trials)


def test_one_bad_instance_refutes_and_leaves_no_reason_of_the_undecided_mean():
    means = np.where(np.arange(16) == 3, 3.0, -0.35)[:, None]  # the average of all is within the tolerance
    refuted = case(Expectation("at most"), normal(np.random.default_rng(0), means))
    assert (refuted.verdict, refuted.method) == (REFUTED, "asymptotic, one instance")
    assert not refuted.reason
