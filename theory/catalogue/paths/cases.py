"""Instances of bias-free networks, edge by edge: the cases on which the ``paths/`` family is tested.

A layer is a matrix of edges W_l[in, out] = c[in, out] θ[index[in, out]], so that dense and convolutional layers
(one-dimensional, with padding, stride, overlap and average pooling, their kernels shared) are instances of one
shape, small enough that every path is listed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from sketchprune.data import Dataset
from theory.catalogue.tangent.cases import SIDE, real
from theory.claim import Case

Rng = np.random.Generator

WIDTHS = (6, 4, 4, 2)
"""Inputs, hidden units, outputs: 192 paths over 48 weights."""
SHORT = (3, 3, 2)
"""Of the claims that take eigenvalues in a search: 18 paths over 15 weights."""
SAMPLES = 3
TRIES = 10_000
"""Draws of an instance until one is fit to be one."""
CLEAR = 1e-3
"""No pre-activation but 0 is smaller, relative to the largest: gates are the same in float32."""


class Net(struct.PyTreeNode):
    """A network and its data. numpy arrays when made, jax arrays in a program.

    Attributes:
        theta: [P], the weights; as many as a dense network has.
        kept: [P], 1 where a weight is there and not pruned, else 0.
        indices: for each layer [in, out], which weight an edge has.
        coefficients: for each layer [in, out], its fixed factor, 0 where there is no edge.
        layer: [L, P], 1 where the weight is in the layer.
        into: [L−1, channels, P], 1 where the weight leads into the hidden unit (of a convolution: the channel).
        out_of: [L−1, channels, P], the same where it leads out of it.
        bias: [L−1, channels], not of the network itself: for the mutants that have biases.
        x: [n, d].
        y: [n, k], ±1.
        linear: whether there are no activations.
        free: [10], weights whose signs are enumerated.
    """

    theta: Any
    kept: Any
    indices: tuple[Any, ...]
    coefficients: tuple[Any, ...]
    layer: Any
    into: Any
    out_of: Any
    bias: Any
    x: Any
    y: Any
    linear: Any
    free: Any

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.indices[0].shape[-2], *(index.shape[-1] for index in self.indices))

    @property
    def depth(self) -> int:
        return len(self.indices)

    @property
    def pruned(self) -> Float[Array, " P"]:
        """The weights, pruned."""
        return self.theta * self.kept

    def matrices(self, theta: Float[Array, " P"]) -> list[Float[Array, "in out"]]:
        return [c * theta[index] for index, c in zip(self.indices, self.coefficients, strict=True)]

    def apply(self, theta: Float[Array, " P"], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The network with ReLU."""
        return self.run(theta, x)[0]

    def apply_as_is(self, theta: Float[Array, " P"], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The network, without activations where the instance is linear."""
        return self.run(theta, x, phi=lambda h: jnp.where(self.linear, h, jax.nn.relu(h)))[0]

    def run(
        self, theta: Float[Array, " P"], x: Float[Array, "n d"], *, phi: Any = jax.nn.relu, bias: Any = None
    ) -> tuple[Float[Array, "n k"], list[Float[Array, "n units"]]]:
        """Outputs, and what goes into the activations."""
        hidden = []
        *inner, last = self.matrices(theta)
        for at, matrix in enumerate(inner):
            hidden.append(x @ matrix if bias is None else x @ matrix + bias[at])
            x = phi(hidden[-1])
        return x @ last, hidden

    def mean_power(self, power: int) -> Float[Array, " d"]:
        """The mean of |x|^q: the input of the claims without data."""
        return jnp.mean(abs(self.x) ** power, axis=0)


class Listed(NamedTuple):
    """All paths of a network, one by one.

    Attributes:
        units: for each layer of units, which of them a path runs through.
        values: [paths], v_p.
        jacobian: [paths, P], ∂v_p/∂θ_i over the kept weights: the product of the others.
        uses: [paths, P], 1 where a path runs over an edge with that kept weight.
    """

    units: list[np.ndarray]
    values: Float[Array, " paths"]
    jacobian: Float[Array, "paths P"]
    uses: Float[Array, "paths P"]

    @property
    def starts(self) -> np.ndarray:
        return self.units[0]


def listed(net: Net, theta: Float[Array, " P"] | None = None, kept: Float[Array, " P"] | None = None) -> Listed:
    """The paths of the pruned network; another ``theta`` or mask may be given."""
    weights: Array = net.theta if theta is None else theta
    present: Array = net.kept if kept is None else kept
    units = [axis.ravel() for axis in np.indices(net.widths)]
    steps = list(zip(net.indices, net.coefficients, units, units[1:], strict=False))
    chosen = [index[start, end] for index, _, start, end in steps]
    fixed = [c[start, end] for _, c, start, end in steps]
    factors = [c * (weights * present)[weight] for c, weight in zip(fixed, chosen, strict=True)]
    jacobian = uses = jnp.zeros((units[0].size, weights.size), weights.dtype)
    for at, (weight, c) in enumerate(zip(chosen, fixed, strict=True)):
        others = c
        for k, factor in enumerate(factors):
            others = others if k == at else others * factor
        column = (weight[:, None] == jnp.arange(weights.size)) * present
        jacobian = jacobian + others[:, None] * column
        uses = uses + (c != 0)[:, None] * column
    values = factors[0]
    for factor in factors[1:]:
        values = values * factor
    return Listed(units, values, jacobian, uses)


def features(net: Net, paths: Listed, hidden: list[Float[Array, "n units"]], x: Array) -> Float[Array, "N paths"]:
    """∂f_k/∂v_p at each sample: the path's input where all its gates are open and it ends in k; N = n * k.

    A path with a weight that is pruned is none of the network's.
    """
    active = jnp.where(jnp.sum(paths.uses, axis=1) == net.depth, x[:, paths.starts], 0)
    for units, before in zip(paths.units[1:-1], hidden, strict=True):
        active = active * (before > 0)[:, units]
    ends = paths.units[-1] == np.arange(net.widths[-1])[:, None]
    return (active[:, None] * ends).reshape(-1, ends.shape[1])


def path_features(net: Net, paths: Listed) -> Float[Array, "N paths"]:
    """J_v^f of the network itself."""
    return features(net, paths, net.run(net.pruned, net.x)[1], net.x)


def weighted(paths: Listed, u: Float[Array, " d"]) -> Float[Array, "paths P"]:
    """J_θ^v with √u of the input that a path starts from: what is squared is weighted by u."""
    return jnp.sqrt(u)[paths.starts][:, None] * paths.jacobian


def logistic(outputs: Float[Array, "n k"], targets: Float[Array, "n k"]) -> Float[Array, ""]:
    """Σ log(1 + e^{−yf}): smooth, and not quadratic."""
    return jnp.sum(jnp.logaddexp(0, -targets * outputs))


def scored(net: Net, score: Callable[..., Array], **options: Any) -> Float[Array, " P"]:
    """A library's score, zero where pruned."""
    found = score(net.apply, logistic, net.theta, (net.x, net.y), mask=net.kept, **options)
    return jnp.where(net.kept > 0, found, 0)


# --- Topologies


class Topology(NamedTuple):
    indices: tuple[np.ndarray, ...]
    coefficients: tuple[np.ndarray, ...]
    channels: tuple[np.ndarray, ...]
    """For each layer of hidden units, which channel a unit is of."""


def dense(widths: tuple[int, ...]) -> Topology:
    indices, offset = [], 0
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        indices.append(offset + np.arange(inputs * outputs, dtype=np.int32).reshape(inputs, outputs))
        offset += inputs * outputs
    return Topology(
        tuple(indices), tuple(np.ones(index.shape) for index in indices), tuple(np.arange(n) for n in widths[1:-1])
    )


def convolutional() -> Topology:
    """Two convolutions with two channels each, of shared kernels, the mean over positions, and a dense layer.

    The first has 4 taps, stride 3 and padding 1, the second 2 taps and padding 1 on the left: 20 weights.
    """
    indices = tuple(np.zeros((a, b), np.int32) for a, b in zip(WIDTHS, WIDTHS[1:], strict=False))
    coefficients = tuple(np.zeros(index.shape) for index in indices)

    def edge(layer: int, start: int, end: int, weight: int, coefficient: float = 1.0) -> None:
        indices[layer][start, end], coefficients[layer][start, end] = weight, coefficient

    for place, tap, channel in np.ndindex(2, 4, 2):
        if 0 <= (pixel := 3 * place + tap - 1) < WIDTHS[0]:
            edge(0, pixel, 2 * place + channel, 2 * tap + channel)
    for place, tap, before, after in np.ndindex(2, 2, 2, 2):
        if (source := place + tap - 1) >= 0:
            edge(1, 2 * source + before, 2 * place + after, 8 + 4 * tap + 2 * before + after)
    for place, channel, output in np.ndindex(2, 2, 2):
        edge(2, 2 * place + channel, output, 16 + 2 * channel + output, 0.5)
    return Topology(indices, coefficients, (np.arange(4) % 2,) * 2)


DENSE, CONVOLUTIONAL, SMALL = dense(WIDTHS), convolutional(), dense(SHORT)


def complete(
    rng: Rng,
    inputs: Callable[[], np.ndarray],
    topology: Topology = DENSE,
    *,
    density: float = 1.0,
    linear: bool = False,
    theta: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> Net:
    """An instance: He-normal weights away from zero, each kept with the density.

    Draws inputs, weights and mask until a path is live and every pre-activation is clear of zero.
    """
    size = sum(index.size for index in topology.indices)
    members = np.zeros((len(topology.indices), size))
    into, out_of = (np.zeros((len(topology.channels), max(c.size for c in topology.channels), size)) for _ in range(2))
    for at, (index, c) in enumerate(zip(topology.indices, topology.coefficients, strict=True)):
        members[at, index[c != 0]] = 1
        start, end = np.nonzero(c)
        if at < len(topology.channels):
            into[at, topology.channels[at][end], index[start, end]] = 1
        if at:
            out_of[at - 1, topology.channels[at - 1][start], index[start, end]] = 1
    fan_in = np.ones(size)
    for index, c in zip(topology.indices, topology.coefficients, strict=True):
        fan_in[index[c != 0]] = (c != 0).sum(axis=0).max()
    for _ in range(TRIES):
        x = inputs()
        drawn = rng.standard_normal(size)
        weights = np.sign(drawn) * (abs(drawn) + 0.05) * np.sqrt(2 / fan_in) if theta is None else theta
        chosen = (rng.random(size) < density if kept is None else kept) * members.sum(axis=0)
        matrices = [
            c * (weights * chosen)[index]
            for index, c in zip(topology.indices, topology.coefficients, strict=True)
        ]  # fmt: skip
        live, hidden, clear = np.ones(x.shape[1]), x, True
        for matrix in matrices:
            live, hidden = live @ abs(matrix), hidden @ matrix
            size_of = abs(hidden).max()
            clear &= not ((abs(hidden) > 0) & (abs(hidden) < CLEAR * size_of)).any()
            hidden = hidden if linear else np.maximum(hidden, 0)
        if live.any() and clear:
            break
    else:
        raise ValueError(f"data: {TRIES} draws gave no network with a live path and no unit close to zero")
    free = np.flatnonzero(chosen)[:10]
    return Net(
        theta=weights,
        kept=chosen,
        indices=topology.indices,
        coefficients=topology.coefficients,
        layer=members,
        into=into,
        out_of=out_of,
        bias=rng.standard_normal((len(topology.channels), into.shape[1])),
        x=x,
        y=rng.choice([-1.0, 1.0], (len(x), topology.indices[-1].shape[1])),
        linear=np.asarray(linear),
        free=np.resize(free, 10),
    )


def pixels(rng: Rng, dataset: Dataset, count: int = WIDTHS[0], samples: int = SAMPLES) -> np.ndarray:
    """Neighbours in one row of standardised images, none of them blank in all; [samples, count]."""
    for _ in range(TRIES):
        images, _ = real(rng, dataset, samples)
        row, column = rng.integers(1, SIDE - 1), rng.integers(0, SIDE - count + 1)
        chosen = images[:, row, column : column + count]
        if (abs(chosen).max(axis=1) > 0).all():
            return chosen
    raise ValueError(
        f"data: {TRIES} draws gave no {count} neighbouring pixels that are not blank; takes data that vary"
    )


def gaussian(rng: Rng, count: int = WIDTHS[0], samples: int = SAMPLES) -> np.ndarray:
    return rng.standard_normal((samples, count))


def _mlp_gaussian(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: gaussian(rng))


def _mlp_masked(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: gaussian(rng), density=rng.uniform(0.4, 0.9))


def _mlp_real(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: pixels(rng, dataset), density=rng.choice([1.0, 0.7]))


def _conv_real(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: pixels(rng, dataset), CONVOLUTIONAL, density=rng.choice([1.0, 0.8]))


ALL = (
    Case("mlp-gaussian", _mlp_gaussian),
    Case("mlp-masked", _mlp_masked),
    Case("mlp-{data}", _mlp_real),
    Case("conv-{data}", _conv_real),
)
MLPS = ALL[:3]


def _small_gaussian(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: gaussian(rng, SHORT[0]), SMALL, density=rng.choice([1.0, 0.7]))


def _small_real(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: pixels(rng, dataset, SHORT[0]), SMALL)


def _chain(rng: Rng, dataset: Dataset) -> Net:
    """One path, of positive weights, and positive inputs."""
    kept = np.zeros(sum(index.size for index in SMALL.indices))
    kept[[index[0, 0] for index in SMALL.indices]] = 1
    return complete(
        rng,
        lambda: rng.uniform(0.5, 2, (SAMPLES, SHORT[0])),
        SMALL,
        theta=rng.uniform(0.5, 2, kept.size),
        kept=kept,
    )


EIGEN = (Case("gaussian", _small_gaussian), Case("{data}", _small_real), Case("chain", _chain))
