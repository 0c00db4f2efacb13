"""Claims are decided in float64 and compared in float32, whatever the caller has set."""

import threading

import jax
import jax.numpy as jnp
import pytest

from tests.support.claims import DATA, KINDS, TINY, coins, toy, verdict
from theory import verify
from theory.claim import Sides
from theory.falsify import falsify
from theory.kinds import Bound, Expectation, Identity
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED


def x64_is_on():
    return jnp.result_type(float) == jnp.float64


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


def test_a_mutant_is_judged_by_its_own_float32_sides():
    """The claim is exact in float32; the mutant is off by less than rounding in float64, and by as much in float32."""

    def trial(v, _):
        near_miss = Sides(jnp.asarray(2.0**-10) * (1 + 2.0**-13), jnp.asarray(2.0**-10), scale=jnp.asarray(2.0**20))
        return {"claim": Sides(jnp.sum(v.x), jnp.sum(v.x)), "near miss": near_miss}

    found = verdict(toy(Identity(), trial, mutants=("near miss",)))
    assert found.verdict == SUPPORTED and found.mutants == {"near miss": INCONCLUSIVE}


def test_a_claim_is_not_judged_by_the_float32_sides_of_its_mutant():
    def trial(v, _):
        rounded = Sides(jnp.sum(v.x / 3) * 3, jnp.sum(v.x), scale=jnp.sum(abs(v.x)))
        return {"claim": rounded, "exact": Sides(jnp.asarray(1.0), jnp.asarray(2.0))}

    found = verdict(toy(Identity(), trial, mutants=("exact",)))
    assert found.verdict == SUPPORTED and found.mutants == {"exact": REFUTED}


# --- What the caller has set


@pytest.mark.parametrize("name", ["identity", "equal", "bound", "probability"])
def test_verify_needs_nothing_of_its_caller_and_leaves_nothing_behind(name):
    with jax.enable_x64(False):
        found = verify(KINDS[name], tier=TINY, data=DATA)
        assert not x64_is_on()
    assert found == verdict(KINDS[name])


def test_a_caller_s_setting_survives_an_exception():
    def trial(v, _):
        assert x64_is_on()
        raise ArithmeticError("planted")

    with jax.enable_x64(False):
        with pytest.raises(ArithmeticError, match="planted"):
            verify(toy(Bound(), trial), tier=TINY, data=DATA)
        assert not x64_is_on()


def test_threads_verify_at_once_with_settings_of_their_own():
    """One caller has x64 off, one has it on; neither sees the other's, and both get the same verdict."""
    claim, found, together = KINDS["identity"], {}, threading.Barrier(2, timeout=60)

    def work(x64):
        with jax.enable_x64(x64):
            together.wait()
            found[x64] = verify(claim, tier=TINY, data=DATA)
            assert x64_is_on() == x64

    threads = [threading.Thread(target=work, args=(x64,)) for x64 in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[False] == found[True] == verdict(claim)


def test_a_search_turns_x64_on_and_gives_it_back_between_its_results():
    seen = set()

    def trial(v, _):
        seen.add(v.x.dtype.name)
        return Sides(v.x[0], jnp.linalg.norm(v.x))

    with jax.enable_x64(False):
        for closest in falsify(toy(Bound(search=("x",)), trial), steps=2, seed=0, data=DATA):
            assert not x64_is_on() and not closest.refutes
    assert seen == {"float64"}


def test_trials_of_an_expectation_run_in_float32():
    """Their sums do not: they would not tell a mean from 1 to the last digit otherwise."""
    seen = set()

    def trial(v, drawn):
        seen.add(v.x.dtype.name)
        return Sides(jnp.ones(3, v.x.dtype), jnp.ones(3, v.x.dtype))

    found = verdict(toy(Expectation(), trial, draw=coins))
    assert found.verdict == SUPPORTED and seen == {"float32"}
