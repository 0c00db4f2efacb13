"""Every path formula against all paths, one by one; any depth and density; what has no paths is refused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import masks, paths
from theory.engine import taken

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiled in half the time, for programs that run once."""


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def close(found, expected, rtol=1e-12):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * max(abs(expected).max(), 1e-300))


# --- Enumeration


def test_paths_make_the_network_and_its_jacobian(small, mask):
    """f = Σ features·values and ∂f/∂θ = features · jacobian, on the kept columns."""
    x = normal(0, 3, *small.input_shape)

    @quick_jit
    def both(params, mask):
        found = small.paths(params, mask)
        masked = params if mask is None else masks.apply(params, mask)
        features = found.features(x.reshape(3, -1))
        jacobian = [w.reshape(*features.shape[:2], -1) for w in jax.jacrev(small.apply)(masked, x)]
        products = features @ found.values, features @ found.jacobian, found.kernel, found.gram
        return small.apply(masked, x), jnp.concatenate(jacobian, axis=2), found.jacobian, products

    outputs, columns, jacobian, (values, derivatives, kernel, gram) = both(small.params, mask)
    close(values, outputs)
    close(derivatives, columns * (1 if mask is None else flat(mask) != 0))
    close(kernel, jacobian @ jacobian.T)
    close(gram, jacobian.T @ jacobian)


def test_linear_networks_have_every_path_active():
    weights = [normal(0, 3, 4), normal(1, 4, 2), normal(2, 2, 2)]
    x = normal(3, 5, 3)
    found = paths.enumerate_paths(weights)
    close(found.features(x, linear=True) @ found.values, x @ weights[0] @ weights[1] @ weights[2])
    assert found.units.shape == (3 * 4 * 2 * 2, 4)


def test_enumeration_under_jit_and_vmap():
    weights = normal(0, 5, 2, 3), normal(1, 5, 3, 2)
    kept = np.random.default_rng(2).random((5, 2, 3)) < 0.5

    def gram(first, second, kept):
        return paths.enumerate_paths([first, second], [kept, None]).gram

    every = jax.jit(jax.vmap(gram))(*weights, kept)
    for at in range(5):
        close(every[at], gram(weights[0][at], weights[1][at], kept[at]))


@pytest.mark.parametrize(
    ("given", "masks", "message"),
    [
        ([np.ones((100, 100)), np.ones((100, 2))], None, "weights make 20000 paths; .* at most 10000"),
        ([np.ones((2, 3)), np.ones((2, 3))], None, r"weights\[1\] has 2 inputs; it takes the outputs .* \(3,\)"),
        ([np.ones((2, 3))], [np.ones((3, 2))], r"masks\[0\] has shape \(3, 2\); it takes .* \(2, 3\)"),
        ([np.ones((2, 3))], [], "masks has 0 entries; it takes one a layer, 1"),
        ([np.ones(3)], None, r"weights has a layer of shape \(3,\)"),
        ([], None, "weights is empty"),
    ],
)
def test_enumeration_refuses(given, masks, message):
    with pytest.raises(ValueError, match=message):
        paths.enumerate_paths(given, masks)


def test_edges_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"kernel has shape \(2, 2, 1, 1\); it takes \(rows, columns, 3, features\)"):
        paths.convolution(jnp.ones((2, 2, 1, 1)), (4, 4, 3))
    with pytest.raises(ValueError, match=r"image_shape is \(2, 2, 1\)"):
        paths.average_pooling((2, 2, 1), (3, 3))


# --- Norms, trace, Gram matrix, spectrum


@functools.partial(quick_jit, static_argnums=0)
def weighted(small, params, mask, u):
    """Values, and the Jacobian with √u of the input that each path starts from."""
    found = small._replace(params=None).paths(params, mask)
    start = u.ravel()[found.units[:, 0]]
    return found.values, jnp.sqrt(start)[:, None] * found.jacobian, start


def paths_of(small, mask, u):
    hashable = small._replace(params=None)
    return jax.device_get(weighted(hashable, small.params, mask, jnp.asarray(u)))


def test_formulas_are_those_of_all_paths(small, mask):
    u = abs(normal(1, *small.input_shape))
    vector = tuple(normal(2, *w.shape) for w in small.params)

    @quick_jit
    def formulas(params, mask):
        arguments, options = (small.apply, params, small.input_shape), {"u": u, "mask": mask}
        norms = [paths.path_norm(*arguments, power, **options) for power in (1, 2, 3)]
        logs = [paths.path_norm(*arguments, 2, log=True, **options), paths.trace(*arguments, log=True, **options)]
        product = paths.gram_product(*arguments, vector, **options)
        spectrum = paths.spectrum(*arguments, count=3, num_products=64, **options)
        return norms, paths.trace(*arguments, **options), logs, product, spectrum

    values, jacobian, start = paths_of(small, mask, u)
    norms, trace, logs, product, spectrum = formulas(small.params, mask)
    for power, norm in zip((1, 2, 3), norms, strict=True):
        close(norm, np.sum(abs(values) ** power * start))
    close(trace, np.sum(jacobian**2))
    close(logs, np.log([np.sum(values**2 * start), np.sum(jacobian**2)]))
    gram = jacobian.T @ jacobian
    close(flat(product), gram @ flat(vector))
    expected = np.sort(np.linalg.eigvalsh(gram))[::-1]
    distinct = expected[np.append(True, np.diff(expected) < -1e-9 * expected[0])][:3]
    close(spectrum[: len(distinct)], distinct)


def test_ones_are_the_input_unless_one_is_given(small):
    values, jacobian, _ = paths_of(small, None, np.ones(small.input_shape))
    close(paths.path_norm(small.apply, small.params, small.input_shape, 2), np.sum(values**2))
    close(paths.trace(small.apply, small.params, small.input_shape), np.sum(jacobian**2))


def mlp(params, x):
    for w in params[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ params[-1]


def test_a_weight_that_is_zero_counts():
    """TrΠ has the product of the other weights, not v_p/θ_i."""
    params = [jnp.array([[0.0]]), jnp.array([[3.0]]), jnp.array([[-2.0]])]
    assert paths.path_norm(mlp, params, (1,), 2) == 0
    assert paths.trace(mlp, params, (1,)) == 36
    assert paths.spectrum(mlp, params, (1,))[0] == pytest.approx(36, rel=1e-12)


def test_skip_connections_are_paths():
    """(1 + w_3 w_2) w_1 w_4 on scalars: a path through the skip and one through the branch."""

    def apply(p, x):
        x = jax.nn.relu(x @ p[0])
        return (x + jax.nn.relu(x @ p[1]) @ p[2]) @ p[3]

    params = [jnp.full((1, 1), value) for value in (2.0, 3.0, -5.0, 7.0)]
    assert paths.path_norm(apply, params, (1,), 1) == 2 * 7 + 2 * 3 * 5 * 7
    squares = np.array([4, 9, 25, 49])
    branch = sum(np.prod(squares) / s for s in squares)
    assert paths.trace(apply, params, (1,)) == pytest.approx(squares[0] + squares[3] + branch, rel=1e-14)


def test_pruned_away_to_nothing():
    params = [normal(0, 2, 3), normal(1, 3, 1)]
    nothing = [jnp.zeros((2, 3), bool), jnp.ones((3, 1), bool)]
    assert paths.path_norm(mlp, params, (2,), 2, mask=nothing) == 0
    assert paths.path_norm(mlp, params, (2,), 2, mask=nothing, log=True) == -np.inf
    assert paths.trace(mlp, params, (2,), mask=nothing) == 0
    np.testing.assert_array_equal(paths.spectrum(mlp, params, (2,), mask=nothing, count=2), [0, 0])


# --- Scale


@functools.cache
def deep():
    """Twenty layers of width 100 at a density of 1 %, with layers of very unequal scale."""
    rng = np.random.default_rng(0)
    scales = [1e-9, 1e-6, *[0.02] * 17, 1e12]
    params = [scale * rng.standard_normal((100, 100)) for scale in scales]
    # Two permutations a layer keep 1 % and a few more paths alive.
    kept = [np.eye(100)[rng.permutation(100)] > 0 for _ in scales]
    for m in kept:
        m[rng.integers(100, size=30), rng.integers(100, size=30)] = True
    return params, kept


def in_log(params, kept):
    """log R_1, log R_2, log TrΠ by products in float64, the scale of each layer apart."""
    found = []
    for power in (1, 2):
        forward, backward, scale = [np.ones(100)], [np.ones(100)], 0.0
        raised = [abs(w * m) ** power for w, m in zip(params, kept, strict=True)]
        units = [r.max() for r in raised]
        raised = [r / unit for r, unit in zip(raised, units, strict=True)]
        scale = np.sum(np.log(units))
        for r in raised:
            forward.append(forward[-1] @ r)
        for r in raised[::-1]:
            backward.append(r @ backward[-1])
        backward = backward[::-1]
        found.append(scale + np.log(forward[-1].sum()))
    terms = [
        scale - np.log(unit) + np.log(np.sum(np.outer(a, b) * m))
        for unit, a, b, m in zip(units, forward, backward[1:], kept, strict=False)
    ]
    return *found, np.logaddexp.reduce(terms)


def test_deep_and_sparse_in_float32():
    params, kept = deep()
    first, second, trace = in_log(params, kept)
    coarse = [jnp.asarray(w, jnp.float32) for w in params]
    options = {"mask": [jnp.asarray(m) for m in kept], "log": True}

    @quick_jit
    def found(params):
        return [
            *(paths.path_norm(mlp, params, (100,), power, **options) for power in (1, 2)),
            paths.trace(mlp, params, (100,), **options),
        ]

    logarithms = jnp.stack(found(coarse))
    assert logarithms.dtype == jnp.float32
    np.testing.assert_allclose(logarithms, [first, second, trace], atol=1e-4)
    assert second < -88 * 1.2  # not representable itself


@pytest.mark.parametrize("dead", ["no output", "no input"])
def test_heavy_weights_on_no_path_have_no_say_in_the_scale(dead):
    """One path of weights 0.1 beside chains of ones that are cut off: R_2 = 10^-40 and TrΠ = λ_1 = 20 · 10^-38."""
    kept = [jnp.eye(3) > 0] * 20
    kept[-1 if dead == "no output" else 0] = jnp.diag(jnp.array([1, 0, 0])) > 0
    params = [jnp.diag(jnp.array([0.1, 1.0, 1e3], jnp.float32))] * 20

    @quick_jit
    def found(params, kept):
        options = {"mask": kept, "log": True}
        norm, trace = paths.path_norm(mlp, params, (3,), 2, **options), paths.trace(mlp, params, (3,), **options)
        return norm, trace, *paths.spectrum(mlp, params, (3,), num_products=3, **options)

    expected = np.log(10) * np.array([-40, -38, -38]) + np.log([1, 20, 20])
    np.testing.assert_allclose(found(params, kept), expected, atol=1e-4)


def test_a_million_weights():
    """λ_1 lies in the bracket max G_ii ≤ λ_1 ≤ Σ_l max_{i∈l} G_ii and ≥ L²R_2/‖θ‖²; twice the products agree."""
    rng = np.random.default_rng(0)
    sizes = (64, 700, 1280, 10)
    params = [
        jnp.asarray(rng.standard_normal((a, b)) * np.sqrt(2 / a), jnp.float32)
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    assert sum(w.size for w in params) > 9.5e5
    top = paths.spectrum(mlp, params, (64,), num_products=12)
    again = paths.spectrum(mlp, params, (64,), num_products=24)
    np.testing.assert_allclose(top, again, rtol=2e-2)
    squares = [np.asarray(w, float) ** 2 for w in params]
    forward = [np.ones(64), squares[0].sum(0), squares[0].sum(0) @ squares[1]]
    backward = [squares[1] @ squares[2].sum(1), squares[2].sum(1), np.ones(10)]
    most = [a.max() * b.max() for a, b in zip(forward, backward, strict=True)]
    norm = (forward[-1] @ squares[2]).sum()
    least = max(*most, 9 * norm / sum(s.sum() for s in squares))
    assert least < again[0] < sum(most)


# --- Transformations


def test_jit_and_vmap(small):
    stacked = jax.tree.map(lambda w: jnp.stack([w, 2 * w, w**2]), small.params)
    masks = jax.tree.map(lambda w: w > 0, stacked)

    def both(params, mask):
        arguments = small.apply, params, small.input_shape
        return paths.path_norm(*arguments, 2, mask=mask), paths.trace(*arguments, mask=mask)

    every = jax.jit(jax.vmap(both))(stacked, masks)
    for at in range(3):
        alone = both(*taken((stacked, masks), at))
        close([leaf[at] for leaf in every], alone, 1e-14)


def test_the_norm_is_differentiable(small):
    values, jacobian, _ = paths_of(small, None, np.ones(small.input_shape))
    gradient = jax.grad(lambda params: paths.path_norm(small.apply, params, small.input_shape, 2))(small.params)
    close(flat(gradient), 2 * values @ jacobian)


# --- What has no paths

ONE = jnp.ones((2, 2))


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda p, x: jnp.tanh(x @ p) @ p, "apply uses tanh"),
        (lambda p, x: jax.nn.gelu(x @ p) @ p, "apply uses"),
        (lambda p, x: jax.nn.leaky_relu(x @ p) @ p, "apply uses"),
        (lambda p, x: x @ p + 1.0, "apply adds a bias or a shift"),
        (lambda p, x: x @ p + p[0], "apply adds a bias or a shift"),
        (lambda p, x: (x @ p) * (x @ p), "apply multiplies two functions of x"),
        (lambda p, x: (x @ p) ** 2, "apply uses"),
        (lambda p, x: nn.max_pool((x @ p)[..., None], (2,)), r"apply takes a maximum \(max pooling\)"),
        (lambda p, x: jnp.max(x @ p, axis=1, keepdims=True), r"apply takes a maximum"),
        (lambda p, x: x @ jax.nn.relu(p), "apply uses max in a way that has no paths"),
        (lambda p, x: p, "apply returns what does not depend on x"),
    ],
)
def test_what_has_no_paths_is_refused(apply, message):
    for function in (paths.trace, paths.spectrum, functools.partial(paths.path_norm, power=1)):
        with pytest.raises(ValueError, match=message):
            function(apply, ONE, (2,))


@pytest.mark.parametrize("apply", [lambda p, x: x @ (p * p), lambda p, x: jax.nn.relu(x @ p) @ p.T])
def test_weights_that_a_path_uses_twice(apply):
    """R_q is a sum over paths all the same; of their derivatives the formulas would be wrong."""
    for function in (paths.trace, paths.spectrum, functools.partial(paths.gram_product, vector=ONE)):
        with pytest.raises(ValueError, match="apply uses a weight twice on a path"):
            function(apply, ONE, (2,))
    weight = jnp.array([[3.0]])
    assert paths.path_norm(apply, weight, (1,), 2) == 81


def test_a_vector_may_float_where_the_parameters_do_not():
    params = {"n": jnp.ones(1, int), "w": jnp.array([[2.0], [3.0]])}
    vector = {"n": jnp.ones(1), "w": jnp.array([[5.0], [7.0]])}
    product = paths.gram_product(lambda p, x: x @ p["w"], params, (2,), vector)
    assert not product["n"].any()
    close(product["w"], vector["w"])


def test_one_array_of_all_weights():
    """Entries that layers take from one array are different weights; so are uses side by side."""
    packed, alone = normal(0, 8), [normal(0, 8)[:4].reshape(2, 2), normal(0, 8)[4:].reshape(2, 2)]

    def apply(p, x):
        return jax.nn.relu(x @ p[:4].reshape(2, 2)) @ p[np.arange(4, 8).reshape(2, 2)]

    close(paths.trace(apply, packed, (2,)), paths.trace(mlp, alone, (2,)))
    close(paths.trace(lambda p, x: x @ p + x @ p, ONE, (2,)), 2 * paths.trace(lambda p, x: x @ p, ONE, (2,)))


def test_normalisation_by_zero_means_is_a_scale():
    norm = nn.BatchNorm(use_running_average=True, use_bias=False, epsilon=0.0)
    state = {"mean": jnp.zeros(2), "var": jnp.array([4.0, 9.0])}

    def apply(params, x):
        return jnp.asarray(norm.apply({"params": {"scale": params[1]}, "batch_stats": state}, x @ params[0]))

    params = [jnp.array([[2.0, 3.0]]), jnp.array([5.0, 7.0])]
    expected = (5**2 + 2**2) / 4 + (7**2 + 3**2) / 9
    close(paths.trace(apply, params, (1,)), expected)
    state["mean"] = jnp.ones(2)
    with pytest.raises(ValueError, match="batch normalisation that only scales"):
        paths.path_norm(lambda params, x: apply(params, x), params, (1,), 1)


def test_normalisation_is_refused():
    norm = nn.BatchNorm(use_running_average=True)
    state = {"mean": jnp.zeros(2), "var": jnp.ones(2)}

    def apply(params, x):
        variables = {"params": {"scale": params[1], "bias": params[2]}, "batch_stats": state}
        return jnp.asarray(norm.apply(variables, x @ params[0]))

    with pytest.raises(ValueError, match="bias-free network, with batch normalisation that only scales"):
        paths.trace(apply, [ONE, jnp.ones(2), jnp.zeros(2)], (2,))


def test_arguments_are_checked():
    apply = mlp
    params = [ONE, ONE]
    with pytest.raises(ValueError, match=r"u has shape \(3,\); it takes input_shape, \(2,\)"):
        paths.trace(apply, params, (2,), u=jnp.ones(3))
    with pytest.raises(ValueError, match="u has the entry -1.0; it takes numbers >= 0"):
        paths.trace(apply, params, (2,), u=-jnp.ones(2))
    with pytest.raises(ValueError, match="power is 0; it takes a whole number >= 1"):
        paths.path_norm(apply, params, (2,), 0)
    with pytest.raises(ValueError, match="count is 40; it takes 1 to num_products = 32"):
        paths.spectrum(apply, params, (2,), count=40)
    with pytest.raises(ValueError, match=r"mask\[0\] has shape \(3, 2\); it takes params' \(2, 2\)"):
        paths.trace(apply, params, (2,), mask=[jnp.ones((3, 2)), ONE])
    for vector in ([ONE, jnp.ones(2)], [ONE], ONE):
        with pytest.raises(ValueError, match=r"vector has the shapes .*; it takes those of params, \[\(2, 2\), "):
            paths.gram_product(apply, params, (2,), vector)
    with pytest.raises(ValueError, match="params has no floating leaf"):
        paths.trace(apply, [jnp.ones((2, 2), int)], (2,))
