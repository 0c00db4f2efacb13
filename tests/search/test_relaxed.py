"""The relaxed mask: the bound is the law's, it never rises, and what it ends at is as good as forward selection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, laws, linalg, search
from sketchprune.search import subsets
from tests.support.subset_models import KINDS, model

STEPS = (0, 1, 2, 5, 10, 50, 200, 1000)


def problem(kind, seed=0):
    """Columns of every kind and a target that they do not span."""
    x, w = model(kind, seed=seed)
    return x, x @ w + np.random.default_rng(seed + 1).normal(size=len(x))


def ridge(x, y, rates):
    """yᵀ(I + XD⁻¹Xᵀ)⁻¹y with D = diag((1/π − 1)‖x_i‖²), for rates below 1; D⁻¹ is 0 where a column is zero."""
    norms = jnp.sum(x**2, axis=0)
    inverse = rates / ((1 - rates) * jnp.where(norms > 0, norms, jnp.inf))
    return y @ jnp.linalg.solve(jnp.eye(len(y)) + (x * inverse) @ x.T, y)


def least_squares(x, y, kept):
    return np.sum((y - x[:, kept] @ np.linalg.lstsq(x[:, kept], y)[0]) ** 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_that_of_the_law_and_never_rises(kind):
    x, y = problem(kind)
    size = y @ y
    for keep in (1, 3, 4):
        found = [subsets.relaxed(x, y, keep, steps=steps) for steps in STEPS]
        below_one = [some for some in found if (some.rates < 1 - 1e-4).all()]  # where the formula is well conditioned
        assert len(below_one) >= 1
        for some in below_one:
            assert float(some.bound) == pytest.approx(float(ridge(x, y, some.rates)), rel=1e-6)
        bounds = [float(some.bound) for some in found]
        assert all(later <= earlier + 1e-12 * size for earlier, later in zip(bounds, bounds[1:], strict=False))
        assert bounds[-1] < bounds[0]
        present = (x != 0).any(axis=0)
        uniform = laws.Poisson(jnp.asarray(present * keep / present.sum())).training_bound(x, y)
        assert bounds[0] == pytest.approx(float(uniform), rel=1e-9)
        for some in found:
            assert float(some.rates.sum()) <= keep + 1e-9 and ((some.rates >= 0) & (some.rates <= 1)).all()
            assert int(some.mask.sum()) == keep
            assert float(some.error) == pytest.approx(least_squares(x, y, np.asarray(some.mask)), abs=1e-9 * size)


def test_a_step_is_the_best_weights_and_then_the_best_rates():
    x, y = problem("gaussian")
    rates = np.full(8, 3 / 8)
    for steps in (1, 2, 3):
        penalty = np.diag((1 / rates - 1) * np.sum(x**2, axis=0))
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        rates = np.asarray(laws.poisson_rates(np.linalg.norm(x, axis=0) * abs(weights), 3))
        np.testing.assert_allclose(subsets.relaxed(x, y, 3, steps=steps).rates, rates, rtol=1e-9)
        assert rates.max() < 1


@pytest.mark.parametrize("kind", ["gaussian", "same sign", "wide"])
def test_it_ends_where_no_exchange_of_rates_lowers_the_bound(kind):
    x, y = problem(kind, seed=3)
    found = subsets.relaxed(x, y, 3, steps=20_000)
    bound = jax.jit(jax.vmap(lambda rates: laws.Poisson(rates).training_bound(x, y)))
    for part in (1e-2, 1e-4):
        moves = part * (jnp.eye(8)[:, None] - jnp.eye(8)).reshape(64, 8)
        moved = found.rates + moves
        possible = ((moved >= 0) & (moved <= 1)).all(axis=1)
        assert possible.sum() >= 15
        assert (bound(moved[possible]) >= float(found.bound) - 1e-3 * part * (y @ y)).all()


def test_orthogonal_columns_are_chosen_by_what_they_explain():
    rng = np.random.default_rng(0)
    unit = np.linalg.qr(rng.normal(size=(12, 8)))[0]
    x, y = unit * rng.lognormal(size=8), rng.normal(size=12)
    found = subsets.relaxed(x, y, 3)
    explained = (unit.T @ y) ** 2
    assert set(np.flatnonzero(found.mask)) == set(np.argsort(-explained)[:3])
    least = y @ y - np.sort(explained)[-3:].sum()
    np.testing.assert_allclose([found.error, found.bound], least, rtol=1e-9)
    np.testing.assert_allclose(found.rates, np.asarray(found.mask, float), atol=1e-9)


def forward(x, y, keep):
    """The error of the columns that forward selection adds, one after another."""
    chosen = []
    for _ in range(keep):
        errors = [least_squares(x, y, [*chosen, item]) for item in range(x.shape[1])]
        chosen.append(int(np.argmin(errors)))
    return least_squares(x, y, chosen)


@pytest.mark.parametrize("keep", [6, 12])
def test_on_the_digits_it_is_as_good_as_forward_selection(keep):
    """And far better than what uniform, multinomial and determinantal masks guarantee."""
    digits = data.load()
    x, y = linalg.compress(data.standardise(digits.x), 2.0 * (digits.y == 0) - 1)
    x, y, mean = np.asarray(x), np.asarray(y), 1 - 2 * np.mean(digits.y == 0)
    found = subsets.relaxed(x, y, keep)
    size = y @ y - len(digits.y) * mean**2  # what centred columns can explain at most
    explained = (y @ y - float(found.error)) / size
    assert explained >= (y @ y - forward(x, y, keep)) / size - 0.01
    rates = np.asarray(found.rates)
    assert np.minimum(rates, 1 - rates).max() < 1e-3 and float(found.bound) == pytest.approx(
        float(found.error), rel=1e-4
    )
    uniform = jnp.full(64, keep / 64)
    for law in laws.Poisson(uniform), laws.Multinomial(jnp.full(64, 1 / 64), keep):
        assert (y @ y - float(law.training_bound(x, y))) / size < explained - 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_no_mask_and_all_weights(kind):
    x, y = problem(kind)
    none, every = (subsets.relaxed(x, y, keep) for keep in (0, 8))
    np.testing.assert_allclose([none.bound, none.error], y @ y)
    assert not none.mask.any() and every.mask.all()
    np.testing.assert_allclose([every.bound, every.error], least_squares(x, y, np.ones(8, bool)), atol=1e-9)
    nothing = subsets.relaxed(x, 0 * y, 3)
    assert int(nothing.mask.sum()) == 3 and nothing.bound == nothing.error == 0
    zero = subsets.relaxed(0 * x, y, 3)
    np.testing.assert_allclose([zero.bound, zero.error], y @ y)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_jit_and_vmap_change_nothing(dtype):
    several = [problem("gaussian", seed=seed) for seed in range(3)]
    x, y = (jnp.asarray(np.stack(part), dtype) for part in zip(*several, strict=True))
    together = jax.jit(jax.vmap(lambda x, y: subsets.relaxed(x, y, 3)))(x, y)
    for i in range(3):
        for one, other in zip(subsets.relaxed(x[i], y[i], 3), together, strict=True):
            assert one.dtype == (bool if one.dtype == bool else dtype)
            np.testing.assert_allclose(one, other[i], rtol=1e-4 if dtype == jnp.float32 else 1e-9, atol=1e-6)


def test_the_error_is_that_of_the_search_objective():
    x, y = problem("gaussian")
    found = subsets.relaxed(x, y, 4)
    np.testing.assert_allclose(search.training_error(x, y)(found.mask), found.error, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: subsets.relaxed(x, y, 9), "keep is 9; it takes at most 8, the number of columns"),
        (lambda x, y: subsets.relaxed(x, y, -1), "keep is -1"),
        (lambda x, y: subsets.relaxed(x, y, 2, steps=-1), "steps is -1"),
        (lambda x, y: subsets.relaxed(x[:, :0], y, 0), "x has 0 columns; it takes at least 1"),
        (lambda x, y: subsets.relaxed(x * np.nan, y, 2), "x has the entry nan; it takes finite numbers"),
        (lambda x, y: subsets.relaxed(x, y * np.inf, 2), "y has the entry"),
        (lambda x, y: subsets.relaxed(x, y[:-1], 2), "y has shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*problem("gaussian"))
