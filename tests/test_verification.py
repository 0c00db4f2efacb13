"""verify, from end to end, on claims small enough to see through."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from sketchprune.data import Dataset
from theory import verify
from theory.claim import Bound, Case, Claim, Effect, Expectation, Identity, Probability, Rate, Sides
from theory.programs import groups
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, UNMET, VACUOUS, Tier

DATA = Dataset(np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1]), "toys", 2)
TINY = Tier("tiny", instances=4, looks=(64, 512, 4096), tolerance=0.1, search_steps=60)


class Vector(struct.PyTreeNode):
    """x is [3]; p is a chance."""

    x: Any
    p: Any


def vector(rng, dataset):
    return Vector(rng.standard_normal(3), np.asarray(rng.uniform(0.3, 0.8)))


def longer(rng, dataset):
    return Vector(rng.standard_normal(5), np.asarray(0.5))


def sample(rng, dataset):
    return Vector(1.0 + dataset.x[rng.integers(len(dataset.x))], np.asarray(0.5))


VECTOR, LONGER, SAMPLE = Case("vector", vector), Case("longer", longer), Case("{data}", sample)


def toy(kind, trial, **fields):
    """A claim; ``trial`` returns its sides, or those of its mutants too."""

    def named(*arguments):
        sides = trial(*arguments)
        return sides if isinstance(sides, dict) else {"claim": sides}

    defaults = dict(id="toy/claim", title="", statement="", sources=(), cases=(VECTOR,), batch=256)
    return Claim(kind=kind, trial=named, **(defaults | fields))


def promoted(claim, mutant):
    """The mutant as a claim of its own."""
    return replace(claim, mutants=(), trial=lambda *arguments: {"claim": claim.trial(*arguments)[mutant]})


@cache
def verdict(claim, seed=0, tier=TINY):
    return verify(claim, tier=tier, seed=seed, data=DATA)


# --- The six kinds


def square_of_sum(v, _):
    total, products = jnp.sum(v.x) ** 2, v.x[:, None] * v.x
    return {"claim": Sides(total, jnp.sum(products)), "squares alone": Sides(total, jnp.sum(v.x**2))}


def cauchy_schwarz(v, _):
    right = Sides(jnp.sum(v.x) ** 2, v.x.size * jnp.sum(v.x**2))
    return {"claim": right, "half": right._replace(theory=right.theory / 2)}


def coins(v, key):
    return jax.random.bernoulli(key, v.p, v.x.shape)


def all_coins(v):
    coins = (jnp.arange(2**v.x.size)[:, None] >> jnp.arange(v.x.size)) % 2 == 1
    return coins, jnp.prod(jnp.where(coins, v.p, 1 - v.p), axis=1)


def unbiased(v, coins):
    return {"claim": Sides(coins / v.p * v.x, v.x), "not reweighted": Sides(coins * v.x, v.x)}


def bounded(v, coins):
    right = Sides(coins / v.p, jnp.ones(3), range=1 / v.p)
    return {"claim": right, "not reweighted": right._replace(measured=coins * 1.0)}


def jensen(v, coins):
    right = Sides(abs(coins / v.p - 1), jnp.sqrt((1 - v.p) / v.p))
    return {"claim": right, "half": right._replace(theory=right.theory / 2)}


def quantiles(v, key):
    delta = jnp.array([0.3, 0.1])
    right = Sides(jax.random.uniform(key) * abs(v.x[0]), (1 - delta) * abs(v.x[0]), delta=delta)
    return {"claim": right, "thrice as often": right._replace(theory=(1 - 3 * delta) * abs(v.x[0]))}


def root(v, key, size):
    noise = jnp.exp(0.01 * jax.random.normal(key))
    right = Sides(noise / jnp.sqrt(size), jnp.asarray(-0.5))
    return {"claim": right, "linear": right._replace(theory=jnp.asarray(-1.0))}


def improved(v, key):
    right = Sides(jnp.sum(v.x) + 0.5 + 0.01 * jax.random.normal(key), jnp.sum(v.x))
    return {"claim": right, "by one": right._replace(theory=right.theory + 1)}


KINDS = {
    "identity": toy(Identity(), square_of_sum, mutants=("squares alone",)),
    "bound": toy(Bound(search=("x",)), cauchy_schwarz, mutants=("half",)),
    "equal": toy(Expectation(), unbiased, draw=coins, mutants=("not reweighted",)),
    "bounded": toy(Expectation(), bounded, draw=coins, mutants=("not reweighted",)),
    "at most": toy(Expectation("at most"), jensen, draw=coins, mutants=("half",)),
    "probability": toy(Probability(), quantiles, mutants=("thrice as often",)),
    "rate": toy(Rate((4, 16, 64)), root, mutants=("linear",)),
    "effect": toy(Effect(), improved, mutants=("by one",), expected=None),
}
METHODS = {
    "identity": "rounding", "bound": "rounding", "equal": "asymptotic", "bounded": "empirical Bernstein",
    "at most": "asymptotic", "probability": "exact binomial", "rate": "slopes", "effect": "paired",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_true_claims_are_supported_and_their_mutants_refuted(name):
    claim, found = KINDS[name], verdict(KINDS[name])
    assert found.verdict == SUPPORTED and found.as_expected and not found.undecided
    assert found.mutants == dict.fromkeys(claim.mutants, REFUTED)
    assert (found.id, found.kind, found.expected) == (claim.id, type(claim.kind).__name__.lower(), claim.expected)
    assert found.counterexample is None and found.elapsed_s > 0
    (case,) = found.cases.values()
    count = TINY.seeds if found.kind == "effect" else TINY.instances
    assert (case.verdict, case.instances, case.admissible) == (SUPPORTED, count, count)
    assert case.method == METHODS[name]
    assert (case.interval is None) == (case.method == "rounding")
    assert (case.trials == 0) == (case.method == "rounding")


FALSE = {name: promoted(KINDS[name], KINDS[name].mutants[0]) for name in KINDS}


@pytest.mark.parametrize("name", ["identity", "bound", "equal", "probability", "rate", "effect"])
def test_false_claims_are_refuted(name):
    found = verdict(FALSE[name])
    assert found.verdict == REFUTED
    assert found.as_expected == (name == "effect")  # of an effect nothing is expected
    assert (found.counterexample is None) == (name in ("rate", "effect"))


@pytest.mark.parametrize("name", KINDS)
def test_one_seed_one_verdict(name):
    assert verify(KINDS[name], tier=TINY, data=DATA) == verdict(KINDS[name])
    assert verdict(KINDS[name], seed=1).cases != verdict(KINDS[name]).cases


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


# --- Precision


def test_identities_are_also_evaluated_in_float32_throughout():
    seen = set()

    def trial(v, _):
        seen.add((v.x.dtype.name, jnp.arange(3.0).dtype.name))
        return Sides(jnp.sum(v.x), v.x @ jnp.ones(3), scale=jnp.sum(abs(v.x)))

    assert verdict(toy(Identity(), trial)).verdict == SUPPORTED
    assert seen == {("float64", "float64"), ("float32", "float32")}


def test_an_identity_off_by_a_little_more_than_rounding_is_refuted():
    def trial(v, _):
        return Sides(jnp.sum(v.x**2) * (1 + 2e-12), jnp.sum(v.x**2))

    assert verdict(toy(Identity(), trial)).verdict == REFUTED


def test_a_bound_violated_by_rounding_holds():
    def trial(v, _):
        return Sides(jnp.sum(v.x**2) * (1 + 1e-14), jnp.sum(v.x**2))

    assert verdict(toy(Bound(), trial)).verdict == SUPPORTED


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
    assert enumerated.verdict == REFUTED and enumerated.counterexample["case"] == "small"


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


# --- The search for counterexamples


def small_entries(rng, dataset):
    return Vector(rng.uniform(0.5, 1, 3), np.asarray(0.5))


def planted(v, _):
    """False where an entry exceeds 1.2, which no instance's does."""
    return Sides(jnp.max(v.x), jnp.asarray(1.2))


SMALL_ENTRIES = Case("small-entries", small_entries)


def test_the_search_finds_what_no_instance_shows():
    assert verdict(toy(Bound(), planted, cases=(SMALL_ENTRIES,))).verdict == SUPPORTED
    found = verdict(toy(Bound(search=("x",)), planted, cases=(VECTOR, SMALL_ENTRIES)[1:]))
    assert found.verdict == REFUTED
    replay = found.counterexample
    assert (replay["case"], replay["found_by"]) == ("small-entries", "search")
    assert replay["measured"] == max(replay["values"]["x"]) > replay["theory"] == 1.2
    assert replay["values"]["p"] == 0.5  # p is not searched
    case = found.cases["small-entries"]
    assert (case.verdict, case.measured, case.theory) == (REFUTED, replay["measured"], 1.2)


def test_the_search_refutes_mutants():
    def trial(v, _):
        return {"claim": Sides(jnp.max(v.x), jnp.sum(abs(v.x))), "planted": planted(v, _)}

    claim = toy(Bound(search=("x",)), trial, cases=(SMALL_ENTRIES,), mutants=("planted",))
    found = verdict(claim)
    assert found.verdict == SUPPORTED and found.mutants == {"planted": REFUTED}
    assert verdict(replace(claim, kind=Bound())).mutants == {"planted": SUPPORTED}


def test_the_search_stays_within_the_hypotheses():
    claim = toy(Bound(search=("x",)), planted, cases=(SMALL_ENTRIES,), hypotheses={"x ≤ 1": lambda v: v.x <= 1})
    assert verdict(claim).verdict == SUPPORTED
    # It passes a counterexample on its way out, and remembers it.
    found = verdict(replace(claim, hypotheses={"x ≤ 1.3": lambda v: v.x <= 1.3}))
    assert found.verdict == REFUTED and 1.2 < found.counterexample["measured"] <= 1.3


def test_the_search_moves_what_is_prepared_afterwards():
    claim = toy(
        Bound(search=("x",)),
        lambda v, _: Sides(jnp.max(v), jnp.asarray(1.2)),
        cases=(SMALL_ENTRIES,),
        prepare=lambda v: v.x,
    )
    assert verdict(claim).counterexample["found_by"] == "search"


@pytest.mark.parametrize("nothing", [jnp.inf, jnp.nan])
def test_the_search_is_not_misled_by_a_side_that_says_nothing(nothing):
    """An infinite bound is true: it must not stand for the worst. Nor must a mutant's, or its nan."""

    def trial(v, _):
        right = Sides(jnp.max(v.x), jnp.array([1.2, jnp.inf]))
        return {"claim": right, "mutant": right._replace(theory=nothing * v.x)}

    found = verdict(toy(Bound(search=("x",)), trial, cases=(SMALL_ENTRIES,), mutants=("mutant",)))
    assert found.verdict == REFUTED and found.counterexample["found_by"] == "search"


# --- Numbers that are not finite


def with_nan(v, key):
    """nan in about one trial of twenty, where failures are allowed in one of five."""
    return Sides(jnp.where(jax.random.bernoulli(key, 0.05), jnp.nan, 1.0), jnp.asarray(1.0), delta=jnp.asarray(0.2))


@pytest.mark.parametrize("kind", [Expectation(), Probability()])
def test_nan_refutes(kind):
    found = verdict(toy(kind, with_nan))
    assert found.verdict == REFUTED and found.counterexample["found_by"] == "trials"


# --- Looks


def test_trials_stop_at_the_first_look_that_decides():
    assert verdict(KINDS["equal"], tier=replace(TINY, tolerance=10.0)).trials == 4 * 64
    fine = verdict(KINDS["equal"], tier=replace(TINY, tolerance=1e-4))
    assert fine.verdict == INCONCLUSIVE and fine.undecided and fine.trials == 4 * 4096
    assert fine.mutants == {"not reweighted": REFUTED}


def test_trials_go_on_while_a_mutant_is_undecided():
    def trial(v, coins):
        right = Sides(jnp.ones(3), jnp.ones(3))
        return {"claim": right, "noisy": right._replace(measured=2 + 20 * (coins - v.p))}

    looks = replace(TINY, looks=(64, 4096, 65536))
    found = verdict(toy(Expectation(), trial, draw=coins, mutants=("noisy",)), tier=looks)
    assert found.mutants == {"noisy": REFUTED} and found.verdict == SUPPORTED
    assert found.trials == 4 * 4096


# --- Nothing depends on what else is verified


def test_a_case_more_changes_no_other():
    for claim in (FALSE["identity"], FALSE["effect"]):
        alone = verdict(claim).cases["vector"]
        same_shape = verdict(replace(claim, cases=(SAMPLE, VECTOR))).cases
        another = verdict(replace(claim, cases=(VECTOR, LONGER))).cases
        assert list(same_shape) == ["toys", "vector"]
        assert same_shape["vector"] == another["vector"] == alone


def test_an_id_of_its_own_gives_keys_of_its_own():
    """The same statement under another id sees other instances: claims are independent of one another."""
    other = verdict(replace(FALSE["effect"], id="toy/other"))
    assert other.cases["vector"].measured != verdict(FALSE["effect"]).cases["vector"].measured


def test_an_instance_is_the_same_at_every_tier():
    few, many = (groups(KINDS["equal"], count, 0, DATA)[0] for count in (2, 5))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:2]), few.raw, many.raw)
    np.testing.assert_array_equal(few.keys, many.keys[:2])
    assert len(np.unique(many.keys, axis=0)) == 5
    assert not np.array_equal(groups(KINDS["equal"], 2, 1, DATA)[0].raw.x, few.raw.x)


def test_instances_that_do_not_fit_a_batch_are_mapped():
    assert verdict(replace(FALSE["identity"], batch=2)) == verdict(FALSE["identity"])
    small = verdict(replace(KINDS["equal"], batch=2))
    assert small.verdict == SUPPORTED and small.trials == verdict(KINDS["equal"]).trials
    assert small.cases["vector"].interval == pytest.approx(verdict(KINDS["equal"]).cases["vector"].interval)


# --- Replays


def test_a_counterexample_can_be_made_again():
    claim = FALSE["identity"]
    found = verdict(claim).counterexample
    assert list(found) == ["case", "instance", "found_by", "component", "measured", "theory", "values"]
    assert (found["case"], found["found_by"], found["component"]) == ("vector", "instance", 0)
    raw = jax.tree.map(lambda leaf: leaf[found["instance"]], groups(claim, TINY.instances, 0, DATA)[0].raw)
    assert found["values"] == {"x": raw.x.tolist(), "p": raw.p.tolist()}
    assert found["measured"] == pytest.approx(np.sum(raw.x) ** 2, rel=1e-14)
    assert found["theory"] == pytest.approx(np.sum(raw.x**2), rel=1e-14)


def test_a_counterexample_of_trials_names_the_worst_component():
    found = verdict(FALSE["probability"]).counterexample
    assert found["found_by"] == "trials"
    assert found["component"] == 0  # which fails in nine trials of ten
    assert 0.4 < found["measured"] / found["theory"] / 5 < 1.1


def test_large_arrays_are_named_and_not_shown():
    long = Case("long", lambda rng, data: Vector(rng.standard_normal(70), np.asarray(0.5)))
    found = verdict(replace(FALSE["identity"], cases=(long,)))
    assert found.counterexample["values"] == {"x": "float64 [70]", "p": 0.5}


# --- Bad input


def test_x64_is_needed():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64: got False; verify takes True"):
        verify(KINDS["identity"], tier=TINY, data=DATA)


def test_unknown_tier():
    with pytest.raises(ValueError, match="tier: got 'thorough'; takes one of quick, standard, full"):
        verify(KINDS["identity"], tier="thorough", data=DATA)


@pytest.mark.parametrize(
    ("kind", "mutants"),
    [(Identity(), ()), (Expectation(), ("half",)), (Rate((2, 4)), ("squares alone", "half"))],
)
def test_sides_that_the_claim_does_not_name(kind, mutants):
    with pytest.raises(ValueError, match=r"trial of toy/claim: returned the sides \['claim', 'squares alone'\]; takes"):
        verify(toy(kind, lambda v, *_: square_of_sum(v, _), mutants=mutants), tier=TINY, data=DATA)


def test_a_probability_without_a_failure_rate():
    with pytest.raises(ValueError, match="trial of toy/claim: returned 'claim' without delta"):
        verify(toy(Probability(), signed), tier=TINY, data=DATA)
