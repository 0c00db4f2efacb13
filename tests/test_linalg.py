"""Closed-form training against explicit gradient descent, at any rank and any mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import linalg

N, D = 6, 5
limit, compress = jax.jit(linalg.limit), jax.jit(linalg.compress)
trajectory = jax.jit(linalg.trajectory)
MASKS = {
    "none": None,
    "some": [True, False, True, True, False],
    "sketch": [0.0, 2.5, 0.1, 0.0, 7.0],
    "empty": [False] * D,
}


def instance(kind):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3 if kind == "wide" else N, D))
    if kind == "zero column":
        x[:, 2] = 0
    if kind == "collinear":
        x[:, 4] = x[:, 0] - x[:, 1]
    if kind == "zero":
        x[:] = 0
    return x, rng.normal(size=len(x)), rng.normal(size=D)


def descend(x, y, start, step_size, steps, mask):
    """Plain gradient descent on the kept columns: all its points."""
    kept = np.ones(D) if mask is None else np.asarray(mask) != 0
    points = [start * kept]
    for _ in range(steps):
        points.append(points[-1] - step_size * kept * (x.T @ (x @ points[-1] - y)))
    return np.stack(points)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["tall", "wide", "zero column", "collinear", "zero"])
def test_closed_forms_are_gradient_descent(kind, mask):
    x, y, start = instance(kind)
    kept = None if MASKS[mask] is None else jnp.array(MASKS[mask])
    largest = np.linalg.norm(x if kept is None else x * (MASKS[mask] != np.zeros(D)), 2) ** 2 or 1.0
    steps = np.array([0, 1, 2, 7, 40])
    for speed in (0.1, 1.0, 1.7, 2.2):  # the last diverges
        points = trajectory(x, y, start, speed / largest, steps, mask=kept)
        explicit = descend(x, y, start, speed / largest, 40, MASKS[mask])[steps]
        np.testing.assert_allclose(points, explicit, rtol=1e-8, atol=1e-10)
    end = limit(x, y, start, mask=kept)
    late = trajectory(x, y, start, 1 / largest, np.array([0, 1, 2, 7, 10**15]), mask=kept)[-1]
    np.testing.assert_allclose(late, end, rtol=1e-9, atol=1e-10)
    if kept is not None:
        assert (end[kept == 0] == 0).all() and (late[kept == 0] == 0).all()


def test_limit_is_the_nearest_least_squares_solution():
    x, y, start = instance("collinear")
    end = np.asarray(limit(x, y, start))
    np.testing.assert_allclose(x.T @ (x @ end - y), 0, atol=1e-12)
    null = np.linalg.svd(x)[2][np.linalg.matrix_rank(x) :]
    np.testing.assert_allclose(null @ (end - start), 0, atol=1e-12)


def test_trajectory_at_tiny_and_huge_arguments():
    """A slow direction over 10^12 steps, where 1 − z alone would lose digits of z; arrival in one step."""
    x, y = jnp.diag(jnp.array([1.0, 1e-6])), jnp.array([1.0, 1e-6])
    steps = jnp.array([0, 1, 10**12])
    points = trajectory(x, y, jnp.zeros(2), 1.0, steps)
    slow = -np.expm1(np.asarray(steps) * np.log1p(-1e-12))
    np.testing.assert_allclose(points[:, 0], [0, 1, 1], rtol=1e-14)
    np.testing.assert_allclose(points[:, 1], slow, rtol=1e-9)


def test_masks_under_vmap_are_the_loop():
    x, y, start = instance("zero column")
    masks = np.random.default_rng(0).random((8, D)) < 0.5
    ends = jax.jit(jax.vmap(lambda mask: linalg.limit(x, y, start, mask=mask)))(masks)
    steps = np.array([0, 1, 2, 7, 100])
    paths = jax.jit(jax.vmap(lambda mask: linalg.trajectory(x, y, start, 0.05, steps, mask=mask)))(masks)
    for mask, end, path in zip(masks, ends, paths, strict=True):
        np.testing.assert_allclose(end, limit(x, y, start, mask=mask), atol=1e-11)
        np.testing.assert_allclose(path, trajectory(x, y, start, 0.05, steps, mask=mask), atol=1e-11)


@pytest.mark.parametrize("kind", ["tall", "wide", "collinear", "zero"])
def test_compress_leaves_the_problem_as_it_was(kind):
    x, y, start = instance(kind)
    times = 1 if kind == "wide" else 7
    x, y = np.tile(x, (times, 1)), np.tile(y, times)
    small_x, small_y = map(np.asarray, compress(x, y))
    assert small_x.shape == (D + 1, D) and small_y.shape == (D + 1,)
    np.testing.assert_allclose(small_x.T @ small_x, x.T @ x, atol=1e-12)
    np.testing.assert_allclose(small_x.T @ small_y, x.T @ y, atol=1e-12)
    assert float(small_y @ small_y) == pytest.approx(float(y @ y))
    mask = np.array([True, True, False, True, True])
    for problem in (x, y), (small_x, small_y):
        residual = problem[0] @ (mask * start) - problem[1]
        assert float(residual @ residual) == pytest.approx(float(np.sum((x @ (mask * start) - y) ** 2)))
    steps = np.array([0, 1, 2, 5, 1000])
    paths = [trajectory(*problem, start, 0.005, steps, mask=mask) for problem in ((x, y), (small_x, small_y))]
    np.testing.assert_allclose(*paths, atol=1e-10)


def test_dtypes_are_kept_and_bad_steps_refused():
    x, y, start = (jnp.asarray(value, jnp.float32) for value in instance("tall"))
    steps = jnp.array([1])
    for function in (linalg.limit, functools.partial(linalg.trajectory, step_size=0.01, steps=steps)):
        assert jax.eval_shape(function, x, y, start).dtype == jnp.float32
    assert jax.eval_shape(linalg.compress, x, y)[0].dtype == jnp.float32
    for steps in (jnp.array([-1]), jnp.array([0.5])):
        with pytest.raises((ValueError, TypeError), match="steps is .*; it takes a whole number >= 0|Type-check"):
            linalg.trajectory(x, y, start, 0.01, steps)
    for step_size, message in [(-0.1, "step_size is -0.1; it takes a finite"), (jnp.ones(2), r"has shape \(2,\)")]:
        with pytest.raises(ValueError, match=message):
            linalg.trajectory(x, y, start, step_size, 1)


def test_steps_of_any_shape_lead_the_shape_of_the_points():
    x, y, start = instance("tall")
    steps = np.arange(6)
    flat = trajectory(x, y, start, 0.05, steps)
    np.testing.assert_allclose(trajectory(x, y, start, 0.05, steps.reshape(2, 3)), flat.reshape(2, 3, D))
    np.testing.assert_allclose(linalg.trajectory(x, y, start, 0.05, 4), flat[4])


def test_the_decomposition_is_thin_and_drops_rounding():
    x, *_ = instance("collinear")
    left, singular, right = jax.jit(linalg.thin_svd)(x)
    assert left.shape == (N, D) and singular.shape == (D,) and right.shape == (D, D)
    np.testing.assert_allclose(left * singular @ right, x, atol=1e-12)
    assert singular[-1] == 0 and (singular[:-1] > 0).all()


@pytest.mark.parametrize("shape", [(1000, 8), (8, 1000)])
def test_ranks_are_right_where_rounding_grows_with_the_size(shape):
    """Rank 2 of 8: what rounding leaves of the other singular values is above eps·σ_max for half of the matrices."""
    rng = np.random.default_rng(5)
    stack = rng.normal(size=(16, shape[0], 2)) @ rng.normal(size=(16, 2, shape[1]))
    singular = jax.jit(jax.vmap(lambda x: linalg.thin_svd(x)[1]))(stack)
    np.testing.assert_array_equal((singular > 0).sum(axis=1), 2)
    rounding = jax.jit(jax.vmap(lambda x: linalg._lapack_svd(x)[1]))(stack)[:, 2:]
    assert (rounding.max(axis=1) > np.finfo(float).eps * singular[:, 0]).sum() >= 4


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_give_nan(wrong):
    """LAPACK never returns on some of these."""
    parts = jax.jit(linalg.thin_svd)(np.ones((3, 3)) + np.diag([wrong, 0, 0]))
    assert all(np.isnan(part).all() for part in parts)


def test_ritz_values_are_eigenvalues_once_the_space_is_exhausted():
    eigenvalues = np.array([5.0, 5.0, 5.0, 2.0, 0.5, 0.0])  # a Krylov space has one direction for each distinct one
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    matrix = basis * eigenvalues @ basis.T
    start = np.random.default_rng(1).normal(size=6)

    @functools.partial(jax.jit, static_argnames="filler")
    def ritz(start, filler):
        return linalg.ritz_values(lambda v: matrix @ v, start, 10, filler=filler)

    found = np.asarray(ritz(start, -1.0)).round(9) + 0
    assert found.shape == (6,) and set(found) - {-1} == set(eigenvalues) and -1 in found
    between = ritz(start, None)
    assert between.shape == (6,) and between[0] >= -1e-10 and between[-1] <= 5 + 1e-10
    few = linalg.ritz_values(lambda v: matrix @ v, jnp.asarray(start), 2)
    assert few.shape == (2,) and 0 <= few[0] <= few[1] <= 5
