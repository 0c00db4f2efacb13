"""The closed forms against training step by step, and the linearised network against its own Jacobian."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune.kernels.linearised import descent, flow, linearise
from tests.support import without_type_checks

# One shape for all random problems, so that everything compiles once: 4 samples, 2 outputs, 3 test points.
N, K, M = 4, 2, 3
flow_jit = jax.jit(flow)
descent_jit = jax.jit(descent)


@st.composite
def problems(draw):
    """Jacobians of any rank, repeated rows and widely different scales; outputs, targets, test outputs."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rank = draw(st.integers(0, N * K))
    jacobian = random.normal(size=((N + M) * K, rank)) * 10.0 ** random.uniform(-2, 0, size=rank)
    if draw(st.booleans()):
        jacobian[2:4] = jacobian[:2]
    train, test = jacobian[: N * K], jacobian[N * K :]
    outputs, targets = random.normal(size=(2, N, K))
    return train @ train.T, test @ train.T, outputs, targets, random.normal(size=(M, K))


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def sweep(**options):
    return lambda test: settings(max_examples=25, deadline=None, derandomize=True)(given(**options)(test))


def step_by_step(kernel, cross, outputs, targets, test_outputs, step_size, steps):
    f, g, y = outputs.reshape(-1), test_outputs.reshape(-1), targets.reshape(-1)
    for _ in range(steps):
        f, g = f - step_size * kernel @ (f - y), g - step_size * cross @ (f - y)
    return f.reshape(outputs.shape), g.reshape(test_outputs.shape)


@sweep(problem=problems(), reach=st.sampled_from([0.01, 0.5, 1.0, 1.7, 2.2]))
def test_descent_is_step_by_step(problem, reach):
    kernel, cross, outputs, targets, test_outputs = problem
    step_size = reach / max(np.linalg.norm(kernel, 2), 1e-3)
    steps = np.array([0, 1, 2, 7])
    train = descent_jit(kernel, outputs, targets, step_size, steps)
    test = descent_jit(kernel, outputs, targets, step_size, steps, cross=cross, cross_outputs=test_outputs)
    assert train.shape == (4, N, K) and test.shape == (4, M, K)
    for i, t in enumerate(steps):
        expected = step_by_step(*problem, step_size, t)
        close(train[i], expected[0])
        close(test[i], expected[1])


@sweep(problem=problems(), time=st.floats(0, 30))
def test_flow_is_the_matrix_exponential(problem, time):
    kernel, cross, outputs, targets, test_outputs = problem
    # The integral of e^{−Θs} is a block of the exponential of [[−Θ, 1], [0, 0]], without dividing by Θ.
    size = N * K
    block = np.block([[-kernel, np.eye(size)], [np.zeros((size, 2 * size))]])
    exponential = scipy.linalg.expm(time * block)
    residual = (outputs - targets).reshape(-1)
    expected = targets + (exponential[:size, :size] @ residual).reshape(N, K)
    close(flow_jit(kernel, outputs, targets, time), expected)
    expected = test_outputs - (cross @ exponential[:size, size:] @ residual).reshape(M, K)
    close(flow_jit(kernel, outputs, targets, time, cross=cross, cross_outputs=test_outputs), expected)


@sweep(problem=problems(), first=st.floats(0, 5), second=st.floats(0, 5))
def test_semigroup(problem, first, second):
    """Going on from where one has come to is going on without a stop."""
    kernel, cross, outputs, targets, test_outputs = problem
    whole = flow_jit(kernel, outputs, targets, np.array([first, first + second]))
    close(flow_jit(kernel, whole[0], targets, second), whole[1])
    at_test = partial(flow_jit, kernel, cross=cross)
    way = at_test(outputs, targets, np.array([first, first + second]), cross_outputs=test_outputs)
    close(at_test(whole[0], targets, second, cross_outputs=way[0]), way[1])
    steps = np.array([round(first), round(first) + round(second)])
    whole = descent_jit(kernel, outputs, targets, 0.1, steps)
    close(descent_jit(kernel, whole[0], targets, 0.1, steps[1] - steps[0]), whole[1])


@sweep(problem=problems())
def test_test_points_that_are_training_points(problem):
    kernel, _, outputs, targets, _ = problem
    times = np.array([0.0, 0.1, 3.0, np.inf])
    close(
        flow_jit(kernel, outputs, targets, times, cross=kernel, cross_outputs=outputs),
        flow_jit(kernel, outputs, targets, times),
    )


def problem(seed=0, rank=5):
    random = np.random.default_rng(seed)
    jacobian = random.normal(size=(N * K, rank)) / rank**0.5
    return jacobian @ jacobian.T, *random.normal(size=(2, N, K))


def test_flow_is_the_limit_of_small_steps():
    kernel, outputs, targets = problem()
    exact = flow(kernel, outputs, targets, 1.0)
    errors = [
        abs(descent(kernel, outputs, targets, 1 / steps, steps) - exact).max() for steps in (10**3, 10**4, 10**12)
    ]
    # Euler's method is of first order; at 10^12 steps rounding is left, not multiplied by the steps.
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.02)
    assert errors[2] < 1e-11


def test_the_end_of_training_is_the_projection_on_the_range():
    kernel, outputs, targets = problem()
    values, vectors = np.linalg.eigh(kernel)
    null = vectors[:, values < 1e-10]
    kept = (null @ null.T @ (outputs - targets).reshape(-1)).reshape(N, K)
    for time in (1e6, 1e300, np.inf):
        close(flow(kernel, outputs, targets, time), targets + kept)
    close(descent(kernel, outputs, targets, 1 / values[-1], 10**15), targets + kept)


def test_residuals_keep_their_relative_precision():
    kernel = np.diag([1.0, 2.0])
    residual = flow(kernel, np.ones(2), np.zeros(2), 300.0)
    np.testing.assert_allclose(residual, np.exp([-300.0, -600.0]), rtol=1e-12)
    residual = descent(kernel, np.ones(2), np.zeros(2), 0.25, 900)
    np.testing.assert_allclose(residual, [0.75**900, 0.5**900], rtol=1e-12)


def test_descent_at_and_beyond_the_largest_step_size():
    kernel, ones, steps = np.diag([1.0, 2.0, 4.0]), np.ones(3), np.arange(4)
    # ηλ = ½, 1, 2: halved, done in one step, kept with alternating sign.
    outputs = descent(kernel, ones, 0 * ones, 0.5, steps)
    np.testing.assert_allclose(outputs, np.stack([0.5**steps, steps == 0, (-1.0) ** steps], 1), rtol=1e-15)
    diverged = descent(kernel, ones, 0 * ones, 1.0, 10**6)
    assert not np.isfinite(diverged[2])


def test_forms_of_the_kernel():
    """[n, n, k, k], [nk, nk] and, where outputs share it, [n, n]; times of any shape lead the result."""
    kernel, outputs, targets = problem()
    times = np.linspace(0, 2, 6).reshape(2, 3)
    flat = flow(kernel, outputs, targets, times)
    assert flat.shape == (2, 3, N, K) and flow(kernel, outputs, targets, 1).shape == (N, K)
    blocks = kernel.reshape(N, K, N, K).transpose(0, 2, 1, 3)
    close(flow(blocks, outputs, targets, times), flat)
    close(flow(kernel, outputs.reshape(-1), targets.reshape(-1), times), flat.reshape(2, 3, N * K))
    shared = kernel[::2, ::2]
    expected = flow(np.kron(shared, np.eye(K)), outputs, targets, times)
    close(flow(shared, outputs, targets, times), expected)
    cross, start = shared[:M], outputs[:M]
    at_test = partial(flow, outputs=outputs, targets=targets, times=times, cross_outputs=start)
    close(at_test(shared, cross=cross), expected[:, :, :M])
    close(at_test(np.kron(shared, np.eye(K)), cross=np.kron(cross, np.eye(K))), expected[:, :, :M])
    close(at_test(blocks, cross=blocks[:M]), flat[:, :, :M])
    single = flow(shared, outputs[:, :1], targets[:, :1], 1.0)
    close(flow(shared[:, :, None, None], outputs[:, 0], targets[:, 0], 1.0), single[:, 0])
    one = flow(np.eye(1), np.ones((1, 1)), np.zeros((1, 1)), np.log(2.0))
    close(one, [[0.5]])


def test_vmap_is_a_loop_and_jit_is_eager():
    some = [problem(seed, 3) for seed in range(3)]
    kernels, outputs, targets = (np.stack(part) for part in zip(*some, strict=True))
    times = np.array([0.1, 2.0])
    loop = [flow(*one, times) for one in some]
    close(jax.vmap(lambda *one: flow(*one, times))(kernels, outputs, targets), np.stack(loop))
    close(flow_jit(kernels[0], outputs[0], targets[0], times), loop[0])
    steps = np.array([3, 5])
    eager = descent(kernels[0], outputs[0], targets[0], 0.1, steps)
    close(descent_jit(kernels[0], outputs[0], targets[0], 0.1, steps), eager)
    sizes = jnp.array([0.05, 0.1])
    many = jax.vmap(lambda size: descent(kernels[0], outputs[0], targets[0], size, steps))(sizes)
    close(many[1], eager)


def test_dtype_is_that_of_the_arrays():
    kernel, outputs, targets = (part.astype(np.float32) for part in problem())
    for got in (
        flow(kernel, outputs, targets, np.linspace(0, 1, 3)),
        descent(kernel, outputs, targets, np.float64(0.1), np.arange(3)),
        flow(kernel, outputs, (targets > 0).astype(int), 1.0),
    ):
        assert got.dtype == jnp.float32
    np.testing.assert_allclose(flow(kernel, outputs, targets, 1.0), flow(*problem(), 1.0), atol=1e-5)


def test_nan_is_passed_on():
    kernel, outputs, targets = problem()
    spoilt = kernel.copy()
    spoilt[0, 0] = np.nan
    assert np.isnan(flow(spoilt, outputs, targets, 1.0)).any()
    assert np.isnan(flow(np.diag([1.0, np.nan]), np.ones(2), np.zeros(2), 1.0)[1])
    outputs[0, 0] = np.nan
    assert np.isnan(descent(kernel, outputs, targets, 0.1, 1)).any()


def network(params, x):
    hidden = jnp.tanh(x @ params["w1"] + params["b1"])
    return hidden @ params["w2"]


def initial(seed=0):
    random = np.random.default_rng(seed)
    shapes = {"w1": (5, 8), "b1": (8,), "w2": (8, K)}
    return {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}


def empirical_ntk(apply, params, x1, x2):
    rows = []
    for x in (x1, x2):
        jacobian = jax.tree.leaves(jax.jacrev(apply)(params, x))
        rows.append(jnp.concatenate([leaf.reshape(len(x), K, -1) for leaf in jacobian], -1))
    return jnp.einsum("nkp,mlp->nmkl", *rows)


def test_closed_form_is_training_the_linearised_network():
    """tangent/closed-form: optax on the linearised network, at training and at test points."""
    random, params = np.random.default_rng(1), initial()
    x, x_test = random.normal(size=(N, 5)), random.normal(size=(M, 5))
    y, steps, step_size = random.normal(size=(N, K)), np.arange(40), 0.02
    apply, optimizer = linearise(network, params), optax.sgd(step_size)

    def step(carry, _):
        params, state = carry
        outputs = apply(params, x), apply(params, x_test)
        gradient = jax.grad(lambda p: 0.5 * jnp.sum((apply(p, x) - y) ** 2))(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), outputs

    trained, (train, test) = jax.jit(lambda start: jax.lax.scan(step, start, steps))((params, optimizer.init(params)))
    kernel, cross = (jax.jit(partial(empirical_ntk, network))(params, a, x) for a in (x, x_test))
    start, start_test = network(params, x), network(params, x_test)
    predicted = descent(kernel, start, y, step_size, steps)
    np.testing.assert_allclose(train, predicted, rtol=1e-11, atol=1e-11)
    predicted = descent(kernel, start, y, step_size, steps, cross=cross, cross_outputs=start_test)
    np.testing.assert_allclose(test, predicted, rtol=1e-11, atol=1e-11)
    # The check has power: training moved the outputs, and the network itself moves otherwise.
    assert abs(train[-1] - train[0]).max() > 0.1
    assert abs(network(trained[0], x) - train[-1]).max() > 1e-3


def test_linearised_network_is_the_tangent():
    params, other, x = initial(), initial(1), np.random.default_rng(2).normal(size=(N, 5))
    apply = linearise(network, params)
    close(apply(params, x), network(params, x))
    jacobian = jax.jit(jax.jacrev(network))(params, x)
    there = jax.jit(jax.jacrev(apply))(other, x)
    jax.tree.map(close, there, jacobian)
    moved = sum(jnp.tensordot(slope, other[name] - params[name], other[name].ndim) for name, slope in jacobian.items())
    close(apply(other, x), network(params, x) + moved)
    close(jax.jit(apply)(other, x), apply(other, x))
    many = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)
    close(jax.vmap(apply, (0, None))(many, x)[1], apply(other, x))


def test_leaves_that_are_not_floating_stay():
    params = {"w": jnp.ones((5, K)), "power": jnp.array(2), "key": jax.random.key(0)}
    apply = linearise(lambda p, x: x @ p["w"] ** p["power"], params)
    moved = {**params, "w": 2 * params["w"], "power": jnp.array(7)}
    close(apply(moved, jnp.ones((1, 5))), [[5 + 2 * 5] * K])


F = np.zeros((3, 2))
EYE = np.eye(3)
BAD = {
    r"outputs has shape \(0, 2\); it takes \[n, k\] or \[n\]": lambda: flow(np.eye(0), F[:0], F[:0], 1.0),
    r"outputs has shape \(\)": lambda: flow(np.eye(1), np.ones(()), np.ones(()), 1.0),
    r"targets has shape \(2, 2\); it takes real numbers \[n, k\] with n = 3, k = 2 or": lambda: flow(
        EYE, F, F[:2], 1.0
    ),
    r"kernel has shape \(4, 4\); it takes \(3, 3\), \(6, 6\) or \(3, 3, 2, 2\)": lambda: flow(np.eye(4), F, F, 1.0),
    "kernel differs from its transpose": lambda: flow(np.triu(np.ones((3, 3))), F, F, 1.0),
    "kernel has the eigenvalue -1e-06": lambda: flow(np.diag([1.0, 1.0, -1e-6]), F, F, 1.0),
    "kernel has dtype complex128; it takes floating numbers": lambda: flow(1j * EYE, F, F, 1.0),
    "times is nan; it takes numbers >= 0": lambda: flow(EYE, F, F, np.nan),
    r"times is \[ 1. -1.\]; it takes numbers >= 0": lambda: flow(EYE, F, F, np.array([1.0, -1.0])),
    "steps is 1.0; it takes a whole number >= 0": lambda: descent(EYE, F, F, 1.0, 1.0),
    "steps is -1; it takes a whole number >= 0": lambda: descent(EYE, F, F, 1.0, -1),
    "step_size is 0.0; it takes a finite number > 0": lambda: descent(EYE, F, F, 0.0, 1),
    r"step_size has shape \(2,\); it takes one number": lambda: descent(EYE, F, F, np.ones(2), 1),
    "cross_outputs is None": lambda: flow(EYE, F, F, 1.0, cross=EYE),
    "cross is None": lambda: flow(EYE, F, F, 1.0, cross_outputs=F),
    r"cross has shape \(3, 3\); it takes \(1, 3\)": lambda: flow(EYE, F, F, 1.0, cross=EYE, cross_outputs=F[:1]),
    r"cross_outputs has shape \(3,\); it takes that of outputs": lambda: flow(
        EYE, F, F, 1.0, cross=EYE, cross_outputs=F[:, 0]
    ),
    r"params\['w1'\] is float64\[4, 8\]; it takes float64\[5, 8\]": lambda: moved_to(w1=jnp.ones((4, 8))),
    r"params\['b1'\] is float32\[8\]; it takes float64\[8\]": lambda: moved_to(b1=jnp.ones(8, "float32")),
    "params .*; it takes the structure of the parameters linearised at": lambda: moved_to(b2=jnp.ones(2)),
    "apply returns complex128": lambda: linearise(lambda w, x: 1j * x * w, jnp.ones(2))(jnp.ones(2), F),
}


def moved_to(**leaves):
    return linearise(network, initial())({**initial(), **leaves}, np.ones((1, 5)))


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        BAD[message]()


def test_values_are_not_looked_at_under_a_trace():
    assert flow_jit(-np.eye(3), F, F, -1.0).shape == F.shape
    with without_type_checks(), pytest.raises(ValueError, match="targets has shape"):
        flow_jit(np.eye(3), F, F[:2], 1.0)
