"""What cases make and what trials return: whatever no verdict can come from is refused, in one sentence."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from sketchprune.data import Dataset
from tests.support.claims import DATA, KINDS, TINY, VECTOR, Vector, all_coins, coins, toy, unbiased, vector
from theory import verify
from theory.claim import Case, NoInstance, Sides
from theory.engine import Programs
from theory.instances import make_case, make_groups
from theory.kinds import Bound, Expectation, Identity, Probability
from theory.verdict import SUPPORTED, UNMET


def outcome_of(claim):
    return verify(claim, tier=TINY, data=DATA)


# --- Instances


class Nested(struct.PyTreeNode):
    layers: Any
    count: Any


def nested(rng, dataset):
    return Nested((np.ones(2), np.ones(3)), np.asarray(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rng, _: Vector(rng.standard_normal(rng.integers(1, 9)), np.ones(())),
         r"instance \d of case 'one' of toy/claim has the shapes {'x': \(\d,\), 'p': \(\)}, and instance 0 has {'x':"),
        (lambda rng, _: Vector("abc", np.ones(())), "x of an instance of case 'one' of toy/claim is 'abc'; it takes"),
        (lambda rng, _: Vector(np.array([1, None]), 1.0), "x of an instance of case 'one' of toy/claim is array"),
        (lambda rng, _: None, "an instance of case 'one' of toy/claim is None; it takes a record of arrays"),
        (lambda rng, _: rng, "all of an instance of case 'one' of toy/claim is Generator"),
    ],
)  # fmt: skip
def test_instances_that_cannot_be_stacked(make, message):
    with pytest.raises(ValueError, match=message):
        make_case(toy(Identity(), lambda v, _: Sides(v.x, v.x)), Case("one", make), 8, 0, DATA)


@pytest.mark.parametrize(
    ("make", "field", "names"),
    [(vector, "y", "x, p"), (nested, "layers", "there are none"), (nested, "count", "there are none"),
     (lambda rng, _: {"x": np.ones(3)}, "x", "there are none")],
)  # fmt: skip
def test_the_search_moves_fields_of_the_instance(make, field, names):
    claim = toy(Bound(search=(field,)), lambda v, _: Sides(v.x, v.x), cases=(Case("one", make),))
    with pytest.raises(ValueError, match=f"search of case 'one' of toy/claim names '{field}'; it takes .*: {names}$"):
        outcome_of(claim)


def test_a_data_set_named_like_a_case_hides_no_case():
    claim = replace(KINDS["identity"], cases=(VECTOR, Case("{data}", vector), Case("small-{data}", vector)))
    data = Dataset(DATA.x, DATA.y, "vector", 2)
    (group,), _ = make_groups(claim, 2, 0, data, Programs(claim).prepare_and_check)
    assert [case.name for case in group.cases] == ["vector", "data:vector", "small-data:vector"]
    assert list(verify(claim, tier=TINY, data=data).cases) == ["vector", "data:vector", "small-data:vector"]


# --- Sides


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (lambda x: (x, x), r"'claim' in the trial of toy/claim is \(.*; it takes Sides\(measured, theory\)"),
        (lambda x: Sides(x, None), "theory of 'claim' in the trial of toy/claim is None; it takes an array"),
        (lambda x: Sides("x", x), "measured of 'claim' in the trial of toy/claim is 'x'; it takes an array"),
        (lambda x: Sides(x, x > 0), "theory of 'claim' in the trial of toy/claim has dtype bool; it takes floating"),
        (lambda x: Sides(x.astype(int), x), "measured of 'claim' in the trial of toy/claim has dtype int64; it takes"),
        (lambda x: Sides(x * 1j, x), "measured of 'claim' in the trial of toy/claim has dtype complex.*; it takes"),
        (lambda x: Sides([x, x], x), "measured of 'claim' in the trial of toy/claim is .*; it takes an array"),
        (lambda x: Sides(x, x, scale=1), "scale of 'claim' in the trial of toy/claim has dtype int64; it takes"),
        (lambda x: Sides(x[:2], x), "sides of 'claim' in the trial of toy/claim have the shapes {'measured': "),
        (lambda x: Sides(x[0], x[0], scale=x), "sides of 'claim' in the trial of toy/claim have the shapes"),
        (lambda x: Sides(x[:0], x[:0]), r"sides of 'claim' in the trial of toy/claim have the shape \(0,\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Identity(), Expectation()], ids=lambda kind: kind.words.name)
def test_sides_that_no_verdict_can_come_from(kind, sides, message):
    with pytest.raises(ValueError, match=message):
        outcome_of(toy(kind, lambda v, _: {"claim": sides(v.x)}))


@pytest.mark.parametrize("returned", [None, 3, "claim", Sides(jnp.ones(1), jnp.ones(1))])
def test_a_trial_that_returns_no_dictionary(returned):
    claim = replace(toy(Identity(), lambda v, _: {}), trial=lambda v, _: returned)
    with pytest.raises(ValueError, match="trial of toy/claim returned .*; it takes a dictionary of the sides"):
        outcome_of(claim)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_failure_rates_are_between_none_and_all(delta):
    claim = toy(Probability(), lambda v, _: Sides(v.x[0], v.x[0] + 1, delta=jnp.asarray(delta)))
    with pytest.raises(ValueError, match="delta of 'claim' in the trial of toy/claim is .*; it takes numbers in "):
        outcome_of(claim)


def test_a_theory_of_zero_takes_a_scale():
    """E v(c/p − 1) = 0 is true. Relative to |theory| = 0 no deviation could be judged, and nothing refuted."""

    def trial(v, kept):
        return Sides(kept / v.p - 1, jnp.zeros(3))

    claim = toy(Expectation(), trial, draw=coins)
    with pytest.raises(ValueError, match="scale of 'claim' in the trial of toy/claim is 0, as .theory. is .*scale=..."):
        outcome_of(claim)
    assert (
        outcome_of(toy(Expectation(), lambda *a: trial(*a)._replace(scale=jnp.ones(())), draw=coins)).verdict
        == SUPPORTED
    )
    assert outcome_of(toy(Expectation(), lambda v, _: Sides(0 * v.x, 0 * v.x))).verdict == SUPPORTED


# --- Hypotheses, and outcomes


def test_a_hypothesis_returns_a_boolean():
    """NaN is not zero, so it would count as met."""
    claim = toy(Identity(), lambda v, _: Sides(v.x, v.x), hypotheses={"x is small": lambda v: v.p * jnp.nan})
    with pytest.raises(ValueError, match="hypothesis 'x is small' of toy/claim returns float64; it takes booleans"):
        outcome_of(claim)


def test_an_unmet_case_says_which_hypotheses_rejected_it():
    def claim(**hypotheses):
        return toy(Identity(), lambda v, _: Sides(v.x, v.x), hypotheses=hypotheses)

    def first(v):
        return v.x[0] > 0

    def case(claim):
        (found,) = outcome_of(claim).cases.values()
        return found.verdict, found.reason

    assert case(claim(good=first)) == (SUPPORTED, "")
    assert case(claim(good=first, high=lambda v: v.p > 2, low=lambda v: v.p < 0)) == (
        UNMET,
        "no instance meets: high; low",
    )
    assert case(claim(good=first, other=lambda v: ~first(v), always=lambda v: v.p > 0)) == (
        UNMET,
        "no instance meets: good; other",
    )


def test_a_case_without_an_instance_is_unmet():
    def none(rng, dataset):
        raise NoInstance("the data vary")

    claim = replace(KINDS["identity"], cases=(Case("{data}", none), VECTOR))
    found = outcome_of(claim)
    assert found.verdict == SUPPORTED and found.as_expected and list(found.cases) == ["vector", "toys"]
    case = found.cases["toys"]
    assert (case.verdict, case.reason, case.instances, case.trials) == (UNMET, "the data vary", 0, 0)
    assert outcome_of(replace(claim, cases=claim.cases[:1])).verdict == UNMET


def test_prepared_instances_that_do_not_fit_a_batch_need_no_hypotheses():
    claim = replace(KINDS["identity"], prepare=lambda v: v, batch=3)
    assert outcome_of(claim).verdict == SUPPORTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda chances: 0.9 * chances, "case 'vector' of toy/claim sum to 0.9; it takes a sum of one"),
        (lambda chances: jnp.stack([chances, 2 * chances, chances], axis=1), "sum to 2; it takes a sum of one"),
        (lambda chances: chances.at[0].add(-1).at[1].add(1), "have the entry -0.*; it takes numbers >= 0"),
        (lambda chances: chances * jnp.nan, "sum to nan; it takes a sum of one"),
    ],
)
def test_probabilities_sum_to_one(change, message):
    def outcomes(v):
        kept, chances = all_coins(v)
        return kept, change(chances)

    claim = toy(
        Expectation(), unbiased, draw=coins, outcomes=outcomes, mutants=("not reweighted",),
        cases=(replace(VECTOR, enumerable=True),),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        outcome_of(claim)
    unreachable = replace(claim, hypotheses={"never": lambda v: jax.numpy.zeros((), bool)})
    assert outcome_of(unreachable).verdict == UNMET
