"""What refuted a claim, written down: the right instance of the right case, with its numbers."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.claims import DATA, FALSE, TINY, Vector, programs, toy, verdict
from theory.claim import Case, Sides
from theory.kinds import Bound, Expectation, Identity, Probability
from theory.measurements import take
from theory.runs import Runs
from theory.verdict import REFUTED, SUPPORTED


def instances(claim, tier=TINY):
    """The groups of a claim's instances, as a verification makes them."""
    return Runs(programs(claim), tier, 0, DATA).groups


def test_a_counterexample_can_be_made_again():
    claim = FALSE["identity"]
    found = verdict(claim).counterexample
    assert (found.case, found.found_by, found.component) == ("vector", "instance", 0)
    raw = take(instances(claim)[0].raw, found.instance)
    assert found.values == {"x": raw.x.tolist(), "p": raw.p.tolist()}
    assert found.measured == pytest.approx(np.sum(raw.x) ** 2, rel=1e-14)
    assert found.theory == pytest.approx(np.sum(raw.x**2), rel=1e-14)


def test_a_counterexample_of_trials_names_the_worst_component():
    found = verdict(FALSE["probability"]).counterexample
    assert found.found_by == "trials"
    assert found.component == 0  # which fails in nine trials of ten
    assert 0.4 < found.ratio / 5 < 1.1


def test_large_arrays_are_named_and_not_shown():
    long = Case("long", lambda rng, data: Vector(rng.standard_normal(20_000), np.asarray(0.5)))
    found = verdict(replace(FALSE["identity"], cases=(long,)))
    assert found.counterexample.values == {"x": "float64 [20000]", "p": 0.5}


# --- The right case

TRUE, SECOND = (Case(name, lambda rng, data, low=low: Vector(low + rng.random(3), np.asarray(0.5))) for name, low in
                (("true", 0.0), ("second", 2.0)))  # fmt: skip


def at_most_one(v, _):
    """True in the first case, where entries are below 1, and false in the second."""
    return Sides(v.x[0], jnp.asarray(1.0), delta=jnp.asarray(0.1))


@pytest.mark.parametrize("kind", [Bound(), Identity(), Expectation("at most"), Probability()])
def test_the_counterexample_is_of_the_case_that_is_false(kind):
    """Both cases are in one group: the worst instance is looked up among all, and written down from among all."""

    def trial(v, _):
        sides = at_most_one(v, _)
        return sides if not isinstance(kind, Identity) else sides._replace(theory=jnp.minimum(v.x[0], 1.0))

    claim = toy(kind, trial, cases=(TRUE, SECOND))
    (group,) = instances(claim)
    found = verdict(claim)
    assert [case.verdict for case in found.cases.values()] == [SUPPORTED, REFUTED]
    replay = found.counterexample
    assert replay.case == "second"
    assert replay.values == {"x": take(group.raw, TINY.instances + replay.instance).x.tolist(), "p": 0.5}
    own = group.raw.x[TINY.instances :, 0]
    assert replay.measured == pytest.approx(own[replay.instance], rel=1e-6)
    if isinstance(kind, Bound | Identity):  # trials that are all alike decide nothing, and these nearly are
        assert replay.instance == np.argmax(own)


def test_a_search_names_the_case_and_instance_it_started_from():
    """There are more instances than a search starts from: the n-th start is not the n-th instance."""
    many = replace(TINY, instances=200, search_steps=60)

    def planted(v, _):
        """False where x_0 exceeds 3.2, which no instance's does; p says which instance one started from."""
        return Sides(v.x[0], jnp.asarray(3.2))

    def numbered(low):
        return lambda rng, data: Vector(low + rng.random(3), np.asarray(rng.random()))

    claim = toy(Bound(search=("x",)), planted, cases=(Case("true", numbered(-9.0)), Case("second", numbered(2.0))))
    (group,) = instances(claim, many)
    found = verdict(claim, tier=many)
    assert [case.verdict for case in found.cases.values()] == [SUPPORTED, REFUTED]
    replay = found.counterexample
    assert (replay.case, replay.found_by) == ("second", "search")
    assert replay.values["p"] == group.raw.p[many.instances + replay.instance]
    assert replay.measured == replay.values["x"][0] > 3.2
    case = found.cases["second"]
    assert (case.measured, case.theory) == (replay.measured, replay.theory)
