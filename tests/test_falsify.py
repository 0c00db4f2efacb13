"""The search for counterexamples finds what no instance shows, and stays within the hypotheses."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.examples.toys import VECTOR, Vector, toy, verdict
from theory.claim import Bound, Case, Sides
from theory.verdict import REFUTED, SUPPORTED


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
