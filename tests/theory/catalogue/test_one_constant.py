"""lottery/subset-sum-constant: the case that is enumerated, and the counterexample that comes of it."""

import itertools
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from sketchprune import data
from theory.catalogue.lottery import one_constant
from theory.catalogue.lottery.one_constant import SUBSET_SUM_CONSTANT
from theory.counterexamples import certify
from theory.verdict import REFUTED, Tier
from theory.verification import verify

TINY = Tier("tiny", instances=2, looks=(64,), tolerance=0.1, search_steps=0)
FEW = next(case for case in SUBSET_SUM_CONSTANT.cases if case.enumerable)


@cache
def found():
    """The verdict on the enumerated case alone."""
    return verify(replace(SUBSET_SUM_CONSTANT, cases=(FEW,)), tier=TINY, data=data.load())


def test_all_items_and_all_that_is_kept_of_them_are_listed():
    with jax.enable_x64(True):
        items = one_constant._few(np.random.default_rng(0), data.load())
        items = items.replace(quantiles=np.array([-0.5, 0.0, 1.0]), density=np.asarray(0.75))
        kept, chances = jax.jit(one_constant._enumerate)(items)
    listed: dict[tuple[float, ...], float] = {}
    for pair, present in itertools.product(
        itertools.product([-0.5, 0, 1], repeat=2), itertools.product([0, 1], repeat=2)
    ):
        outcome = tuple(value * one for value, one in zip(pair, present, strict=True))
        listed[outcome] = listed.get(outcome, 0) + np.prod([0.75 if one else 0.25 for one in present]) / 9
    added: dict[tuple[float, ...], float] = {}
    for outcome, chance in zip(np.asarray(kept) + 0.0, chances, strict=True):
        added[tuple(outcome.tolist())] = added.get(tuple(outcome.tolist()), 0) + float(chance)
    assert added.keys() == listed.keys() and len(kept) == 36
    assert added == pytest.approx(listed, rel=1e-12)


def test_the_formula_asks_for_fewer_and_fewer_items():
    counts = [int(case.make(np.random.default_rng(0), data.load()).count) for case in SUBSET_SUM_CONSTANT.cases]
    assert counts == [28, 9, 5, 5, 2] and max(counts) == one_constant.MOST
    assert one_constant._few(np.random.default_rng(0), data.load()).drawn == 2


def test_the_counterexample_is_two_items_of_few_values():
    """No two items cover, so all outcomes fail. The law keeps five values, a quarter apart, as the hypothesis asks."""
    assert found().verdict == REFUTED
    smaller = found().counterexample.smaller
    assert (smaller.values["quantiles"], smaller.values["count"]) == ([-0.5, -0.25, 0, 0.25, 0.5], 2)
    assert (smaller.measured, smaller.theory) == pytest.approx((1.0, 0.1))
    assert "not translated" not in smaller.program


@pytest.mark.skipif(not certify.available(), reason="python-flint is not installed")
def test_the_counterexample_is_certified():
    certificate = found().counterexample.smaller.certificate
    assert certificate.certified and certificate.margin == pytest.approx(0.9)


def test_a_law_of_items_must_be_spread_and_n_large_enough():
    met = jax.jit(lambda items: [holds(items) for holds in SUBSET_SUM_CONSTANT.hypotheses.values()])
    items = one_constant._few(np.random.default_rng(0), data.load())
    assert met(items) == [True, True]
    assert met(items.replace(quantiles=0 * items.quantiles)) == [False, True]
    assert met(items.replace(density=np.asarray(0.9))) == [True, False]
