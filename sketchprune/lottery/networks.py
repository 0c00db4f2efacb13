"""Multilayer perceptrons as sequences of dense layers: what the constructions of this folder take and return."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs

Kernel = Float[Array | np.ndarray, "_ _"]
"""The weights of a dense layer, [inputs, units]."""


class Dense(NamedTuple):
    """One dense layer, x ↦ x·kernel + bias. A sequence of them is a pytree of parameters.

    Attributes:
        kernel: [inputs, units].
        bias: [units].
    """

    kernel: Any
    bias: Any


@checked
def apply(layers: Sequence[Dense], x: Float[Array, "n inputs"]) -> Float[Array, "n units"]:
    """The outputs of a network with ReLU between its layers and none after the last.

    The constructions promise what this function computes; it fits the library's ``apply(params, x)``.

    Args:
        layers: the network, first layer first.
        x: [n, inputs], the samples in rows.

    Returns:
        [n, units of the last layer].

    Raises:
        ValueError: kernels that do not fit together, or a layer without a bias for each unit.

    Cost: O(n) times the number of weights.

    >>> network = (Dense(jnp.eye(2), jnp.array([0.0, -3.0])), Dense(jnp.ones((2, 1)), jnp.ones(1)))
    >>> apply(network, jnp.array([[1.0, 2.0], [1.0, 5.0]])).tolist()
    [[2.0], [4.0]]
    """
    _inputs.network("layers", layers)
    for layer in layers[:-1]:
        x = jax.nn.relu(product(x, jnp.asarray(layer.kernel)) + layer.bias)
    return product(x, jnp.asarray(layers[-1].kernel)) + layers[-1].bias


@checked
def from_flax(params: Mapping[str, Any]) -> tuple[Dense, ...]:
    """The layers of a flax perceptron such as ``models.mlp``, in the order of the numbers in their names.

    Dense_10 comes after Dense_9. A layer without a bias gets zeros. Networks with ``ntk=True``, which hold a factor
    in their forward pass, are other functions of the same parameters: multiply their kernels by it.

    Args:
        params: {"Dense_0": {"kernel": [inputs, units], "bias": [units]}, …}, the collection "params".

    Returns:
        One :class:`Dense` for each layer.

    Raises:
        ValueError: a name without a number at its end, or a layer that is not dense.

    Cost: O(number of layers).

    >>> layers = from_flax({"Dense_1": {"kernel": jnp.ones((3, 1))}, "Dense_0": {"kernel": jnp.ones((2, 3))}})
    >>> [layer.kernel.shape for layer in layers]
    [(2, 3), (3, 1)]
    """
    layers = {}
    for name, layer in params.items():
        number = re.search(r"\d+$", name)
        if number is None or not isinstance(layer, Mapping) or jnp.ndim(layer.get("kernel", 0)) != 2:
            raise ValueError(f"params has {name!r}; it takes dense layers with numbered names, such as 'Dense_0'")
        kernel = layer["kernel"]
        layers[int(number[0])] = Dense(kernel, layer.get("bias", jnp.zeros(kernel.shape[1], kernel.dtype)))
    return tuple(layers[number] for number in sorted(layers))


@checked
def fold_biases(layers: Sequence[Dense]) -> tuple[Float[Array, "_ _"], ...]:
    """The kernels of a network without biases that is the same function of (x, 1).

    Each kernel W with bias b becomes [[W, 0], [b, 1]]: a last unit carries the constant 1, since relu(1) = 1. The
    last kernel becomes [[W], [b]]. Append a column of ones to x.

    Args:
        layers: the network.

    Returns:
        One kernel for each layer, [inputs + 1, units + 1], the last one [inputs + 1, units].

    Raises:
        ValueError: kernels that do not fit together, or a layer without a bias for each unit.

    Cost: O(number of weights).

    >>> network = (Dense(jnp.eye(1), jnp.array([2.0])), Dense(jnp.full((1, 1), 3.0), jnp.array([4.0])))
    >>> [kernel.tolist() for kernel in fold_biases(network)]
    [[[1.0, 0.0], [2.0, 1.0]], [[3.0], [4.0]]]
    """
    _inputs.network("layers", layers)
    folded = [jnp.concatenate([layer.kernel, layer.bias[None]]) for layer in layers]
    constants = [jnp.zeros((len(kernel), 1), kernel.dtype).at[-1].set(1) for kernel in folded[:-1]]
    hidden = [jnp.concatenate(pair, axis=1) for pair in zip(folded, constants, strict=False)]
    return (*hidden, folded[-1])
