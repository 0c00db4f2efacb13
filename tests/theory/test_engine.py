"""Programs: compiled once, shared by statements and cases, released with their claim; tiles of trials."""

import gc
import weakref
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.claims import DATA, KINDS, LONGER, TINY, VECTOR, coins, toy, unbiased
from theory import engine, verify
from theory.claim import Sides
from theory.engine import Program, Programs, tile_size
from theory.instances import chance_key
from theory.kinds import Expectation, Identity, Probability
from theory.runs import Runs
from theory.verdict import SUPPORTED


def test_a_program_is_compiled_once_for_each_shape_and_precision():
    traces = []

    def double(x):
        traces.append((x.shape, x.dtype.name, jnp.arange(2.0).dtype.name))
        return 2 * x

    program = Program(double)
    for x in (np.ones(2), np.zeros(2), np.ones(3), np.ones(3, np.float32)):
        np.testing.assert_array_equal(program(x), 2 * x)
    with jax.enable_x64(False):
        program(np.ones(3, np.float32))
    assert traces == [
        ((2,), "float64", "float64"), ((3,), "float64", "float64"), ((3,), "float32", "float64"),
        ((3,), "float32", "float32"),
    ]  # fmt: skip


def test_programs_of_a_claim_are_released_with_its_verdict(monkeypatch):
    made = []

    class Watched(Programs):
        def __init__(self, claim):
            super().__init__(claim)
            made.append(self)

    monkeypatch.setattr("theory.verification.Programs", Watched)
    claim = toy(Expectation(), unbiased, draw=coins, mutants=("not reweighted",))
    verify(claim, tier=TINY, data=DATA)
    (programs,) = made
    watched = [weakref.ref(each) for each in (claim, programs, *programs._made.values())]
    assert len(watched) > 2
    made.clear()
    del claim, programs
    gc.collect()
    assert not any(reference() for reference in watched)


def test_nothing_of_a_claim_is_kept_in_the_module():
    caches = [name for name, value in vars(engine).items() if hasattr(value, "cache_info")]
    assert caches == []


@pytest.mark.parametrize(("batch", "count", "expected"), [(4096, 32, 128), (256, 4, 64), (2, 4, 1), (100, 3, 32)])
def test_tiles_are_powers_of_two_that_fit_the_batch(batch, count, expected):
    claim = toy(Identity(), lambda v, _: Sides(v.x, v.x), batch=batch)
    assert tile_size(claim, count) == expected
    assert expected & (expected - 1) == 0


def test_sums_over_trials_are_those_of_the_trials():
    """Of each case alone, from whichever trial on, however many tiles there are: against a loop in NumPy."""
    claim = toy(Expectation(), unbiased, draw=coins, mutants=("not reweighted",), batch=16, cases=(VECTOR, LONGER))
    programs = Programs(claim)
    runs = Runs(programs, TINY, 0, DATA)
    assert runs.whole_tiles(1) == 4 and runs.whole_tiles(11) == 12 and runs.sampled_cases == 2
    group = runs.groups[1]
    (case,) = group.cases
    found = runs.trials(group, case, first=4, count=8, float32=False)
    assert list(found) == ["claim", "not reweighted"]
    draw = jax.jit(lambda words, p, trial: jax.random.bernoulli(chance_key(words, trial), p, (5,)))
    for row in range(TINY.instances):
        v = jax.tree.map(lambda leaf, row=row: leaf[row], group.instances)
        kept = np.stack([draw(group.keys[row], v.p, trial) for trial in range(4, 12)])
        measured = kept / v.p * v.x
        deviation = (measured - v.x) / abs(v.x)
        own = jax.tree.map(lambda leaf, row=row: leaf[row], found["claim"])
        np.testing.assert_array_equal(own.trials, 8)
        np.testing.assert_allclose(own.sides.measured, measured.sum(axis=0), rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(own.sides.scale, 8 * abs(v.x), rtol=1e-14)
        for power, total in ((1, own.deviation), (2, own.squares), (4, own.fourth_powers)):
            np.testing.assert_allclose(total, (deviation**power).sum(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(own.failures, (measured > v.x + 1e-9).sum(axis=0))
        assert not own.broken.any() and not own.changed_scales.any() and np.isnan(own.sides.delta).all()


def test_failures_against_a_theory_of_0_overflow_without_a_warning():
    """Deviations are relative to the theory, and only failures are counted here."""

    def trial(v, key):
        failed = jax.random.bernoulli(key, 0.02)
        return Sides(1.0 * failed, jnp.asarray(0.0), delta=jnp.asarray(0.1))

    tier = replace(TINY, instances=16, looks=(64,))
    assert verify(toy(Probability(), trial), tier=tier, data=DATA).verdict == SUPPORTED


def test_statements_come_in_their_order():
    """A program returns a dictionary in sorted order; the claim comes first all the same."""

    def trial(v, _):
        return {name: Sides(jnp.sum(v.x), jnp.sum(v.x)) for name in ("zeta", "claim", "alpha")}

    runs = Runs(Programs(toy(Identity(), trial, mutants=("zeta", "alpha"))), TINY, 0, DATA)
    assert list(runs.evaluate(runs.groups[0])) == ["claim", "zeta", "alpha"] == list(runs.statements)
    assert KINDS["identity"].mutants == ("squares alone",)


def test_fresh_trials_never_ran_before():
    """Trials draw uniform numbers: none comes twice, in the first stage, among the fresh ones, or in another place."""
    claim = toy(
        Expectation(),
        lambda v, drawn: Sides(drawn, v.p, scale=jnp.ones(())),
        draw=lambda v, key: jax.random.uniform(key, dtype=float),
        batch=4,
    )
    runs = Runs(Programs(claim), TINY, 0, DATA)
    (group,) = runs.groups
    case = group.cases[0]
    assert runs.whole_tiles(1) == 1  # so that each call below runs one trial in each place

    def drawn(run, *rows):
        """What three trials in each place come to, [3, instances]."""
        found = [run(group, case, *rows, first=first, count=1, float32=False)["claim"] for first in range(3)]
        return np.stack([sums.sides.measured.ravel() for sums in found])

    first_stage = drawn(runs.trials)
    one_place_each = drawn(runs.fresh_trials, np.arange(4))
    two_places_each = drawn(runs.fresh_trials, np.array([2, 0]))
    second_places = two_places_each - one_place_each[:, [2, 0]]
    assert ((0 < second_places) & (second_places < 1)).all()
    numbers = np.concatenate([part.ravel() for part in (first_stage, one_place_each, second_places)])
    assert len(np.unique(numbers.round(9))) == 12 + 12 + 6
