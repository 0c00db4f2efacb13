"""Perceptrons as layers: what they compute, and the same function without biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import lottery, masks, models

rng = np.random.default_rng(0)
NETWORK = tuple(
    lottery.Dense(jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=shape[1])))
    for shape in [(3, 5), (5, 4), (4, 2)]
)
X = jnp.asarray(rng.normal(size=(6, 3)))


def test_apply_is_the_network_of_the_models():
    model = models.mlp(5, 4, 2)
    params = {f"Dense_{i}": {"kernel": layer.kernel, "bias": layer.bias} for i, layer in enumerate(NETWORK)}
    expected = model.apply({"params": params}, X)
    np.testing.assert_allclose(lottery.apply(lottery.from_flax(params), X), expected, rtol=1e-12)


def test_from_flax_orders_by_number_and_fills_in_biases():
    kernels = {f"Dense_{i}": {"kernel": jnp.full((1, 1), float(i))} for i in range(12)}
    layers = lottery.from_flax({name: kernels[name] for name in sorted(kernels)})
    assert [float(layer.kernel[0, 0]) for layer in layers] == list(range(12))
    assert all(layer.bias.tolist() == [0] for layer in layers)


def test_fold_biases_is_the_same_function_of_one_more_input():
    kernels = lottery.fold_biases(NETWORK)
    folded = [lottery.Dense(kernel, jnp.zeros(kernel.shape[1])) for kernel in kernels]
    with_ones = jnp.concatenate([X, jnp.ones((6, 1))], axis=1)
    np.testing.assert_allclose(lottery.apply(folded, with_ones), lottery.apply(NETWORK, X), rtol=1e-12)


def test_layers_are_parameters_like_any_other():
    assert masks.prunable(NETWORK) == tuple(lottery.Dense(kernel=True, bias=False) for _ in NETWORK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lottery.apply((), X), "layers has no layers; it takes at least one"),
        (lambda: lottery.apply(NETWORK[::2], X), r"layers\[1\] has 4 inputs; it takes 5"),
        (lambda: lottery.fold_biases([NETWORK[0], NETWORK[2]]), r"layers\[1\] has 4 inputs; it takes 5, the units"),
        (lambda: lottery.from_flax({"head": {"kernel": jnp.ones((1, 1))}}), "params has 'head'; it takes dense layers"),
        (lambda: lottery.from_flax({"scale_0": jnp.ones(3)}), "params has 'scale_0'; it takes dense layers"),
        (lambda: lottery.apply([NETWORK[0]._replace(bias=None)], X), r"layers\[0\].bias is None; it takes \[5\]"),
        (lambda: lottery.from_flax({"Conv_0": {"kernel": jnp.ones((3, 3, 1, 1))}}), "params has 'Conv_0'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_apply_under_jit_is_eager():
    np.testing.assert_allclose(jax.jit(lottery.apply)(NETWORK, X), lottery.apply(NETWORK, X), rtol=1e-13)
