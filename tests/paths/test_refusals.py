"""Networks that have no path kernel are refused, and so are arguments that do not fit."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from sketchprune import paths
from tests.support import close
from tests.support.path_networks import relu_network

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
    apply, params = relu_network, [ONE, ONE]
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
    for vector, message in (
        ([ONE, jnp.ones(2)], r"vector\[1\] has shape \(2,\); it takes that of params, \(2, 2\)"),
        ([ONE], r"vector has no leaf \[1\]; it takes the structure of params"),
        (ONE, "vector is one leaf; it takes the structure of params"),
    ):
        with pytest.raises(ValueError, match=message):
            paths.gram_product(apply, params, (2,), vector)
    with pytest.raises(ValueError, match="params has no floating leaf"):
        paths.trace(apply, [jnp.ones((2, 2), int)], (2,))
