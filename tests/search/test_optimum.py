"""Exact best masks against trying every subset, against HiGHS on the linearised problem, and against local search."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import data
from sketchprune.search import subsets
from tests.support.subset_models import KINDS, brute_force, error, model


@pytest.mark.parametrize("reweight", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_branch_and_bound_finds_the_optimum(kind, reweight):
    x, w = model(kind)
    for keep in (0, 1, 3, 6, 8):
        found = subsets.optimum(x, w, keep, reweight=reweight)
        assert found.error == pytest.approx(brute_force(x, w, keep, reweight), abs=1e-9)
        assert found.gap == 0 and found.nodes >= 1
        assert np.count_nonzero(found.mask) <= keep and (found.mask >= 0).all()
        assert error(x, w, found.mask) == pytest.approx(found.error, abs=1e-9)
        assert found.mask.dtype == (float if reweight else bool)


@given(
    columns=st.lists(st.tuples(*4 * [st.integers(-2, 2)]), min_size=1, max_size=7),
    keep=st.integers(0, 7),
    reweight=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whole_numbers_tie_and_depend_on_one_another(columns, keep, reweight):
    """Few whole numbers: zero columns, equal ones, opposite ones, and more columns than rows."""
    x = np.array(columns, float).T
    w, keep = np.ones(x.shape[1]), min(keep, x.shape[1])
    found = subsets.optimum(x, w, keep, reweight=reweight)
    assert found.error == pytest.approx(brute_force(x, w, keep, reweight), abs=1e-9)
    assert found.gap == 0 and error(x, w, found.mask) == pytest.approx(found.error, abs=1e-9)


def test_columns_of_nothing_need_no_mask():
    found = subsets.optimum(np.zeros((3, 5)), np.ones(5), 2)
    assert (found.error, found.gap, found.mask.tolist()) == (0, 0, [False] * 5)


def highs(x, w, keep):
    """The least error by ``scipy.optimize.milp``: a product m_i m_j is a number between its bounds on 0/1 points."""
    gram = (x * w).T @ (x * w)
    d = len(gram)
    i, j = np.triu_indices(d, 1)
    pairs, rows = len(i), np.arange(len(i))
    first, second = (scipy.sparse.csr_matrix((np.ones(pairs), (rows, item)), (pairs, d)) for item in (i, j))
    product = scipy.sparse.identity(pairs, format="csr")
    counts = scipy.sparse.csr_matrix(np.repeat([1.0, 0.0], [d, pairs]))
    found = scipy.optimize.milp(
        np.concatenate([np.diag(gram) - 2 * gram.sum(axis=1), 2 * gram[i, j]]),
        constraints=[
            scipy.optimize.LinearConstraint(scipy.sparse.hstack([first, -product]), 0, np.inf),
            scipy.optimize.LinearConstraint(scipy.sparse.hstack([second, -product]), 0, np.inf),
            scipy.optimize.LinearConstraint(scipy.sparse.hstack([first + second, -product]), -np.inf, 1),
            scipy.optimize.LinearConstraint(counts, 0, keep),
        ],
        integrality=np.repeat([1, 0], [d, pairs]),
        bounds=scipy.optimize.Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    assert found.status == 0
    return found.fun + gram.sum()


@pytest.fixture(scope="module")
def digits():
    """The 61 pixels of the digits that vary, and Gaussian weights."""
    x = np.asarray(data.standardise(data.load().x), np.float64)
    x = x[:, (x != 0).any(axis=0)]
    return x, np.random.default_rng(0).standard_normal(x.shape[1])


def test_highs_proves_the_same(digits):
    wide = np.random.default_rng(3).normal(size=(8, 18)), np.ones(18)
    for (x, w), keep in ((digits, 6), (wide, 5)):
        found = subsets.optimum(x, w, keep)
        size = np.sum((x @ w) ** 2)
        assert found.gap == 0 and found.error / size == pytest.approx(highs(x, w, keep) / size, abs=1e-6)


def test_models_of_many_weights_are_within_reach(digits):
    rng = np.random.default_rng(2)
    gaussian = rng.normal(size=(60, 30)), rng.normal(size=30)
    for (x, w), keep in ((gaussian, 12), (digits, 12)):
        found = subsets.optimum(x, w, keep)
        assert found.gap == 0
        mask, value = subsets.local_search(jnp.asarray(x), jnp.asarray(w), keep, key=jax.random.key(0), starts=32)
        assert float(value) == pytest.approx(found.error, rel=1e-9)
        assert error(x, w, mask) == pytest.approx(float(value), rel=1e-9)


@pytest.mark.parametrize("reweight", [False, True])
def test_a_stopped_proof_is_still_one(reweight):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(14, 14)), rng.normal(size=14)
    whole = subsets.optimum(x, w, 6, reweight=reweight)
    assert whole.gap == 0
    limits = (1, 2, whole.nodes)
    bounds = [subsets.optimum(x, w, 6, reweight=reweight, max_nodes=nodes) for nodes in limits]
    for limit, found in zip(limits, bounds, strict=True):
        assert found.nodes <= limit
        assert found.bound <= whole.error * (1 + 1e-12) and found.error >= whole.error * (1 - 1e-12)
    assert bounds[0].gap > 0 and bounds[0].bound <= bounds[1].bound <= bounds[2].bound + 1e-9


def test_a_search_stopped_by_the_clock_keeps_its_best_mask(digits, monkeypatch):
    """Each look at the clock takes a second."""
    x, w = digits
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    found = subsets.optimum(x, w, 20, max_seconds=2)
    assert 1 < found.nodes < 1000 and found.gap > 0
    assert found.mask.sum() <= 20 and error(x, w, found.mask) == pytest.approx(found.error, rel=1e-9)
    at_once = subsets.optimum(x, w, 20, max_seconds=0)
    assert at_once.nodes == 1 and at_once.bound <= found.bound and at_once.error >= found.error


@pytest.mark.parametrize("reweight", [False, True])
def test_no_result_is_worse_than_its_start(digits, reweight):
    x, w = digits
    mask, value = subsets.local_search(x, w, 20, key=jax.random.key(0), starts=8)
    alone = subsets.optimum(x, w, 20, reweight=reweight, max_nodes=1)
    found = subsets.optimum(x, w, 20, reweight=reweight, max_nodes=1, start=mask)
    assert found.error <= float(value) * (1 + 1e-9) and found.bound == pytest.approx(alone.bound)
    assert error(x, w, found.mask) == pytest.approx(found.error, rel=1e-9)
    if not reweight:
        assert alone.error > found.error and found.mask.tolist() == mask.tolist()
    assert found.mask.dtype == alone.mask.dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: subsets.optimum(x, w, 9), "keep is 9; it takes at most 8"),
        (lambda x, w: subsets.optimum(x, w, 2, max_nodes=0), "max_nodes is 0"),
        (lambda x, w: subsets.optimum(x, w, 2, max_seconds=-1), "max_seconds is -1; it takes a number >= 0"),
        (lambda x, w: subsets.optimum(x, w, 2, max_seconds=np.nan), "max_seconds is nan"),
        (lambda x, w: subsets.optimum(x * np.inf, w, 2), "not finite"),
        (lambda x, w: subsets.optimum(x[:, :0], w[:0], 0), "w has 0 weights; it takes at least 1"),
        (lambda x, w: subsets.optimum(x, w, 2, start=w == w), "start keeps 8 weights; it takes a mask that keeps at"),
        (lambda x, w: subsets.optimum(x, w, 8, start=0 * w + 2), "start has entries other than 0 and 1; it takes"),
        (lambda x, w: subsets.optimum(x, w, 8, start=0 * w - 1, reweight=True), "start has entries that are negative"),
    ],
)
def test_bad_input(call, message):
    x, w = map(jnp.asarray, model("gaussian"))
    with pytest.raises(ValueError, match=message):
        call(x, w)
