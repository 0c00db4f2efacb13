"""Items, probabilities and bounds of sketches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import laws, sketch

few = settings(deadline=None, derandomize=True, max_examples=25)
N, D, S = 5, 4, 3


def instance(kind, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(N, D)) * rng.lognormal(size=D), rng.normal(size=D)
    if kind == "zero column":
        x[:, 1] = 0
    return x, w, rng.dirichlet(np.ones(D))


@jax.jit
def multinomial_error(x, w, p):
    return laws.Multinomial(p, S).error(sketch.linear_items(x, w))


def test_items_are_their_vectors():
    """Squares, combinations and Gram matrix of vectors that are formed, for both kinds of items."""
    x, w, c = instance("zero column")
    linear = x * w
    tangent = (x[:, None] * x[None]).reshape(N * N, D)

    @jax.jit
    def found(x, w, c):
        both = sketch.linear_items(x, w), sketch.tangent_items(x)
        return [(items.squares, items.combination(c), items.gram()) for items in both]

    for (squares, combination, gram), vectors in zip(found(x, w, c), (linear, tangent), strict=True):
        np.testing.assert_allclose(squares, np.sum(vectors**2, 0), rtol=1e-12)
        np.testing.assert_allclose(combination, np.sum((vectors @ c) ** 2), rtol=1e-12)
        np.testing.assert_allclose(gram, vectors.T @ vectors, rtol=1e-12)


def test_items_of_groups_are_the_sums_of_their_members():
    """Formed, for groups of a vector and of the leaves of a pytree, one of which has no groups."""
    x, w, _ = instance("gaussian")
    p, vectors = jnp.array([0.3, 0.7]), (x * w).reshape(N, 2, 2).sum(2)

    @jax.jit
    def found(x, w):
        items = sketch.group_items(sketch.linear_items(x, w), (2,))
        errors = [law.error(items) for law in (laws.Multinomial(p, S), laws.Multinomial(p, S, binary=True))]
        return items.squares, items.combination(p), items.gram(), errors

    squares, combination, gram, errors = found(x, w)
    np.testing.assert_allclose(squares, np.sum(vectors**2, 0), rtol=1e-12)
    np.testing.assert_allclose(combination, np.sum((vectors @ p) ** 2), rtol=1e-12)
    np.testing.assert_allclose(gram, vectors.T @ vectors, rtol=1e-12)
    expected = [laws.Multinomial(p, S, binary=b).error(sketch.linear_items(vectors, np.ones(2))) for b in (False, True)]
    np.testing.assert_allclose(errors, expected, rtol=1e-12)

    def joint(tree):
        return jnp.concatenate([jnp.ravel(leaf) for leaf in (tree["bias"], tree["kernel"])])

    vectors = np.random.default_rng(1).normal(size=(N, 8))
    of_weights = laws.Items(
        {"bias": jnp.sum(vectors[:, :2] ** 2, 0), "kernel": jnp.sum(vectors[:, 2:] ** 2, 0).reshape(3, 2)},
        lambda c: jnp.sum((vectors @ joint(c)) ** 2),
        lambda: jnp.asarray(vectors.T @ vectors),
    )
    of_groups = sketch.group_items(of_weights, "columns")
    sums = np.column_stack([vectors[:, :2], vectors[:, 2::2].sum(1), vectors[:, 3::2].sum(1)])
    assert of_groups.squares["kernel"].shape == (1, 2)
    np.testing.assert_allclose(joint(of_groups.squares), np.sum(sums**2, 0), rtol=1e-12)
    np.testing.assert_allclose(of_groups.gram(), sums.T @ sums, rtol=1e-12)


def test_optimum_and_excess():
    x, w, p = map(jnp.asarray, instance("zero column"))

    @jax.jit
    def found(x, w, p):
        best = sketch.optimal_probabilities(x, w)
        dense, total = jnp.sum((x @ w) ** 2), sketch.magnitudes(x, w).sum()
        others = jax.random.dirichlet(jax.random.key(0), jnp.ones(D), (200,))
        errors = jax.vmap(lambda p: laws.Multinomial(p, S).error(sketch.linear_items(x, w)))(others)
        beta = sketch.near_optimality(best, p)
        bounds = sketch.near_optimal_bound(x, w, S, beta=beta), sketch.frobenius_bound(x, w, S, beta=beta)
        return (
            best, (total**2 - dense) / S, sketch.near_optimal_bound(x, w, S), errors,
            jax.vmap(lambda p: sketch.excess(x, w, p, S))(others), beta, bounds,
        )  # fmt: skip

    best, expected, bound, errors, excess, beta, bounds = found(x, w, p)
    least = multinomial_error(x, w, best)
    assert float(best.sum()) == pytest.approx(1) and best[1] == 0
    assert float(least) == pytest.approx(float(expected))
    assert float(bound) == pytest.approx(float(least))
    assert (errors >= least).all()
    np.testing.assert_allclose(errors - least, excess, rtol=1e-8)
    assert 0 < beta < 1 and (p >= beta * best * (1 - 1e-15)).all()
    assert multinomial_error(x, w, p) <= bounds[0] <= bounds[1]
    assert sketch.near_optimality(best, best) == 1
    assert sketch.near_optimality(best.astype(jnp.float32), p.astype(jnp.float32)).dtype == jnp.float32
    assert sketch.near_optimality(best, jnp.array([1.0, 0, 0, 0])) == 0


def test_the_frobenius_bound_is_attained():
    """At norms in proportion to weights, up to ‖Xw‖² = 0."""
    even, ones = np.eye(3) - np.ones((3, 3)) / 3, np.ones(3)
    assert float(multinomial_error(even, ones, ones / 3)) == pytest.approx(float(sketch.frobenius_bound(even, ones, S)))


def test_derivatives_are_finite_where_items_are_empty():
    x, w, p = instance("zero column")
    w[2], p[1], rates = 0, 0, np.full(D, 0.4)

    @jax.jit
    def slopes(x, w, p):
        def value(x, w, p):
            items, p = sketch.linear_items(x, w), p / p.sum()
            sampled = laws.Multinomial(p, S).error(items) + laws.Poisson(jnp.asarray(rates)).error(items)
            return sampled + sketch.excess(x, w, p, S)

        return jax.grad(value, (0, 1, 2))(x, w, p)

    assert all(jnp.isfinite(part).all() for part in slopes(x, w, p))


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
    x, w, _ = instance("plain")
    budget, delta, beta = 7, 0.05, 0.3
    norms = math.sqrt(np.sum(x**2) * np.sum(w**2))
    eta = 1 + math.sqrt(8 / beta * math.log(1 / delta))
    expected = eta / math.sqrt(beta * budget) * norms
    assert float(sketch.dkm_tail(x, w, budget, delta, beta=beta)) == pytest.approx(expected)
    best = sketch.optimal_probabilities(x, w)
    law, total = laws.Multinomial(best, budget), float(sketch.magnitudes(x, w).sum())
    mean = math.sqrt(law.error(sketch.linear_items(x, w)))
    sharp = mean + total * math.sqrt(2 * math.log(1 / delta) / budget)
    assert float(sketch.mcdiarmid_tail(x, w, budget, delta)) == pytest.approx(sharp)
    assert sketch.mcdiarmid_tail(x, w, budget, np.array([delta, 0.5])).shape == (2,)
    assert sharp <= sketch.dkm_tail(x, w, budget, delta)
    drawn = np.asarray(jax.vmap(law.sample)(jax.random.split(jax.random.key(0), 4_000)))
    errors = np.linalg.norm((drawn - 1) * w @ x.T, axis=1)
    assert (errors > sharp).mean() < delta


def test_instances_at_once_agree_with_the_loop():
    """Two instances, one padded by a zero column: every function on arrays at once."""
    x, w, p = (np.stack(part) for part in zip(instance("plain", 1), instance("zero column", 2), strict=True))

    @jax.jit
    def every(x, w, p):
        return [
            sketch.optimal_probabilities(x, w),
            sketch.excess(x, w, p, S),
            sketch.dkm_tail(x, w, S, 0.1),
            sketch.mcdiarmid_tail(x, w, S, 0.1),
        ]

    loop = [every(x[i], w[i], p[i]) for i in range(2)]
    for together, one, other in zip(jax.vmap(every)(x, w, p), *loop, strict=True):
        np.testing.assert_allclose(together, jnp.stack([one, other]), rtol=1e-10)


x, w, p = jnp.eye(2), jnp.ones(2), jnp.ones(2) / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sketch.excess(x, w, jnp.array([1.0, 0.0]), 2), "probabilities vanishes at item 1"),
        (lambda: sketch.excess(x, w, p, 0), "budget is 0; it takes a finite number > 0"),
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
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
