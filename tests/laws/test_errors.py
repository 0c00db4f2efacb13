"""Exact errors and training bounds of the laws against masks listed in NumPy."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, sketch
from tests.support.listed_masks import (
    expected_error,
    expected_training_error,
    multinomial_masks,
    poisson_masks,
    subset_masks,
    successive_masks,
)

N, D, S = 5, 4, 3
KINDS = ["plain", "zero column", "zero weight", "orthogonal", "collinear"]


def instance(kind, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(N, D)) * rng.lognormal(size=D), rng.normal(size=D)
    if kind == "zero column":
        x[:, 1] = 0
    if kind == "zero weight":
        w[2] = 0
    if kind == "orthogonal":
        x = np.linalg.qr(x)[0] * rng.lognormal(size=D)
    if kind == "collinear":
        x[:, 3] = -2 * x[:, 0]
    return x, w, rng.dirichlet(np.ones(D)), rng.uniform(0.1, 0.9, size=D), rng.normal(size=N)


@jax.jit
def errors(x, w, p, rates):
    """The errors of every law on linear items, one program for all instances."""
    items = sketch.linear_items(x, w)
    return [
        laws.Multinomial(p, S).error(items),
        laws.Multinomial(p, S, binary=True).error(items),
        laws.Poisson(rates).error(items),
        laws.Poisson(rates, binary=True).error(items),
        *(laws.FixedSize(p, size).error(items) for size in range(D + 1)),
        *(laws.ErdosRenyiCounts(size, ((D,),)).error(items) for size in range(D + 1)),
        laws.ErdosRenyi(0.3, ((D,),)).error(items),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_the_enumerated_expectations(kind):
    x, w, p, rates, _ = instance(kind)
    every = [
        multinomial_masks(p, S),
        multinomial_masks(p, S, binary=True),
        poisson_masks(rates),
        poisson_masks(rates, binary=True),
        *(successive_masks(p, size) for size in range(D + 1)),
        *(subset_masks(D, size) for size in range(D + 1)),
        poisson_masks(np.full(D, 0.3), binary=True),
    ]
    for found, masks in zip(errors(x, w, p, rates), every, strict=True):
        assert float(found) == pytest.approx(expected_error(x, w, masks), rel=1e-11, abs=1e-12)


def test_outcomes_are_the_listed_masks():
    *_, p, rates, _ = instance("plain")
    found = jax.jit(
        lambda p, rates: [
            laws.Multinomial(p, S).outcomes(),
            laws.Multinomial(p, S, binary=True).outcomes(),
            laws.Multinomial(p, 2, max_budget=S).outcomes(),
            laws.Poisson(rates).outcomes(),
            laws.Poisson(rates, binary=True).outcomes(),
            laws.FixedSize(p, 2).outcomes(),
            laws.ErdosRenyi(0.3, ((D,),)).outcomes(),
            laws.ErdosRenyiCounts(2, ((D,),)).outcomes(),
        ]
    )(p, rates)
    listed = [
        multinomial_masks(p, S),
        multinomial_masks(p, S, binary=True),
        multinomial_masks(p, 2),
        poisson_masks(rates),
        poisson_masks(rates, binary=True),
        successive_masks(p, 2),
        poisson_masks(np.full(D, 0.3), binary=True),
        subset_masks(D, 2),
    ]
    for (masks, chances), expected in zip(found, listed, strict=True):
        ours, theirs = collections.Counter(), collections.Counter()
        for mask, chance in zip(np.asarray(masks, float).round(9).tolist(), chances.tolist(), strict=True):
            ours[tuple(mask)] += chance
        for chance, mask in expected:
            theirs[tuple(np.asarray(mask, float).round(9).tolist())] += chance
        assert {mask for mask in ours if ours[mask]} == set(theirs)
        assert all(ours[mask] == pytest.approx(theirs[mask], rel=1e-12) for mask in theirs)


def test_errors_on_tangent_items_are_those_of_the_kernel():
    """The same laws on J_iJ_iᵀ: as vectors, these are the columns of a Khatri-Rao product."""
    j = np.random.default_rng(1).normal(size=(3, D))
    columns = (j[:, None] * j[None]).reshape(9, D)
    p, rates = map(jnp.asarray, instance("plain")[2:4])

    @jax.jit
    def found():
        items, flat = sketch.tangent_items(j), sketch.linear_items(columns, np.ones(D))
        some = laws.Multinomial(p, S), laws.Multinomial(p, S, binary=True), laws.Poisson(rates, binary=True)
        return [(law.error(items), law.error(flat)) for law in some], (items.squares, flat.squares)

    kernel = [
        sum(chance * np.sum(((j * mask) @ j.T - j @ j.T) ** 2) for chance, mask in every)
        for every in (
            multinomial_masks(np.asarray(p), S),
            multinomial_masks(np.asarray(p), S, binary=True),
            poisson_masks(np.asarray(rates), binary=True),
        )
    ]
    some, squares = found()
    np.testing.assert_allclose(some, np.stack([kernel, kernel], 1), rtol=1e-11)
    np.testing.assert_allclose(*squares, rtol=1e-12)


def test_errors_of_pytrees_are_those_of_the_joined_vector():
    x, w, p, rates, _ = instance("plain")

    def tree(values):
        return {"a": values[:2].reshape(2, 1), "b": values[2:]}

    def joined(values):
        return jnp.concatenate([values["a"].ravel(), values["b"]])

    @jax.jit
    def found(p, rates):
        flat = sketch.linear_items(x, w)
        items = laws.Items(tree(flat.squares), lambda c: flat.combination(joined(c)), flat.gram)
        some = (
            lambda values: laws.Multinomial(values(p), 3),
            lambda values: laws.Multinomial(values(p), 3, binary=True),
            lambda values: laws.Poisson(values(rates)),
            lambda values: laws.Poisson(values(rates), binary=True),
            lambda values: laws.FixedSize(values(p), 2),
        )
        return [(law(tree).error(items), law(lambda values: values).error(flat)) for law in some]

    for one, other in found(p, rates):
        assert float(one) == pytest.approx(float(other), rel=1e-13)


def test_errors_where_the_law_vanishes():
    """Idle items may have no chance, rates of one cost nothing, binary laws may drop any item."""
    x, w, *_ = instance("zero weight")
    p, rates = np.array([0.5, 0.3, 0.0, 0.2]), np.array([1.0, 0.3, 0.0, 0.2])
    items, ones = sketch.linear_items(x, w), sketch.linear_items(x, np.ones(D))
    multinomial, poisson = laws.Multinomial(jnp.asarray(p), S), laws.Poisson(jnp.asarray(rates))
    assert float(poisson.error(items)) == pytest.approx(expected_error(x, w, poisson_masks(rates)))
    expected = expected_error(x, np.ones(D), poisson_masks(rates, binary=True))
    assert float(poisson.replace(binary=True).error(ones)) == pytest.approx(expected)
    fixed = laws.FixedSize(jnp.asarray(p), 2)
    assert float(fixed.error(ones)) == pytest.approx(expected_error(x, np.ones(D), successive_masks(p, 2)))
    assert jnp.isfinite(multinomial.error(items))
    for law in (multinomial, poisson):
        with pytest.raises(ValueError, match="vanishes at item 2"):
            law.error(ones)
        assert jnp.isinf(jax.jit(lambda law: law.error(ones))(law))
    for size in (4, -1):
        assert jnp.isnan(jax.jit(lambda size: fixed.replace(size=size).error(items))(size))


def test_errors_are_not_negative():
    """Parallel columns sampled by p* have no error; what rounding leaves of it in float32 may not be negative."""
    rng = np.random.default_rng(0)

    @jax.jit
    def found(x, w):
        best = sketch.optimal_probabilities(x, w)
        return laws.Multinomial(best, 1).error(sketch.linear_items(x, w)), sketch.near_optimal_bound(x, w, 1)

    for _ in range(5):
        x = np.outer(rng.normal(size=20), rng.uniform(1, 9, size=12)).astype(np.float32)
        w = rng.uniform(1, 9, size=12).astype(np.float32)
        assert all(0 <= error < 1e-5 * np.sum((x @ w) ** 2) for error in found(x, w))
    x, w = jnp.array([[1e4, -1e4 + 2e-3]], jnp.float32), jnp.ones(2, jnp.float32)
    fixed = jax.jit(jax.vmap(lambda size: laws.FixedSize(w / 2, size).error(sketch.linear_items(x, w))))
    assert (fixed(jnp.arange(3)) >= 0).all()


def test_errors_keep_the_dtype_of_single_precision():
    x, w = jnp.ones((2, 3), jnp.float32), jnp.ones(3, jnp.float32)
    items, third = sketch.linear_items(x, w), w / 3
    some = (
        laws.Multinomial(third, 2),
        laws.Multinomial(third, 2, binary=True),
        laws.Poisson(third),
        laws.FixedSize(third, 2),
        laws.Determinantal(jnp.diag(third)),
        laws.ErdosRenyi(0.5, ((3,),)),
        laws.ErdosRenyiCounts(2, ((3,),)),
    )
    found = jax.eval_shape(lambda: [law.error(items) for law in some])
    assert all(error.dtype == jnp.float32 for error in found)


# --- training


@jax.jit
def training_bounds(x, y, p, rates):
    budgets = jnp.array([1, 2, S])
    many = jax.vmap(lambda budget: laws.Multinomial(p, budget).training_bound(x, y))(budgets)
    return laws.Poisson(rates).training_bound(x, y), many


@pytest.mark.parametrize("kind", KINDS)
def test_training_bounds_hold_for_every_law(kind):
    x, _, p, rates, y = instance(kind)
    exact = expected_training_error(x, y, poisson_masks(rates))
    bound, many = training_bounds(x, y, p, rates)
    bound = float(bound)
    assert exact <= bound * (1 + 1e-12)
    if kind == "orthogonal":
        assert exact == pytest.approx(bound, rel=1e-11)
    norms = np.sum(x**2, 0)
    kept = norms > 0
    inverse = np.diag(1 / ((1 / rates - 1) * np.where(kept, norms, 1))[kept])
    naive = y @ np.linalg.solve(np.eye(N) + x[:, kept] @ inverse @ x[:, kept].T, y)
    assert bound == pytest.approx(naive, rel=1e-11)
    for budget, bound in zip((1, 2, S), many.tolist(), strict=True):
        assert expected_training_error(x, y, multinomial_masks(p, budget)) <= bound * (1 + 1e-12)
        h = (1 - 1 / budget) * x.T @ x + np.diag(norms / p / budget)
        b = (x.T @ y)[kept]
        assert bound == pytest.approx(y @ y - b @ np.linalg.solve(h[np.ix_(kept, kept)], b), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_training_bounds_at_rates_of_zero_and_one(kind):
    x, *_, y = instance(kind)
    residual = expected_training_error(x, y, [(1.0, np.ones(D))])
    single = np.array([0.0, 0.0, 1.0, 0.0])
    assert float(training_bounds(x, y, single, np.ones(D))[0]) == pytest.approx(residual, rel=1e-11)
    assert float(training_bounds(x, y, single, np.zeros(D))[0]) == pytest.approx(y @ y)
    mixed, near = np.array([1.0, 0.0, 1.0, 0.5]), np.array([1 - 1e-13, 1e-13, 1 - 1e-13, 0.5])
    bound, many = training_bounds(x, y, single, mixed)
    assert float(bound) == pytest.approx(float(training_bounds(x, y, single, near)[0]), rel=1e-9)
    assert expected_training_error(x, y, poisson_masks(mixed, binary=True)) <= float(bound) * (1 + 1e-12)
    np.testing.assert_allclose(many, expected_training_error(x, y, [(1.0, single)]), rtol=1e-6)


@jax.jit
def determinantal(x, y, tau):
    sizes = jnp.arange(D + 1)
    fixed = jax.vmap(functools.partial(laws.fixed_size_dpp_error, x, y))(sizes)
    law = laws.Determinantal.ridge(x, tau)
    return law.training_bound(x, y), laws.effective_dimension(x, tau), fixed, law.outcomes(), law.inclusion()


@pytest.mark.parametrize("kind", KINDS)
def test_determinantal_errors_are_the_enumerated_ones(kind):
    x, *_, y = instance(kind)
    subsets = [np.array(bits, float) for bits in itertools.product([0, 1], repeat=D)]
    volumes = [np.linalg.det(x[:, bits > 0].T @ x[:, bits > 0]) for bits in subsets]
    for tau in (0.3, 2.0):
        chances = np.array([volume / tau ** bits.sum() for volume, bits in zip(volumes, subsets, strict=True)])
        chances /= chances.sum()
        law = list(zip(chances, subsets, strict=True))
        error, size, fixed, (masks, found), inclusion = determinantal(x, y, tau)
        assert float(error) == pytest.approx(expected_training_error(x, y, law), rel=1e-9)
        assert float(size) == pytest.approx(sum(c * bits.sum() for c, bits in law))
        assert float(inclusion.sum()) == pytest.approx(float(size))
        by_mask = {tuple(bits > 0): chance for chance, bits in law}
        expected = [by_mask[tuple(mask)] for mask in masks.tolist()]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    rank = np.linalg.matrix_rank(x)
    for size in range(rank + 1):
        law = [(v, bits) for v, bits in zip(volumes, subsets, strict=True) if bits.sum() == size]
        total = sum(v for v, _ in law)
        expected = expected_training_error(x, y, [(v / total, bits) for v, bits in law])
        assert float(fixed[size]) == pytest.approx(expected, rel=1e-9)
    assert jnp.isnan(fixed[rank + 1 :]).all()


def test_fixed_size_determinantal_errors_do_not_overflow():
    x = 1e8 * jax.random.normal(jax.random.key(0), (80, 64), jnp.float32)
    y = jax.random.normal(jax.random.key(1), (80,), jnp.float32)
    found = jax.jit(jax.vmap(functools.partial(laws.fixed_size_dpp_error, x, y)))(jnp.arange(65))
    assert found.dtype == jnp.float32 and (jnp.diff(found) < 0).all()
    assert float(found[0]) == pytest.approx(float(y @ y), rel=1e-5)
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    assert float(found[64]) == pytest.approx(float(residual @ residual), rel=1e-3)


def test_training_errors_of_nan_are_nan():
    x, y = jnp.eye(N, D).at[0, 1].set(jnp.nan), jnp.ones(N)
    bound, many = training_bounds(x, y, jnp.ones(D) / D, jnp.ones(D) / 2)
    error, size, fixed, *_ = determinantal(x, y, 1.0)
    assert jnp.isnan(jnp.stack([bound, *many, error, size, *fixed])).all()


def test_determinantal_errors_of_no_size_are_nan_under_a_trace():
    y = jnp.array([2.0, 0.0])
    error = jax.jit(lambda x, size: laws.fixed_size_dpp_error(x, y, size))
    for x, rank in [(jnp.eye(2), 2), (jnp.diag(jnp.array([3.0, 0.0])), 1)]:
        for size in (-1, *range(rank + 1, 6)):
            assert jnp.isnan(error(x, size))
        assert jnp.isfinite(jnp.stack([error(x, size) for size in range(rank + 1)])).all()
    exact = laws.fixed_size_dpp_error(jnp.eye(2), y, 1)
    assert float(error(jnp.eye(2), 1)) == pytest.approx(float(exact), abs=1e-14)


def test_instances_at_once_agree_with_the_loop():
    """Two instances, one padded by a zero column."""
    instances = [instance("plain", 1), instance("zero column", 2)]
    x, w, p, rates, y = (np.stack(values) for values in zip(*instances, strict=True))
    for function, arguments in ((errors, (x, w, p, rates)), (training_bounds, (x, y, p, rates))):
        together = jax.jit(jax.vmap(function))(*arguments)
        loop = [function(*(argument[i] for argument in arguments)) for i in range(2)]
        jax.tree.map(lambda all_, *one: np.testing.assert_allclose(all_, jnp.stack(one), rtol=1e-10), together, *loop)
