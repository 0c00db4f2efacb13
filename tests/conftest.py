"""What several test files share: small bias-free networks, each as a function and as layers whose paths can be
enumerated; and JAX's settings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import paths

SETTINGS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(scope="module")
def jax_settings(tmp_path_factory):
    """For modules that run a command: a compilation cache of their own, turned off, and JAX's settings put back."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_enable_compilation_cache", False)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


class Small(NamedTuple):
    apply: Callable
    params: tuple
    input_shape: tuple[int, ...]
    layers: Callable[[Any], list]
    """From parameters to what ``enumerate_paths`` takes; None among the masks of layers without weights."""

    def paths(self, params, mask=None):
        layers = self.layers(params)
        given = iter(params if mask is None else mask)
        masks = [None if isinstance(layer, paths.Edges) and layer.weights is None else next(given) for layer in layers]
        return paths.enumerate_paths(layers, None if mask is None else masks)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def _mlp(p, x):
    for w in p[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ p[-1]


def _scaled(p, x):
    for w in p[:-1]:
        x = jax.nn.relu(np.sqrt(2 / w.shape[0]) * (x @ w))
    return x @ p[-1] / 3


def _scaled_layers(p):
    return [
        paths.Edges(w, np.arange(w.size).reshape(w.shape), np.full(w.shape, scale), w.shape[1:])
        for w, scale in zip(p, [*(np.sqrt(2 / w.shape[0]) for w in p[:-1]), 1 / 3], strict=True)
    ]


def _conv(w, strides, padding):
    layer = nn.Conv(w.shape[-1], w.shape[:2], strides=strides, padding=padding, use_bias=False)
    return lambda x: layer.apply({"params": {"kernel": w}}, x)


def _pooled(p, x):
    x = nn.relu(_conv(p[0], 1, "SAME")(x))
    x = nn.avg_pool(x, (2, 2), (2, 2))
    return x.reshape(len(x), -1) @ p[1]


def _pooled_layers(p):
    first = paths.convolution(p[0], (4, 4, 1))
    return [first, paths.average_pooling(first.output_shape, (2, 2)), p[1]]


def _two_convs(p, x):
    x = nn.relu(_conv(p[0], 2, "VALID")(x))
    x = nn.relu(_conv(p[1], 1, [(1, 0), (0, 1)])(x))
    return x.mean((1, 2)) @ p[2]


def _two_convs_layers(p):
    first = paths.convolution(p[0], (5, 5, 1), strides=(2, 2), padding="VALID")
    second = paths.convolution(p[1], first.output_shape, padding=[(1, 0), (0, 1)])
    return [first, second, paths.average_pooling(second.output_shape, second.output_shape[:2]), p[2]]


NETWORKS = {
    "linear": Small(lambda p, x: x @ p[0], (normal(1, 4, 2),), (4,), list),
    "mlp": Small(_mlp, (normal(2, 4, 3), normal(3, 3, 3), normal(4, 3, 2)), (4,), list),
    "scaled": Small(_scaled, (normal(5, 3, 4), normal(6, 4, 2), normal(7, 2, 2)), (3,), _scaled_layers),
    "pooled": Small(_pooled, (normal(8, 3, 3, 1, 2), normal(9, 8, 2)), (4, 4, 1), _pooled_layers),
    "convs": Small(
        _two_convs,
        (normal(10, 3, 3, 1, 2), normal(11, 2, 2, 2, 2), normal(12, 2, 3)),
        (5, 5, 1),
        _two_convs_layers,
    ),
}


@pytest.fixture(params=NETWORKS)
def small(request):
    """One network after another."""
    network = NETWORKS[request.param]
    return network._replace(params=tuple(jnp.asarray(w) for w in network.params))


@pytest.fixture(params=["dense", "pruned"])
def mask(request, small):
    """No mask; or one that selects in the first layer and is a sketch of the others."""
    rng = np.random.default_rng(20)
    first, *others = [rng.random(w.shape) < 0.6 for w in small.params]
    return None if request.param == "dense" else (first, *(kept * rng.uniform(0.5, 2, kept.shape) for kept in others))
