"""Removal of dead units: smaller networks with the outputs of the larger, and refusals of what is no chain."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import lottery, masks, models, prune
from tests.support import close, normal
from tests.support.pruning import BATCH, network

FEATURES, IMAGES = normal(1, 5, 4), normal(2, 3, 8, 8, 2)


def dense(params, x, activation=jax.nn.relu):
    """Any number of layers (kernel,) or (kernel, bias)."""
    for place, (kernel, *bias) in enumerate(params):
        x = sum(bias, x @ kernel)
        x = activation(x) if place < len(params) - 1 else x
    return x


def convolutional(params, x):
    """Convolutions with a bias or without one, pooling, flattening, dense layers."""
    for kernel, *bias in params["conv"]:
        x = models.patch_convolution(x, kernel) + sum(bias)
        x = jax.nn.relu(x).reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean(axis=(2, 4))
    return dense(params["dense"], x.reshape(len(x), -1))


def layers(seed, *widths, bias=True, filters=()):
    rng = np.random.default_rng(seed)
    return tuple(
        tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((*filters, m, n), (n,))[: 1 + bias])
        for m, n in zip(widths, widths[1:], strict=False)
    )


CONV = {"conv": layers(1, 2, 4, 5, filters=(3, 3)), "dense": layers(2, 20, 6, 3)}
NETWORKS = {
    "biased": (dense, layers(0, 4, 9, 8, 3), FEATURES),
    "unbiased": (dense, layers(0, 4, 9, 8, 3, bias=False), FEATURES),
    "mixed": (dense, (*layers(0, 4, 9), *layers(1, 9, 8, bias=False), *layers(2, 8, 3)), FEATURES),
    "convolutional": (convolutional, CONV, IMAGES),
    "one layer": (dense, layers(0, 4, 3), FEATURES),
}


def sparse(params, seed, density):
    """Boolean masks, of biases too, that cut off units on both sides."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.random(leaf.shape) < (density if leaf.ndim > 1 else 0.6), params)


def widths(params):
    return [leaf.shape[-1] for leaf in jax.tree.leaves(params) if leaf.ndim > 1]


@pytest.mark.parametrize("density", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_smaller_network_has_the_same_outputs(name, density):
    apply, params, x = NETWORKS[name]
    mask = sparse(params, 3, density)
    small, kept = prune.remove_dead_units(apply, params, mask, x)
    masked = masks.apply(params, mask)
    close(apply(small, x), apply(masked, x))
    assert jax.tree.structure(small) == jax.tree.structure(kept) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, masks.apply(small, kept), small)
    assert all(m.dtype == bool for m in jax.tree.leaves(kept))
    before, after = widths(params), widths(small)
    assert after[-1] == before[-1] and all(m <= n for m, n in zip(after, before, strict=True))
    if name not in ("one layer", "mixed") and density == 0.05:
        assert sum(after) < sum(before)
    again, _ = prune.remove_dead_units(apply, small, kept, x)
    assert widths(again) == after  # nothing is left to remove


def test_units_are_removed_that_removed_units_fed_or_used():
    """A chain of single edges: one cut at the start or at the end frees a unit of each layer."""
    params = layers(5, 3, 3, 3, 3, 3, bias=False)
    diagonal = [(np.eye(3, dtype=bool),) for _ in params]
    for layer, place in ((0, 0), (3, 2)):
        mask = [tuple(leaf.copy() for leaf in each) for each in diagonal]
        mask[layer][0][place, place] = False
        small, _ = prune.remove_dead_units(dense, params, tuple(mask), normal(6, 4, 3))
        assert widths(small) == [2, 2, 2, 3]
        close(dense(small, normal(6, 4, 3)), dense(masks.apply(params, tuple(mask)), normal(6, 4, 3)))


def test_a_constant_goes_into_the_bias_that_follows_or_stays():
    params = ((jnp.ones((2, 2)), jnp.array([3.0, -1.0])), (jnp.array([[5.0], [7.0]]), jnp.array([1.0])))
    mask = ((jnp.zeros((2, 2), bool), jnp.ones(2, bool)), (jnp.ones((2, 1), bool), jnp.zeros(1, bool)))
    x = jnp.ones((2, 2))
    small, kept = prune.remove_dead_units(dense, params, mask, x)
    assert small[1][1].tolist() == [15.0] and kept[1][1].tolist() == [True]  # 5·relu(3) + 7·relu(−1)
    assert widths(small) == [1, 1] and not small[0][0].any()  # one unit of each layer stays
    unbiased = ((params[0], params[1][:1]), (mask[0], mask[1][:1]))
    small, kept = prune.remove_dead_units(dense, *unbiased, x)
    assert widths(small) == [1, 1] and small[0][1].tolist() == [3.0]  # a constant that has no place to go
    close(dense(small, x), jnp.full((2, 1), 15.0))


def test_a_constant_channel_stays_before_a_convolution():
    """At the borders of the image a filter sees less of it."""
    mask = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), CONV)
    (first, bias), (second, bias_after) = CONV["conv"]
    mask["conv"][0][0][..., :2] = False
    params = CONV | {"conv": ((first, bias.at[0].set(1.0).at[1].set(-1.0)), (second, bias_after))}
    small, _ = prune.remove_dead_units(convolutional, params, mask, IMAGES)
    assert small["conv"][0][0].shape[3] == 3 and not small["conv"][0][0][..., 0].any()
    close(convolutional(small, IMAGES), convolutional(masks.apply(params, mask), IMAGES))


def test_other_activations_and_sketches():
    def apply(params, x):
        return dense(params, x, jax.nn.sigmoid)

    params, x = layers(7, 4, 9, 8, 3), FEATURES
    mask = jax.tree.map(lambda m: 2.5 * m, sparse(params, 8, 0.1))
    small, kept = prune.remove_dead_units(apply, params, mask, x, activation=jax.nn.sigmoid)
    assert sum(widths(small)) < sum(widths(params)) and kept[0][0].dtype == bool
    close(apply(small, x), apply(masks.apply(params, mask), x))
    with pytest.raises(ValueError, match="apply changes its outputs when dead units are cut off; it takes a chain"):
        prune.remove_dead_units(apply, params, mask, x)


def test_models_and_tickets_are_chains():
    apply, params = models.initial(models.mlp(12, 10, 3), jax.random.key(0), FEATURES)
    mask = {name: sparse(layer, 4, 0.1) for name, layer in params.items()}
    small, _ = prune.remove_dead_units(apply, params, mask, FEATURES)
    smaller = models.mlp(*(small[f"Dense_{i}"]["kernel"].shape[1] for i in range(3)))
    close(smaller.apply({"params": small}, FEATURES), apply(masks.apply(params, mask), FEATURES))
    dense_layers = lottery.from_flax(params)
    tickets = lottery.from_flax(mask)
    small_layers, _ = prune.remove_dead_units(lottery.apply, dense_layers, tickets, FEATURES)
    close(lottery.apply(small_layers, FEATURES), lottery.apply(masks.apply(dense_layers, tickets), FEATURES))
    lenet, params = models.initial(models.lenet(3), jax.random.key(0), IMAGES)
    mask = sparse(params, 5, 0.004)
    small, _ = prune.remove_dead_units(lenet, params, mask, IMAGES)
    assert (
        small["Conv_1"]["kernel"].shape[3] < 16
        and small["Dense_0"]["kernel"].shape[0] == 4 * (small["Conv_1"]["kernel"].shape[3])
    )


def test_the_dtype_stays():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), layers(0, 4, 9, 3))
    small, _ = prune.remove_dead_units(dense, params, sparse(params, 3, 0.2), FEATURES.astype(jnp.bfloat16))
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(small))


def shortcut(params, x):
    hidden = jax.nn.relu(x @ params["a"])
    return (hidden + jax.nn.relu(hidden @ params["b"])) @ params["c"]


def scaled(params, x):
    return jax.nn.relu(x @ params["a"] * params["scale"] + params["shift"]) @ params["c"]


PARAMS = {"a": normal(1, 4, 6), "b": normal(2, 6, 6), "c": normal(3, 6, 2)}


@pytest.mark.parametrize(
    ("apply", "params", "message"),
    [
        (shortcut, PARAMS, "apply changes its outputs when units of hidden layers change places"),
        (
            scaled,
            {"a": PARAMS["a"], "c": PARAMS["c"], "scale": jnp.ones(6), "shift": jnp.ones(6)},
            r"params\['shift'\] has shape \(6,\); it takes kernels",
        ),
        (network, PARAMS | {"unused": jnp.ones((5, 5))}, r"params\['unused'\] has shape \(5, 5\); it takes 2 inputs"),
        (network, PARAMS | {"d": jnp.ones((1, 2, 3))}, r"params\['d'\] has shape \(1, 2, 3\); it takes kernels"),
    ],
)
def test_what_is_no_chain_is_refused(apply, params, message):
    with pytest.raises(ValueError, match=message):
        prune.remove_dead_units(apply, params, jax.tree.map(jnp.ones_like, params), BATCH[0])


def test_a_residual_network_is_refused():
    apply, params = models.initial(models.resnet20(3, norm=False), jax.random.key(0), IMAGES)
    with pytest.raises(ValueError, match="apply changes its outputs when units of hidden layers change places"):
        prune.remove_dead_units(apply, params, jax.tree.map(jnp.ones_like, params), IMAGES)


class Normalised(nn.Module):
    """A dense layer, a norm with a scale and a shift, a dense layer."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.LayerNorm()(nn.Dense(6)(x))))


def test_a_norm_with_parameters_is_refused():
    apply, params = models.initial(Normalised(), jax.random.key(0), FEATURES)
    with pytest.raises(ValueError, match=r"params\['LayerNorm_0'\]\['.*'\] has shape \(6,\); it takes kernels"):
        prune.remove_dead_units(apply, params, jax.tree.map(jnp.ones_like, params), FEATURES)
