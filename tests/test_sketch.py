"""Sketch formulas against the enumeration of every mask a law can draw."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import masks, sketch

few = settings(deadline=None, derandomize=True, max_examples=25)
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


def multinomial_masks(p, budget, binary=False):
    """Every sequence of draws: its chance and its mask."""
    for draws in itertools.product(range(len(p)), repeat=budget):
        counts = np.bincount(draws, minlength=len(p))
        mask = (counts > 0).astype(float) if binary else counts / (budget * np.asarray(p))
        yield math.prod(p[i] for i in draws), mask


def poisson_masks(rates, binary=False):
    for bits in itertools.product([0, 1], repeat=len(rates)):
        bits = np.array(bits)
        chance = np.prod(np.where(bits == 1, rates, 1 - rates))
        yield chance, bits if binary else np.divide(bits, rates, where=rates > 0, out=np.zeros(len(rates)))


def successive_masks(weights, size):
    for order in itertools.permutations(range(len(weights)), size):
        chance, left = 1.0, weights.sum()
        for i in order:
            chance, left = chance * weights[i] / left, left - weights[i]
        yield chance, np.isin(np.arange(len(weights)), order).astype(float)


def expected_error(x, w, law):
    return sum(chance * np.sum((x @ (mask * w) - x @ w) ** 2) for chance, mask in law)


def expected_training_error(x, y, law):
    """Train the kept columns to the end, by the pseudo-inverse."""
    total = 0
    for chance, mask in law:
        kept = x[:, mask > 0]
        total += chance * np.sum((y - kept @ np.linalg.pinv(kept) @ y) ** 2)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_the_enumerated_expectations(kind):
    x, w, p, rates, _ = instance(kind)
    a = jax.tree.map(jnp.asarray, (x, w, p, rates))
    cases = [
        (sketch.second_moment(a[0], a[1], a[2], S), multinomial_masks(p, S)),
        (sketch.binary_multinomial_moment(a[0], a[1], a[2], S), multinomial_masks(p, S, binary=True)),
        (sketch.poisson_moment(a[0], a[1], a[3]), poisson_masks(rates)),
        (sketch.binary_moment(a[0], a[1], a[3]), poisson_masks(rates, binary=True)),
        *((sketch.fixed_size_moment(a[0], a[1], a[2], s), successive_masks(p, s)) for s in range(D + 1)),
    ]
    for formula, law in cases:
        assert float(formula) == pytest.approx(expected_error(x, w, law), rel=1e-11, abs=1e-12)


def test_moments_where_the_law_vanishes():
    """Idle items may have no chance, rates of one cost nothing, binary laws may drop any item."""
    x, w, *_ = instance("zero weight")
    p, rates = np.array([0.5, 0.3, 0.0, 0.2]), np.array([1.0, 0.3, 0.0, 0.2])
    a = jax.tree.map(jnp.asarray, (x, w, p, rates))
    expected = [
        expected_error(x, w, poisson_masks(rates)),
        expected_error(x, np.array([1.0, 1, 1, 1]), poisson_masks(rates, binary=True)),
        expected_error(x, np.ones(D), successive_masks(np.array([0.5, 0.3, 0.0, 0.2]), 2)),
    ]
    assert float(sketch.poisson_moment(a[0], a[1], a[3])) == pytest.approx(expected[0])
    assert float(sketch.binary_moment(a[0], jnp.ones(D), a[3])) == pytest.approx(expected[1])
    assert float(sketch.fixed_size_moment(a[0], jnp.ones(D), a[2], 2)) == pytest.approx(expected[2])
    assert jnp.isfinite(sketch.second_moment(a[0], a[1], a[2], S))
    for moment, law in [(sketch.second_moment, a[2]), (sketch.poisson_moment, a[3])]:
        options = (S,) if moment is sketch.second_moment else ()
        with pytest.raises(ValueError, match="vanishes at item 2"):
            moment(a[0], jnp.ones(D), law, *options)
        assert jnp.isinf(jax.jit(moment)(a[0], jnp.ones(D), law, *options))
    for size in (4, -1):
        assert jnp.isnan(jax.jit(sketch.fixed_size_moment)(a[0], a[1], a[2], size))


def test_optimum_and_excess():
    x, w, p, _, _ = map(jnp.asarray, instance("zero column"))
    best = sketch.optimal_probabilities(x, w)
    least = sketch.second_moment(x, w, best, S)
    total = sketch.magnitudes(x, w).sum()
    assert float(best.sum()) == pytest.approx(1) and best[1] == 0
    assert float(least) == pytest.approx(float(total**2 - jnp.sum((x @ w) ** 2)) / S)
    assert float(sketch.near_optimal_bound(x, w, S)) == pytest.approx(float(least))
    moments = jax.vmap(lambda law: sketch.second_moment(x, w, law, S))
    laws = jax.random.dirichlet(jax.random.key(0), jnp.ones(D), (200,))
    assert (moments(laws) >= least).all()
    np.testing.assert_allclose(
        moments(laws) - least, jax.vmap(lambda law: sketch.excess(x, w, law, S))(laws), rtol=1e-8
    )
    beta = sketch.near_optimality(best, p)
    assert 0 < beta < 1 and (p >= beta * best * (1 - 1e-15)).all()
    bounds = [sketch.near_optimal_bound(x, w, S, beta=beta), sketch.frobenius_bound(x, w, S, beta=beta)]
    assert sketch.second_moment(x, w, p, S) <= bounds[0] <= bounds[1]
    assert sketch.near_optimality(best, best) == 1
    assert sketch.near_optimality(best.astype(jnp.float32), p.astype(jnp.float32)).dtype == jnp.float32
    assert sketch.near_optimality(best, jnp.array([1.0, 0, 0, 0])) == 0
    # equality of the Frobenius bound at norms in proportion to weights, up to ‖Xw‖² = 0
    even = jnp.eye(3) - jnp.ones((3, 3)) / 3
    moment = sketch.second_moment(even, jnp.ones(3), jnp.ones(3) / 3, S)
    assert float(moment) == pytest.approx(float(sketch.frobenius_bound(even, jnp.ones(3), S)))


def test_expected_errors_are_not_negative():
    """Parallel columns sampled by p* have no error; what rounding leaves of it in float32 may not be negative."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = jnp.asarray(np.outer(rng.normal(size=20), rng.uniform(1, 9, size=12)), jnp.float32)
        w = jnp.asarray(rng.uniform(1, 9, size=12), jnp.float32)
        best = sketch.optimal_probabilities(x, w)
        moments = sketch.second_moment(x, w, best, 1), sketch.near_optimal_bound(x, w, 1)
        assert all(0 <= moment < 1e-5 * jnp.sum((x @ w) ** 2) for moment in moments)
    x, w = jnp.array([[1e4, -1e4 + 2e-3]], jnp.float32), jnp.ones(2, jnp.float32)
    for size in (0, 1, 2):
        assert sketch.fixed_size_moment(x, w, best[:2], size) >= 0


def test_derivatives_are_finite_where_items_are_empty():
    x, w, p, rates, _ = map(jnp.asarray, instance("zero column"))
    w, p = w.at[2].set(0), p.at[1].set(0)
    value = [
        lambda x, w, p: sketch.second_moment(x, w, p / p.sum(), S) + sketch.excess(x, w, p / p.sum(), S),
        lambda x, w, p: sketch.poisson_moment(x, w, rates),
    ]
    for function in value:
        assert all(jnp.isfinite(part).all() for part in jax.grad(function, (0, 1, 2))(x, w, p))


@few
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6).filter(sum))
def test_chi_square_and_efficiency(sizes):
    q = sketch.data_free_probabilities(jnp.asarray(sizes))
    uniform = sketch.uniform_probabilities(q)
    direct = float((np.asarray(q) ** 2 * 6).sum() - 1)
    assert float(sketch.chi_square(q, uniform)) == pytest.approx(direct, rel=1e-9, abs=1e-12)
    assert float(sketch.efficiency(q, uniform)) == pytest.approx(1 / (1 + direct))
    assert float(sketch.efficiency(uniform, q)) == 0 or (q > 0).all()
    tree = {"a": q[:4].reshape(2, 2), "b": q[4:]}
    halves = sketch.uniform_probabilities(tree)
    assert float(sketch.chi_square(tree, halves)) == pytest.approx(direct, rel=1e-9, abs=1e-12)
    assert float(sketch.near_optimality(tree, halves)) == pytest.approx(min(1, 1 / 6 / float(q.max())))
    np.testing.assert_allclose(
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(sketch.data_free_probabilities(tree))]), q
    )
    assert sketch.chi_square(q, q) == 0


def test_tails_are_their_formulas_and_hold():
    x, w, *_ = map(jnp.asarray, instance("plain"))
    budget, delta, beta = 7, 0.05, 0.3
    norms = math.sqrt(float(jnp.sum(x**2) * jnp.sum(w**2)))
    eta = 1 + math.sqrt(8 / beta * math.log(1 / delta))
    assert float(sketch.dkm_tail(x, w, budget, delta, beta=beta)) == pytest.approx(
        eta / math.sqrt(beta * budget) * norms
    )
    best = sketch.optimal_probabilities(x, w)
    total = float(sketch.magnitudes(x, w).sum())
    sharp = math.sqrt(sketch.second_moment(x, w, best, budget)) + total * math.sqrt(2 * math.log(1 / delta) / budget)
    assert float(sketch.mcdiarmid_tail(x, w, budget, delta)) == pytest.approx(sharp)
    assert sharp <= sketch.dkm_tail(x, w, budget, delta)
    drawn = jax.vmap(lambda key: masks.multinomial(key, best, budget))(jax.random.split(jax.random.key(0), 4_000))
    errors = jnp.linalg.norm((drawn - 1) * w @ x.T, axis=1)
    assert (errors > sharp).mean() < delta


# Training errors


@pytest.mark.parametrize("kind", KINDS)
def test_ridge_bounds_hold_for_every_law(kind):
    x, _, p, rates, y = instance(kind)
    a = jax.tree.map(jnp.asarray, (x, y, p, rates))
    exact = expected_training_error(x, y, poisson_masks(rates))
    bound = float(sketch.ridge_bound(a[0], a[1], a[3]))
    assert exact <= bound * (1 + 1e-12)
    if kind == "orthogonal":
        assert exact == pytest.approx(bound, rel=1e-11)
    norms = np.sum(x**2, 0)
    kept = norms > 0
    inverse = np.diag(1 / ((1 / rates - 1) * np.where(kept, norms, 1))[kept])
    naive = y @ np.linalg.solve(np.eye(N) + x[:, kept] @ inverse @ x[:, kept].T, y)
    assert bound == pytest.approx(naive, rel=1e-11)
    for budget in (1, 2, S):
        bound = float(sketch.ridge_bound_multinomial(a[0], a[1], a[2], budget))
        assert expected_training_error(x, y, multinomial_masks(p, budget)) <= bound * (1 + 1e-12)
        h = (1 - 1 / budget) * x.T @ x + np.diag(norms / p / budget)
        b = (x.T @ y)[kept]
        assert bound == pytest.approx(y @ y - b @ np.linalg.solve(h[np.ix_(kept, kept)], b), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_ridge_bound_at_rates_of_zero_and_one(kind):
    x, *_, y = instance(kind)
    ones, none = jnp.ones(D), jnp.zeros(D)
    x_, y_ = jnp.asarray(x), jnp.asarray(y)
    residual = expected_training_error(x, y, [(1.0, np.ones(D))])
    assert float(sketch.ridge_bound(x_, y_, ones)) == pytest.approx(residual, rel=1e-11)
    assert float(sketch.ridge_bound(x_, y_, none)) == pytest.approx(y @ y)
    mixed = jnp.array([1.0, 0.0, 1.0, 0.5])
    near = jnp.array([1 - 1e-13, 1e-13, 1 - 1e-13, 0.5])
    bound = float(sketch.ridge_bound(x_, y_, mixed))
    assert bound == pytest.approx(float(sketch.ridge_bound(x_, y_, near)), rel=1e-9)
    assert expected_training_error(x, y, poisson_masks(np.asarray(mixed), binary=True)) <= bound * (1 + 1e-12)
    single = jnp.array([0.0, 0.0, 1.0, 0.0])
    assert float(sketch.ridge_bound_multinomial(x_, y_, single, 4)) == pytest.approx(
        expected_training_error(x, y, [(1.0, np.asarray(single))])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_determinantal_errors_are_the_enumerated_ones(kind):
    x, *_, y = instance(kind)
    x_, y_ = jnp.asarray(x), jnp.asarray(y)
    subsets = [np.array(bits, float) for bits in itertools.product([0, 1], repeat=D)]
    volumes = [np.linalg.det(x[:, bits > 0].T @ x[:, bits > 0]) for bits in subsets]
    for tau in (0.3, 2.0):
        chances = np.array([volume / tau ** bits.sum() for volume, bits in zip(volumes, subsets, strict=True)])
        chances /= chances.sum()
        law = list(zip(chances, subsets, strict=True))
        assert float(sketch.dpp_error(x_, y_, tau)) == pytest.approx(expected_training_error(x, y, law), rel=1e-9)
        assert float(sketch.dpp_size(x_, tau)) == pytest.approx(sum(c * bits.sum() for c, bits in law))
    for size in range(np.linalg.matrix_rank(x) + 1):
        law = [(v, bits) for v, bits in zip(volumes, subsets, strict=True) if bits.sum() == size]
        total = sum(v for v, _ in law)
        expected = expected_training_error(x, y, [(v / total, bits) for v, bits in law])
        assert float(sketch.fixed_size_dpp_error(x_, y_, size)) == pytest.approx(expected, rel=1e-9)


def test_determinantal_errors_do_not_overflow():
    x = 1e8 * jax.random.normal(jax.random.key(0), (80, 64), jnp.float32)
    y = jax.random.normal(jax.random.key(1), (80,), jnp.float32)
    errors = jax.vmap(functools.partial(sketch.fixed_size_dpp_error, x, y))(jnp.arange(65))
    assert errors.dtype == jnp.float32 and (jnp.diff(errors) < 0).all()
    assert float(errors[0]) == pytest.approx(float(y @ y), rel=1e-5)
    residual = y - x @ jnp.linalg.lstsq(x, y)[0]
    assert float(errors[64]) == pytest.approx(float(residual @ residual), rel=1e-3)


def test_training_errors_of_nan_are_nan():
    x, y, half = jnp.eye(3).at[0, 1].set(jnp.nan), jnp.ones(3), jnp.ones(3) / 2
    errors = sketch.ridge_bound(x, y, half), sketch.dpp_error(x, y, 1.0), sketch.dpp_size(x, 1.0)
    assert jnp.isnan(jnp.stack(errors)).all()
    assert jnp.isnan(jax.jit(sketch.fixed_size_dpp_error)(x, y, 1))


def test_determinantal_errors_of_no_size_are_nan_under_a_trace():
    error = jax.jit(lambda x, size: sketch.fixed_size_dpp_error(x, jnp.array([2.0, 0.0]), size))
    for x, rank in [(jnp.eye(2), 2), (jnp.diag(jnp.array([3.0, 0.0])), 1)]:
        for size in (-1, *range(rank + 1, 6)):
            assert jnp.isnan(error(x, size))
        for size in range(rank + 1):
            exact = sketch.fixed_size_dpp_error(x, jnp.array([2.0, 0.0]), size)
            assert float(error(x, size)) == pytest.approx(float(exact), abs=1e-14)


def test_jit_and_vmap_agree_with_the_loop():
    """Two instances, one padded by a zero column: every function on arrays at once."""
    instances = [instance("plain", 1), instance("zero column", 2)]
    x, w, p, rates, y = map(jnp.stack, zip(*instances, strict=True))
    calls = [
        (sketch.optimal_probabilities, (x, w)),
        (lambda x, w, p: sketch.second_moment(x, w, p, S), (x, w, p)),
        (lambda x, w, p: sketch.binary_multinomial_moment(x, w, p, S), (x, w, p)),
        (lambda x, w, p: sketch.fixed_size_moment(x, w, p, 2), (x, w, p)),
        (sketch.poisson_moment, (x, w, rates)),
        (sketch.binary_moment, (x, w, rates)),
        (lambda x, w, p: sketch.excess(x, w, p, S), (x, w, p)),
        (lambda x, w: sketch.dkm_tail(x, w, S, 0.1), (x, w)),
        (lambda x, w: sketch.mcdiarmid_tail(x, w, S, 0.1), (x, w)),
        (sketch.ridge_bound, (x, y, rates)),
        (lambda x, y, p: sketch.ridge_bound_multinomial(x, y, p, S), (x, y, p)),
        (lambda x, y: sketch.dpp_error(x, y, 0.5), (x, y)),
        (lambda x, y: sketch.fixed_size_dpp_error(x, y, 2), (x, y)),
    ]
    together = jax.jit(lambda: [jax.vmap(call)(*arguments) for call, arguments in calls])()
    for (call, arguments), values in zip(calls, together, strict=True):
        loop = jnp.stack([call(*(argument[i] for argument in arguments)) for i in range(2)])
        np.testing.assert_allclose(values, loop, rtol=1e-10)


x, w, p = jnp.eye(2), jnp.ones(2), jnp.ones(2) / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sketch.second_moment(x, w, jnp.array([0.5, 0.6]), 2), "probabilities sums to 1.1"),
        (lambda: sketch.second_moment(x, w, jnp.array([1.5, -0.5]), 2), "probabilities has the entry -0.5"),
        (lambda: sketch.second_moment(x, w, jnp.array([1.0, 0.0]), 2), "probabilities vanishes at item 1"),
        (lambda: sketch.second_moment(x, w, p, 0), "budget is 0; it takes a finite number > 0"),
        (lambda: sketch.excess(x, w, jnp.array([1.0, 0.0]), 2), "probabilities vanishes at item 1"),
        (lambda: sketch.poisson_moment(x, w, jnp.array([0.0, 1.0])), "rates vanishes at item 0"),
        (lambda: sketch.binary_moment(x, w, jnp.array([0.5, 1.5])), "rates has the entry 1.5"),
        (lambda: sketch.optimal_probabilities(x, 0 * w), "x and w have Z = 0"),
        (lambda: sketch.optimal_probabilities(x * jnp.nan, w), r"‖x_i‖\|w_i\| has the entry nan; it takes finite"),
        (lambda: sketch.optimal_probabilities(x, w / 0), r"‖x_i‖\|w_i\| has the entry inf"),
        (lambda: sketch.data_free_probabilities(0 * w), "w is zero everywhere"),
        (lambda: sketch.data_free_probabilities(w * jnp.nan), "w has the entry nan"),
        (lambda: sketch.near_optimal_bound(x, w, 2, beta=1.5), r"beta is 1.5; it takes a number in \(0, 1\]"),
        (lambda: sketch.frobenius_bound(x, w, -1), "budget is -1"),
        (lambda: sketch.dkm_tail(x, w, 2, 1.0), r"delta is 1.0; it takes a number in \(0, 1\)"),
        (lambda: sketch.mcdiarmid_tail(x, w, 2, 0.0), "delta is 0.0"),
        (lambda: sketch.chi_square(p, 2 * p), "probabilities sums to 2"),
        (lambda: sketch.ridge_bound(x, w, 2 * w), "rates has the entry 2"),
        (lambda: sketch.ridge_bound_multinomial(x, w, w, 2), "probabilities sums to 2"),
        (lambda: sketch.dpp_error(x, w, 0.0), "tau is 0.0"),
        (lambda: sketch.dpp_size(x, float("nan")), "tau is nan"),
        (lambda: sketch.fixed_size_dpp_error(x, w, 3), "size is 3; it takes at most 2, the rank of x"),
        (lambda: sketch.fixed_size_moment(x, w, p, 3), "size is 3; it takes at most 2"),
        (
            lambda: sketch.fixed_size_moment(jnp.ones((1, 17)), jnp.ones(17), jnp.ones(17), 3),
            "w has 17 items",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
