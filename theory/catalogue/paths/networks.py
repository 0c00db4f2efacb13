"""Bias-free networks, edge by edge: the record of which all instances of the ``paths/`` family are made.

A layer is a matrix with the entries W_l[in, out] = c[in, out] θ[index[in, out]]. Dense layers are of this form, and so
are convolutions (here one-dimensional, with padding, stride, overlap, shared kernels, and average pooling). Instances
of both kinds therefore have one shape, and are so small that all of their paths can be listed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

WIDTHS = (6, 4, 4, 2)
"""Inputs, hidden units and outputs of most cases: 192 paths over 48 weights."""
SHORT_WIDTHS = (3, 3, 2)
"""The same for the claims whose counterexamples are searched for through eigenvalues: 18 paths over 15 weights."""


class Net(struct.PyTreeNode):
    """A network and its data: numpy arrays when it is made, jax arrays in a program.

    P is the number of weights of a dense network of the same widths; a network with fewer weights leaves some unused.

    Attributes:
        theta: [P], the weights.
        kept: [P], 1 where a weight is used and not pruned, otherwise 0.
        indices: for each layer [in, out], the number of the weight on each edge.
        coefficients: for each layer [in, out], the fixed factor of each edge; 0 where there is no edge.
        in_layer: [L, P], 1 where the weight belongs to the layer.
        into_unit: [L−1, channels, P], 1 where the weight leads into the hidden unit (of a convolution: the channel).
        out_of_unit: [L−1, channels, P], 1 where the weight leads out of it.
        bias: [L−1, channels], used only by a mutant that gives the network biases.
        x: [n, d], the samples.
        y: [n, k], targets ±1.
        linear: whether the network has no activations.
        free_signs: [10], the weights whose signs are enumerated.
    """

    theta: Any
    kept: Any
    indices: tuple[Any, ...]
    coefficients: tuple[Any, ...]
    in_layer: Any
    into_unit: Any
    out_of_unit: Any
    bias: Any
    x: Any
    y: Any
    linear: Any
    free_signs: Any

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of inputs, of the hidden units of each layer, and of outputs."""
        return (self.indices[0].shape[-2], *(index.shape[-1] for index in self.indices))

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return len(self.indices)

    @property
    def masked(self) -> Float[Array, " P"]:
        """The weights under the mask."""
        return self.theta * self.kept

    def matrices(self, theta: Float[Array, " P"]) -> list[Float[Array, "_ _"]]:
        """The layers as matrices with these weights."""
        return [c * theta[index] for index, c in zip(self.indices, self.coefficients, strict=True)]

    def apply(self, theta: Float[Array, " P"], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The outputs of the network with ReLU."""
        return self.run(theta, x)[0]

    def apply_own(self, theta: Float[Array, " P"], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The outputs of the network with its own activation: ReLU, or none where the instance is linear."""
        return self.run(theta, x, activation=lambda h: jnp.where(self.linear, h, jax.nn.relu(h)))[0]

    def run(
        self,
        theta: Float[Array, " P"],
        x: Float[Array, "n d"],
        *,
        activation: Callable[[Array], Array] = jax.nn.relu,
        bias: Any = None,
    ) -> tuple[Float[Array, "n k"], list[Float[Array, "n _"]]]:
        """The outputs, and the pre-activations of each hidden layer."""
        preactivations = []
        *inner, last = self.matrices(theta)
        for at, matrix in enumerate(inner):
            preactivations.append(x @ matrix if bias is None else x @ matrix + bias[at])
            x = activation(preactivations[-1])
        return x @ last, preactivations

    def mean_power(self, power: int) -> Float[Array, " d"]:
        """The mean of |x|^q over the samples, an input u for the path norms."""
        return jnp.mean(abs(self.x) ** power, axis=0)


def logistic(outputs: Float[Array, "*n k"], targets: Float[Array, "*n k"]) -> Float[Array, ""]:
    """The loss Σ log(1 + e^{−yf}), which is smooth and not quadratic."""
    return jnp.sum(jnp.logaddexp(0, -targets * outputs))


def scored(net: Net, score: Callable[..., Array], **options: Any) -> Float[Array, " P"]:
    """A score of the library's on the network and its data; zero where pruned."""
    found = score(net.apply, logistic, net.theta, (net.x, net.y), mask=net.kept, **options)
    return jnp.where(net.kept > 0, found, 0)


class Topology(NamedTuple):
    """Which edges a network has.

    Attributes:
        indices: as in `Net`.
        coefficients: as in `Net`.
        channels: for each layer of hidden units, the channel that each unit belongs to.
    """

    indices: tuple[np.ndarray, ...]
    coefficients: tuple[np.ndarray, ...]
    channels: tuple[np.ndarray, ...]

    @property
    def size(self) -> int:
        """P: the number of weights, if every edge had one of its own."""
        return sum(index.size for index in self.indices)


def dense(widths: tuple[int, ...]) -> Topology:
    """Dense layers; every hidden unit is a channel of its own."""
    indices = []
    offset = 0
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        indices.append(offset + np.arange(inputs * outputs, dtype=np.int32).reshape(inputs, outputs))
        offset += inputs * outputs
    coefficients = tuple(np.ones(index.shape) for index in indices)
    return Topology(tuple(indices), coefficients, tuple(np.arange(width) for width in widths[1:-1]))


def convolutional() -> Topology:
    """Two convolutions with shared kernels and two channels each, the mean over positions, and a dense layer.

    The first kernel has 4 taps, with stride 3 and padding 1; the second has 2 taps, with padding 1 on the left. There
    are 20 weights in all.
    """
    indices = tuple(np.zeros((a, b), np.int32) for a, b in zip(WIDTHS, WIDTHS[1:], strict=False))
    coefficients = tuple(np.zeros(index.shape) for index in indices)

    def add_edge(layer: int, start: int, end: int, weight: int, coefficient: float = 1.0) -> None:
        indices[layer][start, end] = weight
        coefficients[layer][start, end] = coefficient

    for place, tap, channel in np.ndindex(2, 4, 2):
        if 0 <= (pixel := 3 * place + tap - 1) < WIDTHS[0]:
            add_edge(0, pixel, 2 * place + channel, 2 * tap + channel)
    for place, tap, before, after in np.ndindex(2, 2, 2, 2):
        if (source := place + tap - 1) >= 0:
            add_edge(1, 2 * source + before, 2 * place + after, 8 + 4 * tap + 2 * before + after)
    for place, channel, output in np.ndindex(2, 2, 2):
        add_edge(2, 2 * place + channel, output, 16 + 2 * channel + output, 0.5)
    return Topology(indices, coefficients, (np.arange(4) % 2,) * 2)


DENSE = dense(WIDTHS)
CONVOLUTIONAL = convolutional()
SHORT_DENSE = dense(SHORT_WIDTHS)
