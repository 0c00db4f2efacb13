"""Infinite-width kernels against Gaussian integrals done by hand, random finite networks, and themselves."""

import itertools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sketchprune import kernels, models
from sketchprune.kernels import infinite, linearised
from tests.support import without_type_checks

RELU = "relu", 2**0.5, 0.0
ERF = "erf", 1.3, 0.4
X = np.random.default_rng(0).normal(size=(4, 6))
IMAGES = np.random.default_rng(1).normal(size=(3, 4, 4, 2))


def integrals(activation, aa, ab, bb):
    """E φ(u)φ(v) and E φ'(u)φ'(v) for u, v normal with variances aa, bb and covariance ab."""
    if activation == "linear":
        return ab, np.ones_like(ab)
    if activation == "relu":
        angle = np.arccos(np.clip(ab / np.sqrt(aa * bb), -1, 1))
        value = np.sqrt(aa * bb) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        return value, (np.pi - angle) / (2 * np.pi)
    a, b = 1 + 2 * aa, 1 + 2 * bb
    return 2 / np.pi * np.arcsin(2 * ab / np.sqrt(a * b)), 4 / np.pi / np.sqrt(a * b - 4 * ab**2)


def mlp_kernels(x1, x2, depth, activation, weight_std, bias_std):
    """NNGP and NTK by the recursion over layers."""
    w, b, d = weight_std**2, bias_std**2, x1.shape[1]
    aa, ab, bb = (w * product / d + b for product in (np.sum(x1**2, 1)[:, None], x1 @ x2.T, np.sum(x2**2, 1)[None]))
    ntk = ab
    for _ in range(depth - 1):
        value, slope = integrals(activation, aa, ab, bb)
        aa, bb = (w * integrals(activation, v, v, v)[0] + b for v in (aa, bb))
        ab, ntk = w * value + b, w * value + b + w * slope * ntk
    return ab, ntk


def cnn_kernels(x1, x2, depth, size, activation, weight_std, bias_std):
    """NNGP and NTK of a flattened CNN without pooling: pixels meet only themselves, in sums over patches."""
    w, b = weight_std**2, bias_std**2

    def patches(pixels):
        padded = np.pad(pixels, [(0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2])
        height, width = pixels.shape[2:]
        shifts = itertools.product(range(size), range(size))
        return sum(padded[:, :, i : i + height, j : j + width] for i, j in shifts) / size**2

    pairs = (x1, x1), (x1, x2), (x2, x2)
    aa, ab, bb = (w * patches(np.einsum("nhwc,mhwc->nmhw", *p) / x1.shape[-1]) + b for p in pairs)
    aa, bb = (np.einsum("nnhw->nhw", v) for v in (aa, bb))
    aa, bb, ntk = aa[:, None], bb[None], ab
    for layer in range(depth):
        value, slope = integrals(activation, aa, ab, bb)
        gather = patches if layer < depth - 1 else partial(np.mean, axis=(2, 3), keepdims=True)
        aa, bb = (w * gather(integrals(activation, v, v, v)[0]) + b for v in (aa, bb))
        ab, ntk = w * gather(value) + b, w * gather(value) + b + w * gather(slope * ntk)
    return ab[..., 0, 0], ntk[..., 0, 0]


@pytest.mark.parametrize("law", [RELU, ERF, ("linear", 0.9, 0.2)], ids=lambda law: law[0])
@pytest.mark.parametrize("depth", [1, 3])
def test_mlp_is_the_recursion_over_layers(law, depth):
    network = infinite.mlp(depth, activation=law[0], weight_std=law[1], output_std=law[1], bias_std=law[2])
    for x1, x2 in ((X, None), (X[:3], X[1:] + 0.5)):
        nngp, ntk = mlp_kernels(x1, x1 if x2 is None else x2, depth, *law)
        # An arc cosine near one costs half the digits: 1e-8, relative to the largest entry.
        np.testing.assert_allclose(infinite.nngp(network, x1, x2), nngp, atol=1e-8 * abs(nngp).max())
        np.testing.assert_allclose(infinite.ntk(network, x1, x2), ntk, atol=2e-8 * depth * abs(ntk).max())


@pytest.mark.parametrize("law", [RELU, ERF], ids=lambda law: law[0])
@pytest.mark.parametrize("depth", [1, 3])
def test_cnn_is_the_recursion_over_patches(law, depth):
    network = infinite.cnn(depth, activation=law[0], weight_std=law[1], output_std=law[1], bias_std=law[2])
    nngp, ntk = cnn_kernels(IMAGES, IMAGES[:2], depth, 3, *law)
    np.testing.assert_allclose(infinite.nngp(network, IMAGES, IMAGES[:2]), nngp, atol=1e-8 * nngp.max())
    np.testing.assert_allclose(infinite.ntk(network, IMAGES, IMAGES[:2]), ntk, atol=1e-7 * ntk.max())


# Monte Carlo. With one hidden layer the finite NTK is a mean of independent terms, one a hidden unit or
# channel, so its expectation is the limit at any width: the interval needs no allowance for finite width.
WIDTH, NETWORKS, LEVEL = 8, 4000, 1e-4


def finite_mlp(law, params, x):
    activation, w, b = law
    phi = {"relu": jax.nn.relu, "erf": jax.scipy.special.erf, "gelu": partial(jax.nn.gelu, approximate=False)}
    hidden = w / x.shape[1] ** 0.5 * x @ params["w1"] + b * params["b1"]
    return w / WIDTH**0.5 * phi[activation](hidden) @ params["w2"] + b * params["b2"]


def finite_cnn(head, pool, params, x):
    hidden = jax.lax.conv_general_dilated(x, params["w1"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    hidden = jax.nn.relu(2**0.5 / np.prod(params["w1"].shape[:3]) ** 0.5 * hidden)
    n, height, width, channels = hidden.shape
    tiles = hidden.reshape(n, height // pool, pool, width // pool, pool, channels).mean((2, 4))
    features = tiles.mean((1, 2)) if head == "mean" else tiles.reshape(n, -1)
    return (2 / features.shape[1]) ** 0.5 * features @ params["w2"]


def contraction(apply, params, x):
    """The empirical NTK [n, n] of a network with one output, from its Jacobian."""
    rows = [leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(jax.jacrev(apply)(params, x))]
    return sum(row @ row.T for row in rows)


def random_networks(apply, shapes, x):
    """NNGP f fᵀ and NTK of many random networks."""

    @jax.jit
    @jax.vmap
    def kernels(params):
        outputs = apply(params, x)[:, 0]
        return jnp.outer(outputs, outputs), contraction(apply, params, x)

    random = np.random.default_rng(7)
    return kernels({name: random.normal(size=(NETWORKS, *shape)) for name, shape in shapes.items()})


def inside(samples, mean):
    """Is every entry of the mean in its interval; all of them are, with probability 1 − LEVEL."""
    halfwidth = stats.norm.isf(LEVEL / 2 / mean.size) * samples.std(0) / len(samples) ** 0.5
    return np.all(abs(samples.mean(0) - mean) <= halfwidth)


@pytest.mark.parametrize("law", [RELU, ERF, ("gelu", 1.1, 0.2)], ids=lambda law: law[0])
def test_mlp_is_the_mean_of_random_networks(law):
    shapes = {"w1": (6, WIDTH), "b1": (WIDTH,), "w2": (WIDTH, 1), "b2": (1,)}
    nngp, ntk = random_networks(partial(finite_mlp, law), shapes, X)
    network = infinite.mlp(2, activation=law[0], weight_std=law[1], output_std=law[1], bias_std=law[2])
    assert inside(nngp, infinite.nngp(network, X))
    assert inside(ntk, infinite.ntk(network, X))
    wider = infinite.mlp(2, activation=law[0], weight_std=1.05 * law[1], output_std=law[1], bias_std=law[2])
    assert not inside(ntk, infinite.ntk(wider, X))


@pytest.mark.parametrize("head, pool", [("flatten", 1), ("flatten", 2), ("mean", 1)])
def test_cnn_is_the_mean_of_random_networks(head, pool):
    features = WIDTH * (1 if head == "mean" else (4 // pool) ** 2)
    shapes = {"w1": (3, 3, 2, WIDTH), "w2": (features, 1)}
    nngp, ntk = random_networks(partial(finite_cnn, head, pool), shapes, IMAGES)
    network = infinite.cnn(1, head=head, pool=pool, output_std=2**0.5)
    assert inside(nngp, infinite.nngp(network, IMAGES))
    assert inside(ntk, infinite.ntk(network, IMAGES))
    assert not inside(
        ntk, infinite.ntk(infinite.cnn(1, head=head, pool=pool, weight_std=1.5, output_std=2**0.5), IMAGES)
    )


def test_the_limit_is_that_of_the_models_in_ntk_parameterisation():
    """Within the fluctuations of a wide network; gain 2 at the output would double the kernel."""
    apply, params = models.initial(models.mlp(1024, 1024, 1, bias=False, ntk=True), jax.random.key(0), X)
    empirical = kernels.ntk(apply, params, X)[:, :, 0, 0]
    np.testing.assert_allclose(empirical, infinite.ntk([1024, 1024, 1], X), rtol=0.25)
    double = infinite.ntk(infinite.mlp(3, output_std=2**0.5), X)
    np.testing.assert_allclose(double, 2 * infinite.ntk(infinite.mlp(3), X), rtol=1e-7)


def test_symmetries():
    network, order = infinite.mlp(3), np.array([2, 0, 3, 1])
    square = infinite.ntk(network, X)
    np.testing.assert_allclose(square, infinite.ntk(network, X, X), rtol=1e-7)
    np.testing.assert_allclose(square, square.T, rtol=1e-12)
    np.testing.assert_allclose(infinite.ntk(network, X[order]), square[order][:, order], rtol=1e-7)
    np.testing.assert_array_equal(square, infinite.ntk([64, 64, 5], X))
    np.testing.assert_array_equal(square, infinite.ntk(network, X.reshape(4, 3, 2)))
    assert np.linalg.eigvalsh(square)[0] > 0
    # ReLU networks without biases are homogeneous.
    np.testing.assert_allclose(infinite.ntk(network, 3 * X), 9 * square, rtol=1e-7)
    image = infinite.ntk(infinite.cnn(1, head="mean"), IMAGES)
    np.testing.assert_allclose(infinite.ntk(infinite.cnn(1, head="mean"), IMAGES[:, ::-1]), image, rtol=1e-7)


def test_same_under_jit_and_in_float32():
    network = infinite.mlp(3)
    exact = infinite.ntk(network, X)
    np.testing.assert_allclose(jax.jit(partial(infinite.ntk, network))(X), exact, rtol=1e-7)
    single = infinite.ntk(network, X.astype(np.float32))
    assert single.dtype == jnp.float32 and exact.dtype == jnp.float64
    np.testing.assert_allclose(single, exact, rtol=1e-3)


def test_zero_and_nan_inputs():
    x = np.stack([X[0], 0 * X[0], np.where(np.arange(6) == 2, np.nan, X[1])])
    kernel = np.asarray(infinite.ntk(infinite.mlp(3), x))
    np.testing.assert_array_equal(kernel[1, :2], 0)
    assert np.isnan(kernel[2]).all() and np.isnan(kernel[:, 2]).all() and np.isfinite(kernel[:2, :2]).all()


def test_kernel_functions_of_neural_tangents_and_blocks():
    nt = infinite.neural_tangents()
    stax = nt.stax
    network = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Relu(), stax.Dense(1))[2]
    exact = infinite.ntk(infinite.mlp(2), X)
    np.testing.assert_allclose(infinite.ntk(network, X), exact, rtol=1e-7)
    blocks = nt.batch(infinite.mlp(2), batch_size=2, device_count=0)
    np.testing.assert_allclose(blocks(X, None, "ntk"), exact, rtol=1e-7)


EMPIRICAL = {
    "dense": (partial(finite_mlp, ERF), {"w1": (6, WIDTH), "b1": (WIDTH,), "w2": (WIDTH, 3), "b2": (3,)}, X),
    "conv": (partial(finite_cnn, "flatten", 2), {"w1": (3, 3, 2, WIDTH), "w2": (4 * WIDTH, 3)}, IMAGES),
}


@pytest.mark.parametrize("net", EMPIRICAL)
def test_empirical_kernels_are_ours_and_the_jacobian_contraction(net):
    nt = infinite.neural_tangents()
    apply, shapes, x = EMPIRICAL[net]
    random = np.random.default_rng(3)
    params = {name: random.normal(size=shape) for name, shape in shapes.items()}

    @jax.jit
    def exact(params):
        jacobian = jax.tree.leaves(jax.jacrev(apply)(params, x))
        rows = jnp.concatenate([leaf.reshape(len(x), 3, -1) for leaf in jacobian], -1)
        return jnp.einsum("nkp,mlp->nmkl", rows, rows)

    ours = kernels.ntk(apply, params, x)
    np.testing.assert_allclose(ours, exact(params), rtol=1e-12, atol=1e-12)
    for way in (nt.NtkImplementation.JACOBIAN_CONTRACTION, nt.NtkImplementation.NTK_VECTOR_PRODUCTS):
        empirical = jax.jit(nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=way))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            theirs = empirical(x, None, params)
        np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12)


def test_linearisation_is_that_of_neural_tangents():
    apply, shapes, _ = EMPIRICAL["dense"]
    params = {name: np.random.default_rng(3).normal(size=shape) for name, shape in shapes.items()}
    moved = jax.tree.map(lambda leaf: 1.5 * leaf, params)
    linearisers = infinite.neural_tangents().linearize, linearised.linearise
    theirs, ours = (jax.jit(f(apply, params))(moved, X) for f in linearisers)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12)


def test_predictions_are_those_of_neural_tangents():
    nt = infinite.neural_tangents()
    network, y = infinite.mlp(3, activation="erf", bias_std=0.1), X[:3, :2]
    times = jnp.array([0.0, 0.3, 5.0])
    # Its loss is the mean over all numbers, ours the sum.
    theirs = nt.predict.gradient_descent_mse_ensemble(network, X[:3], y, learning_rate=y.size)
    mean, covariance = theirs(t=times, x_test=X, get="ntk", compute_cov=True)
    ours = infinite.predict(network, X[:3], y, X, times)
    np.testing.assert_allclose(ours.mean, mean, atol=1e-10)
    np.testing.assert_allclose(ours.covariance, covariance, atol=1e-10)
    mean, covariance = theirs(t=None, x_test=X, get="ntk", compute_cov=True)
    end = infinite.predict(network, X[:3], y, X)
    np.testing.assert_allclose(end.mean, mean, atol=1e-7)
    np.testing.assert_allclose(end.covariance, covariance, atol=1e-7)
    np.testing.assert_allclose(infinite.predict(network, X[:3], y[:, 0], X).mean, end.mean[:, 0])


def test_predictions_begin_at_the_prior_and_end_at_the_targets():
    network, y = infinite.mlp(2), X[:, :2]
    start = infinite.predict(network, X, y, X, 0.0)
    np.testing.assert_array_equal(start.mean, 0)
    np.testing.assert_allclose(start.covariance, infinite.nngp(network, X), rtol=1e-12)
    end = infinite.predict(network, X, y, X)
    np.testing.assert_allclose(end.mean, y, atol=1e-9)
    np.testing.assert_allclose(end.covariance, 0, atol=1e-9)
    # A sample given twice makes the kernel singular; the prediction is that of the sample given once.
    line = infinite.mlp(1)
    twice = infinite.predict(line, X[[0, 1, 1]], y[[0, 1, 1]], X)
    np.testing.assert_allclose(twice.mean, infinite.predict(line, X[:2], y[:2], X).mean, atol=1e-10)


BAD = {
    "depth is 0; it takes a whole number >= 1": lambda: infinite.mlp(0),
    "depth is 1.5; it takes a whole number >= 1": lambda: infinite.cnn(1.5),
    "filter_size is 0": lambda: infinite.cnn(1, filter_size=0),
    "pool is -2": lambda: infinite.cnn(1, pool=-2),
    "head is 'max'; it takes 'flatten' or 'mean'": lambda: infinite.cnn(1, head="max"),
    "activation is 'tanh'; it takes one of relu, erf, gelu": lambda: infinite.mlp(2, activation="tanh"),
    "weight_std is nan; it takes a finite number > 0": lambda: infinite.mlp(2, weight_std=float("nan")),
    "output_std is 0; it takes a finite number > 0": lambda: infinite.mlp(2, output_std=0),
    "bias_std is -1; it takes a finite number >= 0": lambda: infinite.mlp(2, bias_std=-1),
    "network is 3; it takes a function or a sequence of numbers": lambda: infinite.ntk(3, X),
    "network is 'abc'; it takes a function or a sequence of numbers": lambda: infinite.ntk("abc", X),
    "network is b'abc'; it takes a function or a sequence": lambda: infinite.ntk(b"abc", X),
    r"network is \[\]; it takes a kernel function": lambda: infinite.nngp([], X),
    r"network is \[8, 0\]; .* whole widths >= 1": lambda: infinite.ntk([8, 0], X),
    r"network is \(8, 1\.5\); .* whole widths >= 1": lambda: infinite.predict((8, 1.5), X, X, X),
    "pool is 8, 1 times; it takes tiles that fit in the images, 4 x 4": lambda: infinite.ntk(
        infinite.cnn(1, pool=8), IMAGES
    ),
    "pool is 3, 2 times; it takes tiles that fit": lambda: infinite.nngp(infinite.cnn(2, pool=3), IMAGES),
    r"x1 has shape \(6,\); it takes samples": lambda: infinite.ntk([1, 1], X[0]),
    r"x2 has shape \(0, 6\); it takes samples": lambda: infinite.ntk([1, 1], X, X[:0]),
    "x1 has dtype int64; it takes floating numbers": lambda: infinite.nngp([1, 1], X.astype(int)),
    r"x1 and x2 have samples of shapes \[\(6,\), \(2,\)\]": lambda: infinite.ntk([1, 1], X, X[:, :2]),
    r"x1 has shape \(4, 6\); a cnn takes images": lambda: infinite.ntk(infinite.cnn(1), X),
    "x_test and x_train have samples": lambda: infinite.predict([1, 1], X, X, X[:, :2]),
    r"y_train has shape \(3, 6\); it takes real numbers \[n, k\] with": lambda: infinite.predict([1, 1], X, X[:3], X),
    "times is -1.0": lambda: infinite.predict([1, 1], X, X, X, -1.0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        BAD[message]()
