"""The search for counterexamples finds what no instance shows, and stays within the hypotheses."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.claims import DATA, VECTOR, Vector, toy, verdict
from theory.claim import Case, Sides
from theory.cli import main
from theory.falsify import falsify
from theory.kinds import Bound
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
    assert (replay.case, replay.found_by) == ("small-entries", "search")
    assert replay.measured == max(replay.values["x"]) > replay.theory == 1.2
    assert replay.values["p"] == 0.5  # p is not searched
    case = found.cases["small-entries"]
    assert (case.verdict, case.measured, case.theory) == (REFUTED, replay.measured, 1.2)


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
    assert found.verdict == REFUTED and 1.2 < found.counterexample.measured <= 1.3


def test_the_search_moves_what_is_prepared_afterwards():
    claim = toy(
        Bound(search=("x",)),
        lambda v, _: Sides(jnp.max(v), jnp.asarray(1.2)),
        cases=(SMALL_ENTRIES,),
        prepare=lambda v: v.x,
    )
    assert verdict(claim).counterexample.found_by == "search"


@pytest.mark.parametrize("nothing", [jnp.inf, jnp.nan])
def test_the_search_is_not_misled_by_a_side_that_says_nothing(nothing):
    """An infinite bound is true: it must not stand for the worst. Nor must a mutant's, or its nan."""

    def trial(v, _):
        right = Sides(jnp.max(v.x), jnp.array([1.2, jnp.inf]))
        return {"claim": right, "mutant": right._replace(theory=nothing * v.x)}

    found = verdict(toy(Bound(search=("x",)), trial, cases=(SMALL_ENTRIES,), mutants=("mutant",)))
    assert found.verdict == REFUTED and found.counterexample.found_by == "search"


def test_how_close_a_search_comes():
    """max x_i ≤ 1.2 is false, x₁ ≤ |x₁| is tight, and x ≤ 1 leaves nothing of x > 2."""
    false = toy(Bound(search=("x",)), planted, cases=(SMALL_ENTRIES, VECTOR))
    small, vector = falsify(false, steps=60, seed=0, data=DATA)
    assert small.refutes and small.start <= 1 / 1.2 < 1 < small.ratio
    assert small.instance.measured == max(small.instance.values["x"]) == pytest.approx(1.2 * small.ratio)
    assert vector.refutes and vector.ratio >= vector.start > 1
    tight = toy(Bound(search=("x",)), lambda v, _: Sides(v.x[0], jnp.linalg.norm(v.x)), cases=(SMALL_ENTRIES,))
    (found,) = falsify(tight, steps=300, seed=0, data=DATA)
    assert not found.refutes and found.start < 0.95 and found.ratio == pytest.approx(1, abs=0.01)
    absent = replace(tight, hypotheses={"x > 2": lambda v: v.x > 2})
    (found,) = falsify(absent, steps=1, seed=0, data=DATA)
    assert found.instance is None and not found.refutes


MINE = """
import jax.numpy as jnp
from flax import struct
from theory import Bound, Case, Claim, Sides

class Point(struct.PyTreeNode):
    x: jnp.ndarray

def claim(name, limit, kind):
    return Claim(id=f"my/{name}", title=name, statement="", sources=(), kind=kind, mutants=(),
        cases=(Case("near", lambda rng, data: Point(rng.uniform(0.5, 1, 2))),),
        trial=lambda point, _: {"claim": Sides(jnp.max(point.x), limit(point.x))})

FALSE = claim("false", lambda x: jnp.asarray(1.5), Bound(search=("x",)))
TRUE = claim("true", lambda x: jnp.sum(abs(x)), Bound(search=("x",)))
FIXED = claim("fixed", lambda x: jnp.asarray(1.5), Bound())
"""


@pytest.mark.usefixtures("jax_settings")
def test_the_command(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    assert main(["falsify", f"{mine}::my/true", "--steps", "20"]) == 0
    assert "no counterexample" in capsys.readouterr().out
    assert main(["falsify", str(mine), "--steps", "50"]) == 1
    said = capsys.readouterr().out
    assert "counterexample: case near" in said and "theory 1.5" in said and "fixed" not in said
    assert main(["falsify", f"{mine}::my/fixed"]) == 2
    assert "takes a bound that names fields to move" in capsys.readouterr().err
    assert main(["falsify", str(mine), "--steps", "-1"]) == 2
    assert "steps is -1; it takes a whole number >= 0" in capsys.readouterr().err


# --- Rounding, and how close a search comes


def vanishing(v, _):
    """A sum less the same sum: rounding is all that is left, and the bound is 0."""
    thirds = v.x / 3
    return Sides(jnp.sum(thirds + thirds + thirds) - jnp.sum(v.x), jnp.sum(0 * v.x))


def test_rounding_of_what_was_subtracted_refutes_nothing():
    """No scale says how large the terms were: inputs changed by rounding errors do."""
    for kind in (Bound(), Bound(search=("x",))):
        assert verdict(toy(kind, vanishing)).verdict == SUPPORTED


def test_a_true_violation_at_any_size_is_none_of_rounding():
    def tiny(v, _):
        return Sides(1e-200 * jnp.sum(v.x**2), 0.9e-200 * jnp.sum(v.x**2))

    def after_cancellation(v, _):
        return Sides(jnp.sum(v.x**2) + 1e6 - 1e6, 0.999 * jnp.sum(v.x**2))

    for trial in (tiny, after_cancellation):
        assert verdict(toy(Bound(search=("x",)), trial)).verdict == REFUTED


def scaled(v, _):
    """Its ratio x₀²/(x₀² + x₁²) is largest at x₁ = 0; the scale is far larger than both sides."""
    return Sides(v.x[0] ** 2, v.x[0] ** 2 + v.x[1] ** 2, scale=1e4)


def test_the_search_climbs_the_ratio_that_it_reports_whatever_the_scale():
    for trial in (scaled, lambda v, _: scaled(v, _)._replace(scale=None)):
        (closest,) = falsify(toy(Bound(search=("x",)), trial), steps=200, seed=0, data=DATA)
        assert closest.ratio >= closest.start and closest.ratio > 0.99


def test_the_resolution_of_a_bound_is_the_largest_ratio_reached():
    still = verdict(toy(Bound(), scaled)).cases["vector"].resolution
    searched = verdict(toy(Bound(search=("x",)), scaled)).cases["vector"].resolution
    assert 0 < still < searched <= 1 and searched > 0.95
