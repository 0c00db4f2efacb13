"""Small bias-free networks, each as a function and as the layers whose paths can be listed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from sketchprune import paths


def _normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


class Small(NamedTuple):
    apply: Callable
    params: tuple
    input_shape: tuple[int, ...]
    layers: Callable[[Any], list]
    """From parameters to the layers that ``enumerate_paths`` takes."""

    def paths(self, params, mask=None):
        """All paths; the mask is shaped like ``params``, so layers without weights have no entry in it."""
        layers = self.layers(params)
        given = iter(params if mask is None else mask)
        masks = [None if isinstance(layer, paths.Edges) and layer.weights is None else next(given) for layer in layers]
        return paths.enumerate_paths(layers, None if mask is None else masks)


def relu_network(weights, x):
    """A dense ReLU network without biases, of any depth."""
    for w in weights[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ weights[-1]


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


SMALL_NETWORKS = {
    "linear": Small(lambda p, x: x @ p[0], (_normal(1, 4, 2),), (4,), list),
    "mlp": Small(relu_network, (_normal(2, 4, 3), _normal(3, 3, 3), _normal(4, 3, 2)), (4,), list),
    "scaled": Small(_scaled, (_normal(5, 3, 4), _normal(6, 4, 2), _normal(7, 2, 2)), (3,), _scaled_layers),
    "pooled": Small(_pooled, (_normal(8, 3, 3, 1, 2), _normal(9, 8, 2)), (4, 4, 1), _pooled_layers),
    "convs": Small(
        _two_convs,
        (_normal(10, 3, 3, 1, 2), _normal(11, 2, 2, 2, 2), _normal(12, 2, 3)),
        (5, 5, 1),
        _two_convs_layers,
    ),
}
