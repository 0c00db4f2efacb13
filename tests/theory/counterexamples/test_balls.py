"""Traced programs in ball arithmetic: each kind of operation against JAX in float64, on random inputs."""

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from theory.counterexamples.balls import interpreter, products, spectra
from theory.counterexamples.balls.arrays import NoBallVersion, Undecided, balls, elementwise, midpoints
from theory.counterexamples.balls.interpreter import evaluate

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
P = RNG.uniform(0.2, 0.9, (3, 4))
SQUARE = RNG.standard_normal((4, 4))
SYMMETRIC = SQUARE @ SQUARE.T
RANK_ONE = np.outer([1.0, 2.0, 0.0, -1.0], [1.0, 2.0, 0.0, -1.0])
WHOLE = np.array([2, -3, 5, 0])


def in_balls(function, *arguments, bits=128):
    """The leaves of the value of a function."""
    program = jax.make_jaxpr(function)(*arguments)
    with flint.ctx.workprec(bits):
        return evaluate(program, jax.tree.leaves(arguments))


def agrees(function, *arguments, rtol=1e-12):
    """Every ball is narrow, and holds what JAX computes, to rounding; data are the same."""
    expected = jax.tree.leaves(jax.jit(function)(*arguments))
    for found, value in zip(in_balls(function, *arguments), expected, strict=True):
        value = np.asarray(value)
        assert found.shape == value.shape
        if found.dtype != object:
            np.testing.assert_array_equal(found, value)
            continue
        for ball, number in zip(found.ravel(), value.ravel(), strict=True):
            assert float(ball.rad()) <= 1e-25 * max(1, abs(number))
            assert abs(float(ball.mid()) - number) <= rtol * max(1, abs(number))


@jax.custom_vjp
def halved(x):
    return x / 2


halved.defvjp(lambda x: (x / 2, None), lambda _, g: (g,))


def newton(x):
    """√x by a loop that tests its own result."""
    return lax.while_loop(lambda r: jnp.max(abs(r * r - x)) > 1e-6, lambda r: (r + x / r) / 2, x)


def exponential_sum(x):
    """A scan with a carry, rows, and rows of results."""

    def step(total, row):
        return total * 0.5 + row, jnp.sum(total)

    return lax.scan(step, jnp.zeros(4), x, reverse=True)


GROUPS = {
    "arithmetic": (lambda x, y: (x + y, x - y, x * y, x / y, -x, abs(x), x**3, x**-2, jnp.sign(x)), X, Y),
    "elementary": (lambda p: (jnp.exp(p), jnp.log(p), jnp.log1p(p), jnp.expm1(p), jnp.sqrt(p), lax.rsqrt(p)), P),
    "trigonometric": (lambda p: (jnp.sin(p), jnp.cos(p), jnp.tan(p), jnp.arccos(p), jnp.arctan2(p, 2 * p)), P),
    "hyperbolic": (lambda p: (jnp.tanh(p), jnp.sinh(p), jnp.arctanh(p), jax.nn.sigmoid(p)), P),
    "special": (lambda p: (lax.erf(p), lax.erf_inv(p), lax.lgamma(p), lax.digamma(p), p**p, jnp.cbrt(p)), P),
    "rounding": (lambda x: (jnp.floor(x), jnp.ceil(x), jnp.round(x), x.astype(int), jnp.round(x * 0 + 2.5)), X),
    "comparisons": (lambda x, y: (x < y, x >= y, x == y, x != x, jnp.isfinite(x), jnp.where(x > y, x, y)), X, Y),
    "extremes": (lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, 0), jnp.clip(x, -0.5, 0.5), jax.nn.relu(x)), X, Y),
    "reductions": (lambda x: (x.sum(), x.sum(0), x.max(1), x.min(), x.prod((0, 1)), jnp.any(x > 2)), X),
    "cumulative": (lambda x: (jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cummax(x, 1), lax.cumsum(x, 0, True)), X),
    "indices": (lambda x: (jnp.argmax(x, 1), jnp.argmin(x), jnp.argsort(x, 0), jnp.sort(x, 1)), X),
    "products": (lambda x, y: (x @ y.T, x.T @ y, jnp.einsum("ij,ij->i", x, y), jnp.einsum("ij,kj->jik", x, y)), X, Y),
    "layout": (lambda x: (x.T, x.reshape(2, 6), x[:, None], x[::-1], x[1:, ::2], jnp.stack([x, x], 1)), X),
    "joining": (lambda x, y: (jnp.concatenate([x, y], 1), jnp.pad(x, ((1, 0), (0, 2))), jnp.split(x, 2, 1)), X, Y),
    "gathers": (lambda x: (x[jnp.array([2, 0, 2])], x[:, jnp.array([1])], x.at[9].get(mode="fill", fill_value=7)), X),
    "scatters": (lambda x: (x.at[1].set(2), x.at[jnp.array([0, 0, 2])].add(x), x.at[:, 1].multiply(3)), X),
    "slices at": (lambda x, n: (lax.dynamic_slice(x, (n[0], 0), (1, 2)), lax.dynamic_update_slice(x, x[:1], (1, 0))),
                  X, WHOLE),
    "data": (lambda n: (n + 1, n * n, n // 2, n % 3, n > 0, n << 1, jnp.cumsum(n), n.astype(float), ~n), WHOLE),
    "bits": (lambda x: jnp.ldexp(*jnp.frexp(jnp.exp2(jnp.floor(x)))), X),
    "random": (lambda x: x + jax.random.normal(jax.random.key(3), (3, 4)), X),
    "loops": (lambda p: (newton(p), exponential_sum(p), lax.fori_loop(0, 3, lambda i, r: r * p + i, p)), P),
    "branches": (lambda x: (lax.cond(x[0, 0] > 0, jnp.exp, jnp.sin, x), lax.switch(1, [jnp.cos, jnp.tanh], x)), X),
    "derivatives": (lambda p: (jax.grad(lambda q: jnp.sum(jax.nn.relu(jnp.sin(q)) ** 2))(p), halved(p)), P),
    "checkpoint": (lambda p: jax.grad(jax.checkpoint(lambda q: jnp.sum(jnp.exp(q) ** 2)))(p), P),
    "maps": (lambda x, y: jax.vmap(lambda a, b: jnp.dot(a, b) / jnp.linalg.norm(b))(x, y), X, Y),
    "eigenvalues": (lambda s: (jnp.linalg.eigvalsh(s), jnp.linalg.eigvalsh(s[:1, :1])), SYMMETRIC),
    "multiple eigenvalues": (jnp.linalg.eigvalsh, RANK_ONE),
    "functions of matrices": (lambda s: (lambda v, u: (u * jnp.exp(-v)) @ u.T)(*jnp.linalg.eigh(s)), SYMMETRIC),
    "singular values": (lambda x: jnp.linalg.svd(x, compute_uv=False), X),
    "singular vectors": (lambda x: (lambda u, s, v: ((u * jnp.exp(-s)) @ v, s))(
        *jnp.linalg.svd(x, full_matrices=False)), X),
    "wide": (lambda x: (lambda u, s, v: (u * jnp.sqrt(s)) @ v)(*jnp.linalg.svd(x.T, full_matrices=False)), X),
    "factors": (lambda s, x: (jnp.linalg.cholesky(s), jnp.linalg.solve(s, x.T), jnp.linalg.qr(x.T)[1] ** 2),
                SYMMETRIC, X),
    "triangles": (lambda s, x: jax.scipy.linalg.solve_triangular(s, x.T, trans=1, lower=True), SYMMETRIC, X),
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_balls_hold_what_jax_computes(group):
    function, *arguments = GROUPS[group]
    agrees(function, *arguments, rtol=1e-10 if group in ("factors", "triangles") else 1e-12)


def test_balls_shrink_with_the_precision():
    for bits in (64, 256):
        (root,) = in_balls(jnp.sqrt, np.array(2.0), bits=bits)
        assert 2.0 ** -(bits + 3) < float(root.item().rad()) < 2.0 ** -(bits - 3)


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_powers_of_balls_around_zero_are_numbers(power):
    """√2² − 2 is a ball around 0."""
    (found,) = in_balls(lambda x: (jnp.sqrt(x) * jnp.sqrt(x) - x) ** power, np.array(2.0), bits=64)
    assert found.item().contains(flint.arb(0)) and float(found.item().abs_upper()) < 2.0 ** (-55 * power)


def test_inputs_and_constants_are_exact():
    (found,) = in_balls(lambda x: x + 1e-20, np.array(0.1))
    assert float((found.item() - flint.arb(0.1)).mid()) == 1e-20


def test_multiple_eigenvalues_are_counted_and_narrow():
    with flint.ctx.workprec(256):
        values = spectra.eigenvalues(balls(RANK_ONE))
    np.testing.assert_allclose(midpoints(values), [0, 0, 0, 6], rtol=0, atol=1e-60)
    assert max(float(value.rad()) for value in values) < 1e-60


def test_eigenvalues_close_together_are_as_narrow_as_others():
    """Refined where they are apart, by rotations where they are not; either finds what the other one leaves."""
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    with flint.ctx.workprec(256):
        basis = spectra._orthonormal(balls(turned))
        values = balls([1.0, 1.0 + 2.0**-50, 1.0 + 2.0**-49, 2.0, 3.0])
        matrix = products.product(basis * values, basis.T)
        found = spectra.eigenvalues(elementwise(lambda ball: ball.mid(), matrix))
    assert max(float(value.rad()) for value in found) < 1e-60
    assert max(float(abs(value.mid() - exact)) for value, exact in zip(found, values, strict=True)) < 1e-60


@pytest.mark.parametrize("without", ["MAX_SWEEPS", "MAX_REFINEMENTS"])
def test_eigenvalues_that_are_apart_need_one_method_alone(monkeypatch, without):
    monkeypatch.setattr(spectra, without, 0)
    with flint.ctx.workprec(256):
        values = spectra.eigenvalues(balls(SYMMETRIC))
    assert max(float(value.rad()) for value in values) < 1e-60


def test_enclosures_hold_however_far_the_iteration_came(monkeypatch):
    """From LAPACK's eigenvectors alone the balls are 1e-16 wide, and hold the eigenvalues and vectors still."""
    with flint.ctx.workprec(256):
        values, vectors = spectra.eigh(balls(SYMMETRIC))
        monkeypatch.setattr(spectra, "MAX_SWEEPS", 0)
        monkeypatch.setattr(spectra, "MAX_REFINEMENTS", 0)
        wide_values, wide_vectors = spectra.eigh(balls(SYMMETRIC))
        pairs = [*zip(wide_values, values, strict=True), *zip(wide_vectors.ravel(), vectors.ravel(), strict=True)]
        assert all(wide.contains(narrow) for wide, narrow in pairs)
        assert 1e-20 < max(float(wide.rad()) for wide, _ in pairs) < 1e-12


def test_eigenvectors_of_a_multiple_eigenvalue_are_undecided():
    with flint.ctx.workprec(128), pytest.raises(Undecided, match="eigh"):
        spectra.eigh(balls(RANK_ONE[np.ix_([0, 1, 3], [0, 1, 3])]))


def test_parts_of_a_matrix_are_decomposed_by_themselves():
    """The eigenvalue 1 is double, but a part holds it once each."""
    matrix = np.diag([1.0, 0.0, 1.0])
    with flint.ctx.workprec(128):
        values, vectors = spectra.eigh(balls(matrix))
    np.testing.assert_array_equal(midpoints(values), [0, 1, 1])
    np.testing.assert_array_equal(midpoints(vectors) @ np.diag([0, 1, 1]) @ midpoints(vectors).T, matrix)


def test_an_undecided_comparison_is_named():
    with pytest.raises(Undecided, match="^gt$"):
        in_balls(lambda x: jnp.where(jnp.sqrt(x) ** 2 > x, 1.0, 0.0), np.array(2.0))
    with pytest.raises(Undecided, match="^eq$"):
        in_balls(lambda x: jnp.where(jnp.exp(jnp.log(x)) == x, 1.0, 0.0), np.array(3.0))


def test_an_operation_without_a_ball_version_is_named():
    with pytest.raises(NoBallVersion, match="bessel_i0e"):
        in_balls(jax.scipy.special.i0e, X)


def test_a_program_that_computes_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(interpreter, "MAX_NUMBERS", 1000)
    with pytest.raises(NoBallVersion, match="a program of more than 1000 numbers"):
        in_balls(lambda x: lax.fori_loop(0, 100, lambda _, y: y * x, x), X)
    agrees(lambda x: lax.fori_loop(0, 10, lambda _, y: y * x, x), X)


def test_what_nothing_reads_is_not_evaluated():
    """As a mutant's sides, when the claim's are asked for."""

    def function(x):
        jax.scipy.special.i0e(x)
        return x + 1

    agrees(function, X)
