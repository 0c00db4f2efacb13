"""Trials in stages: the sides of one piece, a program that claims share, and one draw for a case and its controls."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sketchprune import data
from theory import Case, Claim, Effect, Sides, check_claim, stages, verify
from theory.claim import Source
from theory.engine import Programs
from theory.runs import Runs
from theory.staged import Drawn, StagedTrial
from theory.verdict import Tier

TINY = Tier("tiny", instances=2, looks=(2,), tolerance=0.1, search_steps=1, seeds=5)
DATA = data.Dataset(np.arange(60.0).reshape(20, 3), np.arange(20) % 2, "features", 2)


class Result(NamedTuple):
    product: Any
    unused: Any


def run(instance, shared, arm):
    return Result(instance["sign"] * shared * arm["value"], jnp.zeros(7))


def draw(instance, key):
    noise, shared = jax.random.normal(key, (4,)), jax.random.uniform(key)
    return Drawn(shared, {"value": instance["seed"] + noise}, known=noise.sum())


def compare(instance, results, known):
    return {"claim": Sides(results.product, known + jnp.arange(results.product.size))}


def make(rng, dataset, sign):
    return {"seed": np.float64(rng.normal()), "sign": np.float64(sign)}


def claim(**fields):
    cases = (
        Case("{data}", lambda rng, dataset: make(rng, dataset, 1), stream="seeds"),
        Case("{data}, negated", lambda rng, dataset: make(rng, dataset, -1), stream="seeds", control=True),
        Case("others", lambda rng, dataset: make(rng, dataset, 2)),
    )
    options = dict(
        id="toy/staged", title="In stages", statement="a = b", sources=(), kind=Effect(), cases=cases, expected=None,
        draw=draw, trial=StagedTrial(run, ("product",), compare), batch=2,
    )  # fmt: skip
    return Claim(**options | fields)


def sides_of(claim):
    with jax.enable_x64(True):
        runs = Runs(Programs(claim), TINY, 0, DATA)
        (group,) = runs.groups
        return runs.evaluate(group)["claim"]


def last_three(arms):
    return jax.tree.map(lambda leaf: leaf[1:], arms)


def test_stages_come_to_the_sides_of_one_piece():
    """Numbers of arms that fill tiles (5 seeds · 3 cases · 4) or do not (· 3), with selected arms."""
    for select, count in ((stages.all_arms, 4), (last_three, 3)):
        staged = claim(trial=StagedTrial(run, ("product",), compare, select))
        whole = replace(staged, trial=lambda instance, drawn, trial=staged.trial: trial(instance, drawn))
        found, expected = sides_of(staged), sides_of(whole)
        assert found.values.measured.shape == (15, count)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), found, expected)


def test_a_control_runs_what_was_drawn_for_its_case():
    """Even where the draw looks at what the control changes, which it must not."""
    found = sides_of(
        claim(draw=lambda instance, key: Drawn(1.0, {"value": instance["sign"] * jnp.arange(1.0, 3)}, 0.0))
    )
    measured = found.values.measured
    np.testing.assert_array_equal(measured[:5], [[1, 2]] * 5)
    np.testing.assert_array_equal(measured[5:10], [[-1, -2]] * 5)
    np.testing.assert_array_equal(measured[10:], [[4, 8]] * 5)


def test_claims_share_the_programs_of_equal_stages():
    """However many claims are verified, what they have in common is traced once."""
    traced = []

    def counted(instance, shared, arm):
        traced.append("run")
        return run(instance, shared, arm)

    def counted_draw(instance, key):
        traced.append("draw")
        return draw(instance, key)

    for count in (4, 3):
        select = stages.all_arms if count == 4 else last_three
        verify(
            claim(draw=counted_draw, trial=StagedTrial(counted, ("product",), compare, select)), tier=TINY, data=DATA
        )
    assert sorted(traced) == ["draw", "run"]


def test_they_keep_the_contract_of_a_claim():
    check_claim(replace(claim(), sources=(Source("a toy"),)), DATA)
