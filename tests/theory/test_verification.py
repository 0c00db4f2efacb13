"""verify, from end to end, on claims small enough to see through."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from tests.support.claims import (
    DATA,
    FALSE,
    KINDS,
    SAMPLE,
    TINY,
    VECTOR,
    all_coins,
    coins,
    programs,
    promoted,
    square_of_sum,
    toy,
    unbiased,
    vector,
    verdict,
)
from theory import verify
from theory.claim import Case, Sides
from theory.kinds import Bound, Expectation, Identity, Probability, Rate
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, UNMET, VACUOUS
from theory.verification import decisions, verify_with

METHODS = {
    "identity": "rounding", "bound": "rounding", "equal": "asymptotic", "bounded": "empirical Bernstein",
    "at most": "asymptotic", "probability": "exact binomial", "rate": "slopes", "effect": "paired",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_true_claims_are_supported_and_their_mutants_refuted(name):
    claim, found = KINDS[name], verdict(KINDS[name])
    assert found.verdict == SUPPORTED and found.as_expected and not found.undecided
    assert found.mutants == dict.fromkeys(claim.mutants, REFUTED)
    assert decisions(programs(claim), TINY, 0, DATA) == {"claim": SUPPORTED} | found.mutants
    assert (found.id, found.kind, found.expected) == (claim.id, claim.kind.words.name, claim.expected)
    assert found.counterexample is None and found.elapsed_s > 0
    (case,) = found.cases.values()
    count = TINY.seeds if found.kind == "effect" else TINY.instances
    assert (case.verdict, case.instances, case.admissible) == (SUPPORTED, count, count)
    assert case.method == METHODS[name]
    assert (case.interval is None) == (case.method == "rounding")
    assert (case.trials == 0) == (case.method == "rounding")


@pytest.mark.parametrize("name", ["identity", "bound", "equal", "probability", "rate", "effect"])
def test_false_claims_are_refuted(name):
    found = verdict(FALSE[name])
    assert decisions(programs(FALSE[name]), TINY, 0, DATA) == {"claim": REFUTED} | found.mutants
    assert found.verdict == REFUTED
    assert found.as_expected == (name == "effect")  # of an effect nothing is expected
    assert (found.counterexample is None) == (name in ("rate", "effect"))


@pytest.mark.parametrize("name", KINDS)
def test_one_seed_one_verdict(name):
    again = verify_with(programs(KINDS[name]), TINY, 0, DATA)
    assert again == verdict(KINDS[name])
    assert verdict(KINDS[name], seed=1).cases != again.cases


def test_a_mutant_that_is_true_survives():
    def trial(v, _):
        sides = square_of_sum(v, _)
        return {"claim": sides["claim"], "the same": sides["claim"]}

    found = verdict(toy(Identity(), trial, mutants=("the same",)))
    assert found.mutants == {"the same": SUPPORTED}
    assert found.verdict == SUPPORTED and not found.as_expected


def test_a_known_falsehood_is_expected_to_be_refuted():
    found = verdict(replace(FALSE["identity"], expected=REFUTED))
    assert found.expected == found.verdict == REFUTED and found.as_expected
    assert not replace(found, verdict=SUPPORTED).as_expected


# --- All outcomes


def test_enumerated_expectations_are_identities():
    """A bias far below what any number of trials shows is refuted, in the small case alone."""

    def trial(v, coins):
        right = unbiased(v, coins)["claim"]
        return {"claim": right, "biased": right._replace(theory=right.theory * (1 + 1e-9))}

    cases = (VECTOR, Case("small", vector, enumerable=True))
    claim = toy(Expectation(), trial, draw=coins, outcomes=all_coins, cases=cases, mutants=("biased",))
    found = verdict(claim)
    assert found.verdict == SUPPORTED and found.mutants == {"biased": REFUTED}
    assert found.cases["small"].method == "enumerated"
    assert found.cases["small"].trials == 0 < found.cases["vector"].trials
    assert found.cases["vector"] == verdict(KINDS["equal"]).cases["vector"]  # whatever else is there
    enumerated = verdict(replace(promoted(claim, "biased"), cases=cases[1:]))
    assert enumerated.verdict == REFUTED and enumerated.counterexample.case == "small"


# --- Hypotheses


def positive(v):
    return v.x[0] > 0


def signed(v, _):
    """True where x_0 > 0 alone."""
    return Sides(abs(v.x[0]), v.x[0])


def test_instances_outside_the_hypotheses_are_counted_and_decide_nothing():
    assert verdict(toy(Identity(), signed)).verdict == REFUTED
    found = verdict(toy(Identity(), signed, hypotheses={"x_0 > 0": positive}))
    assert found.verdict == SUPPORTED
    assert 0 < found.cases["vector"].admissible < found.cases["vector"].instances == 4


def test_no_instance_meets_the_hypotheses():
    def never(v):
        return v.x[0] != v.x[0]

    for kind in (Identity(), Bound(search=("x",))):
        found = verdict(toy(kind, signed, hypotheses={"x_0 > 0": positive, "never": never}))
        assert found.verdict == UNMET and found.counterexample is None
        assert found.cases["vector"].admissible == 0
        assert not found.as_expected


def test_a_case_that_is_unmet_leaves_the_verdict_to_the_others():
    def from_data(v):
        return v.x[1] == v.x[0] + 1

    found = verdict(toy(Identity(), signed, cases=(VECTOR, SAMPLE), hypotheses={"consecutive": from_data}))
    assert {name: case.verdict for name, case in found.cases.items()} == {"vector": UNMET, "toys": SUPPORTED}
    assert found.verdict == SUPPORTED


def test_vacuous_bounds():
    def trial(v, _):
        return Sides(jnp.sum(v.x) ** 2, 3 * jnp.sum(v.x**2), trivial=jnp.sum(v.x**2))

    assert verdict(toy(Bound(), trial)).verdict == VACUOUS


# --- Numbers that are not finite


def with_nan(v, key):
    """nan in about one trial of twenty, where failures are allowed in one of five."""
    return Sides(jnp.where(jax.random.bernoulli(key, 0.05), jnp.nan, 1.0), jnp.asarray(1.0), delta=jnp.asarray(0.2))


@pytest.mark.parametrize("kind", [Expectation(), Probability()])
def test_nan_refutes(kind):
    found = verdict(toy(kind, with_nan))
    assert found.verdict == REFUTED and found.counterexample.found_by == "trials"


# --- Looks


def test_trials_stop_at_the_first_look_that_decides():
    # Of 4 * 64 trials each carries more of the variance than a hundredth of it.
    assert (
        verdict(KINDS["equal"], tier=replace(TINY, tolerance=10.0)).trials == 4 * 512 + 4 * 256
    )  # the latter are fresh
    fine = verdict(KINDS["equal"], tier=replace(TINY, tolerance=1e-4))
    assert fine.verdict == INCONCLUSIVE and fine.undecided and fine.trials == 5 * 4 * 4096
    assert fine.mutants == {"not reweighted": REFUTED}


def test_trials_go_on_while_a_mutant_is_undecided():
    def trial(v, coins):
        right = Sides(jnp.ones(3), jnp.ones(3))
        return {"claim": right, "noisy": right._replace(measured=2 + 20 * (coins - v.p))}

    looks = replace(TINY, looks=(64, 4096, 65536))
    found = verdict(toy(Expectation(), trial, draw=coins, mutants=("noisy",)), tier=looks)
    assert found.mutants == {"noisy": REFUTED} and found.verdict == SUPPORTED
    assert found.trials == 4 * 4096


# --- Bad input


def test_unknown_tier():
    with pytest.raises(ValueError, match="tier is 'thorough'; it takes one of quick, standard, full"):
        verify(KINDS["identity"], tier="thorough", data=DATA)


@pytest.mark.parametrize(
    ("kind", "mutants"),
    [(Identity(), ()), (Expectation(), ("half",)), (Rate((2, 4)), ("squares alone", "half"))],
)
def test_sides_that_the_claim_does_not_name(kind, mutants):
    with pytest.raises(ValueError, match=r"toy/claim returned the sides \['claim', 'squares alone'\]; it takes"):
        verify(toy(kind, lambda v, *_: square_of_sum(v, _), mutants=mutants), tier=TINY, data=DATA)


def test_a_probability_without_a_failure_rate():
    with pytest.raises(ValueError, match="delta of 'claim' in the trial of toy/claim is None; it takes an array"):
        verify(toy(Probability(), signed), tier=TINY, data=DATA)


@pytest.mark.parametrize(
    "name, words",
    [
        ("rate", ["size 4 of 4, 16, 64", "size 16 of 4, 16, 64", "size 64 of 4, 16, 64"]),
        ("probability", ["case vector, 64 trials an instance"]),
        ("bound", ["searching for a counterexample to the claim"]),
        ("effect", ["training for vector"]),
    ],
)
def test_progress_says_what_is_being_measured(name, words):
    said = []
    verify_with(programs(KINDS[name]), TINY, 0, DATA, progress=said.append)
    assert [text for text in said if text in words] == words
