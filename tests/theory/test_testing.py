"""The contract of a claim: all that ship keep it, and each way to break it is noticed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data
from tests.support.claims import DATA, KINDS, SAMPLE, VECTOR, Vector, all_coins, coins, square_of_sum, toy, unbiased
from theory import CATALOGUE, check_claim
from theory.claim import Case, Sides, Source
from theory.kinds import Bound, Expectation, Identity, Rate

DIGITS = data.load()
SMALL = Case("small-{data}", VECTOR.make, enumerable=True)


LIKE_ANOTHER = {
    "sketch/randomised-beats-top-iterative", "sketch/reweighted-beats-top", "sketch/randomised-helps-data-free-more",
    "tangent/efficiency-predictor-top", "paths/predicts-test-error", "lottery/sparse-to-sparse-gradual",
    "lottery/sparse-to-sparse-rigl", "lottery/ratios-pyramidal", "tangent/least-bound-synflow",
}  # fmt: skip
"""Effects made by the function that makes another effect, which is checked: their trials train, and take long."""


@pytest.mark.parametrize("claim", [c for c in CATALOGUE if c.id not in LIKE_ANOTHER], ids=lambda claim: claim.id)
def test_the_catalogue_keeps_the_contract(claim):
    """Traced; the quick tier evaluates it, and the effects that are left out here."""
    check_claim(claim, DIGITS, evaluate=False)


def complete(claim, **fields):
    """A toy claim with all that a claim needs in words, and with a case on data."""
    words = dict(title="A toy", statement="a = b", sources=(Source("a toy"),), cases=(VECTOR, SAMPLE))
    return replace(claim, **(words | fields))


IDENTITY = complete(KINDS["identity"])
ENUMERATED = complete(
    toy(Expectation(), unbiased, draw=coins, outcomes=all_coins, mutants=("not reweighted",)), cases=(VECTOR, SMALL)
)


@pytest.mark.parametrize("name", KINDS)
def test_toys_keep_it(name):
    check_claim(complete(KINDS[name]), DATA, evaluate=name in ("identity", "rate"))


def test_enumerated_outcomes_keep_it():
    check_claim(ENUMERATED, DATA)


def test_it_needs_nothing_of_its_caller():
    with jax.enable_x64(False):
        check_claim(IDENTITY, DATA, evaluate=False)
        assert jnp.result_type(float) == jnp.float32


def pair(measured, theory, **fields):
    """A trial whose claim has these sides, and whose mutant is false."""
    return lambda v, _: {"claim": Sides(measured(v), theory(v), **fields), "false": Sides(v.x[0], v.x[0] + 1)}


def total(v):
    return jnp.sum(v.x)


def growing(rng, dataset):
    return Vector(np.ones(rng.integers(1, 10**6)), np.asarray(0.5))


def trial_case(message, trial):
    return complete(toy(Bound(), trial, mutants=("false",))), message


BROKEN = {
    "title": (replace(IDENTITY, title=" "), "title is empty"),
    "statement": (replace(IDENTITY, statement=r"\nosuchcommand"), "statement is '.*nosuchcommand', which fails"),
    "no source": (replace(IDENTITY, sources=()), r"sources is \(\); it takes at least one Source"),
    "unknown key": (replace(IDENTITY, sources=(Source("lee2019wider"),)), "'lee2019wider', which is not in references"),
    "known to be false": (
        replace(IDENTITY, sources=(Source("a toy", "known-false"),)),
        "expected is SUPPORTED; its sources say REFUTED",
    ),
    "no mutant": (replace(IDENTITY, mutants=()), r"mutants is \(\); it takes at least one"),
    "no data": (replace(IDENTITY, cases=(VECTOR,)), "cases have no '{data}' in their names"),
    "shapes": (replace(IDENTITY, cases=(SAMPLE, Case("growing", growing))), "instances of case 'growing' differ"),
    "jax arrays": (
        replace(IDENTITY, cases=(Case("{data}", lambda rng, _: Vector(jnp.ones(3), np.asarray(0.5))),)),
        "case '{data}' holds what is no NumPy array",
    ),
    "hypothesis": (replace(IDENTITY, hypotheses={"x_0": lambda v: v.x[0]}), "'x_0' returns float64; it takes booleans"),
    "mutant not returned": (replace(IDENTITY, mutants=("squares alone", "half")), "the trial returned the sides"),
    "one value": trial_case("measured and theory are one value", lambda v, _: dict.fromkeys(
        ("claim", "false"), Sides(*[total(v)] * 2))),
    "measured from theory": trial_case("measured is computed from theory", lambda v, _: {
        "claim": Sides(*(lambda right: (right / 2, right))(total(v))), "false": Sides(v.x[0], total(v))}),
    "theory from measured": trial_case("theory is computed from measured", lambda v, _: {
        "claim": Sides(*(lambda left: (left, 2 * left))(total(v))), "false": Sides(v.x[0], total(v))}),
    "mutant is the claim": trial_case("mutant 'false' has the claim's own sides", lambda v, _: dict.fromkeys(
        ("claim", "false"), Sides(v.x[0], total(v)))),
    "whole numbers": trial_case("measured of 'claim' has dtype int64", pair(lambda v: jnp.argmax(v.x), total)),
    "no broadcast": trial_case("the sides of 'claim' have shapes", pair(lambda v: v.x, lambda v: v.x[:2])),
    "no delta": (complete(KINDS["probability"], kind=KINDS["probability"].kind, trial=pair(total, lambda v: v.x[0]),
                          mutants=("false",)), "delta of 'claim' is None; it takes an array"),
    "delta of a bound": trial_case("delta of 'claim' is given; a bound takes", pair(
        total, lambda v: v.x[0], delta=jnp.asarray(0.1))),
    "outcomes": (replace(ENUMERATED, outcomes=lambda v: (all_coins(v)[0], all_coins(v)[1][1:])), "have leading axes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_contract_is_named(name):
    claim, message = BROKEN[name]
    with pytest.raises(AssertionError, match=f"^toy/claim: .*{message}"):
        check_claim(claim, DATA, evaluate=False)


def test_a_trial_that_cannot_be_traced_says_why():
    branching = complete(toy(Identity(), lambda v, _: Sides(v.x[0] if v.x[0] > 0 else -v.x[0], abs(v.x[0]))))
    with pytest.raises(jax.errors.TracerBoolConversionError):
        check_claim(replace(branching, mutants=("false",)), DATA, evaluate=False)


def test_numbers_are_looked_at_where_they_are_evaluated():
    infinite = complete(toy(Identity(), pair(lambda v: total(v) / 0, total), mutants=("false",)))
    check_claim(infinite, DATA, evaluate=False)
    with pytest.raises(AssertionError, match="sides in case 'vector' are not finite"):
        check_claim(infinite, DATA)
    heavy = replace(ENUMERATED, outcomes=lambda v: (all_coins(v)[0], 2 * all_coins(v)[1]), cases=(SMALL,))
    with pytest.raises(AssertionError, match="probabilities in case 'small-{data}' sum to"):
        check_claim(heavy, DATA)


def test_instances_outside_the_hypotheses_may_be_anything():
    rooted = toy(Bound(), pair(lambda v: jnp.sqrt(v.x[0]), lambda v: 1 + abs(v.x[0])), mutants=("false",))
    check_claim(complete(rooted, hypotheses={"x_0 ≥ 0": lambda v: v.x[0] >= 0}), DATA)


def test_an_infinite_bound_is_finite_enough():
    check_claim(complete(toy(Bound(), pair(total, lambda v: v.x[0] + jnp.inf), mutants=("false",))), DATA)


def test_a_rate_is_traced_at_its_first_size():
    seen = set()

    def trial(v, key, size):
        seen.add(size)
        return {"claim": Sides(v.x[0] ** 2 / size, -1.0 + 0 * v.p), "false": Sides(v.x[0] ** 2, -1.0 + 0 * v.p)}

    check_claim(complete(toy(Rate((4, 8)), trial, mutants=("false",))), DATA)
    assert seen == {4}
    assert square_of_sum  # the toy that all others are made from
