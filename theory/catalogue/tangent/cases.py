"""Instances of networks at initialisation: the cases on which the ``tangent/`` family is tested.

Small networks without biases on few samples, so that the whole Jacobian J fits in a trial. J is evaluated once an
instance, at the dense initial weights.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from sketchprune import laws, sketch
from sketchprune.data import Dataset
from theory.claim import Case

Rng = np.random.Generator

SIDE = 8
"""Images are brought to so many pixels a side."""
SAMPLES, OUTPUTS, HIDDEN = 5, 2, 8
BUDGET = 8
"""Draws of a multinomial mask at most, where budgets are not large on purpose."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class Network(struct.PyTreeNode):
    """A network, its data, and what a mask law needs.

    numpy arrays when made, jax arrays in a program.

    Attributes:
        layers: weights: dense [inputs, outputs]; a convolution's [rows, columns, channels] comes first.
        x: [n, d], or [n, height, width] under a convolution.
        y: [n, k].
        tilt: [P], probabilities (sum one) that owe nothing to J.
        beta: in (0, 1]; β p* + (1−β) tilt is a β-near-optimal law.
        budget: draws s, at least 1 and at most ``most``.
        density: in (0, 1), of random pruning.
        special: a claim's own switch: what it does to an instance is said there.
        activation: of the hidden layers, static.
        most: the largest budget of the case, static.
    """

    layers: tuple[Any, ...]
    x: Any
    y: Any
    tilt: Any
    beta: Any
    budget: Any
    density: Any
    special: Any
    activation: str = struct.field(pytree_node=False, default="relu")
    most: int = struct.field(pytree_node=False, default=BUDGET)


Weights = tuple[Array, ...]


def apply_with(activation: str) -> Callable[[Weights, Array], Array]:
    """``apply(layers, x) -> [n, k]`` of the networks with that activation; one function for each."""
    return _APPLY[activation]


def _network(phi: Callable[[Array], Array]) -> Callable[[Weights, Array], Array]:
    def apply(layers: Weights, x: Array) -> Array:
        first, *rest = layers
        if first.ndim == 3:
            x = phi(jnp.einsum("nhwij,ijc->nhwc", patches(x, first.shape[:2]), first)).reshape(len(x), -1)
        else:
            x = x @ first
            x = phi(x) if rest else x
        for index, layer in enumerate(rest):
            x = x @ layer
            x = phi(x) if index < len(rest) - 1 else x
        return x

    return apply


_APPLY = {name: _network(phi) for name, phi in ACTIVATIONS.items()}


def patches(x: Float[Array, "n height width"], size: tuple[int, ...]) -> Float[Array, "n h w i j"]:
    """Tiles of the given size that begin at every second row and column and lie within the image."""
    rows, columns = ((length - part) // 2 + 1 for length, part in zip(x.shape[1:], size, strict=True))
    shifted = [
        [x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for j in range(size[1])] for i in range(size[0])
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in shifted], axis=-2)


class Tangent(struct.PyTreeNode):
    """A network linearised at its initial weights.

    Attributes:
        network: the network.
        jacobian: [N, P], N = samples * outputs (sample the slower), P weights in the order of the layers.
        outputs: [N], f_0.
    """

    network: Network
    jacobian: Float[Array | np.ndarray, "*batch N P"]
    outputs: Float[Array | np.ndarray, "*batch N"]

    @property
    def kernel(self) -> Float[Array, "N N"]:
        """Θ = JJᵀ."""
        return self.jacobian @ self.jacobian.T

    @property
    def residual(self) -> Float[Array, " N"]:
        """f_0 − y."""
        return self.outputs - self.network.y.ravel()

    @property
    def sizes(self) -> Float[Array, " P"]:
        """‖J_i‖²."""
        return jnp.sum(self.jacobian**2, axis=0)

    @property
    def optimal(self) -> Float[Array, " P"]:
        """p* ∝ ‖J_i‖²."""
        return self.sizes / jnp.sum(self.sizes)

    @property
    def near_optimal(self) -> Float[Array, " P"]:
        """β p* + (1−β) tilt."""
        return self.network.beta * self.optimal + (1 - self.network.beta) * self.network.tilt

    @property
    def rates(self) -> Float[Array, " P"]:
        """Inclusion rates of the density's expected size, about in step with the near-optimal law."""
        return jnp.clip(self.network.density * self.sizes.size * self.near_optimal, 0.2, 1)

    @property
    def items(self) -> laws.Items:
        """The matrices J_iJ_iᵀ that a mask weighs."""
        return sketch.tangent_items(self.jacobian)

    def multinomial(self, probabilities: Float[Array, " P"]) -> laws.Multinomial:
        """``budget`` draws by these probabilities."""
        return laws.Multinomial(probabilities, self.network.budget, max_budget=self.network.most)


def linearise(network: Network) -> Tangent:
    """J by reverse-mode differentiation."""
    apply = apply_with(network.activation)
    outputs = apply(network.layers, network.x)
    leaves = jax.jacrev(apply)(network.layers, network.x)
    jacobian = jnp.concatenate([leaf.reshape(outputs.size, -1) for leaf in leaves], axis=1)
    return Tangent(network, jacobian, outputs.ravel())


def unflatten(network: Network, flat: Float[Array, " P"]) -> Weights:
    """A vector over all weights, as the layers have it."""
    ends = np.cumsum([layer.size for layer in network.layers])[:-1]
    return tuple(part.reshape(layer.shape) for part, layer in zip(jnp.split(flat, ends), network.layers, strict=True))


NON_ZERO: dict[str, Callable[[Tangent], Array]] = {"J is not zero": lambda tangent: jnp.sum(tangent.sizes) > 0}
"""The hypothesis under which p* exists: not all units are dead."""


def complete(
    rng: Rng,
    x: np.ndarray,
    y: np.ndarray,
    shapes: tuple[tuple[int, ...], ...],
    *,
    activation: str = "relu",
    special: bool = False,
    most: int = BUDGET,
) -> Network:
    """An instance on the given data: He-normal weights, tilt, β, budget and density drawn."""
    layers = tuple(rng.standard_normal(shape) * np.sqrt(2 / math.prod(shape[:-1])) for shape in shapes)
    if len(shapes[0]) == 3:
        layers = (layers[0] * np.sqrt(shapes[0][-1] / shapes[0][1]), *layers[1:])
    tilt = rng.exponential(size=sum(map(math.prod, shapes)))
    return Network(
        layers=layers,
        x=x,
        y=y,
        tilt=tilt / tilt.sum(),
        beta=np.asarray(rng.uniform(0.5, 1)),
        budget=np.asarray(rng.integers(max(1, most // 4), most + 1)),
        density=np.asarray(rng.uniform(0.2, 0.8)),
        special=np.asarray(special),
        activation=activation,
        most=most,
    )


@lru_cache(maxsize=4)
def _images(dataset: Dataset, standardise: bool) -> np.ndarray:
    """All images, [n, SIDE, SIDE]; plain features are laid out in rows, repeated where they are fewer."""
    pixels = np.asarray(dataset.x, np.float64).reshape(len(dataset.x), -1)
    if dataset.image_shape:
        grey = pixels.reshape(len(pixels), *dataset.image_shape).mean(axis=-1)
        rows, columns = (np.linspace(0, length - 1, SIDE).round().astype(int) for length in grey.shape[1:])
        grey = grey[:, rows][:, :, columns]
    else:
        grey = pixels[:, np.arange(SIDE * SIDE) % pixels.shape[1]].reshape(-1, SIDE, SIDE)
    if not standardise:
        return grey / max(abs(grey).max(), 1e-300)
    deviation = grey.std(axis=0)
    return (grey - grey.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def real(
    rng: Rng, dataset: Dataset, samples: int = SAMPLES, *, standardise: bool = True, outputs: int = OUTPUTS
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct images [samples, SIDE, SIDE] of a data set, and so many of its classes, one-hot."""
    chosen = rng.choice(len(dataset.x), samples, replace=False)
    labels = np.asarray(dataset.y)[chosen]
    classes = rng.permutation(np.concatenate([np.unique(labels), rng.choice(dataset.num_classes, outputs)]))[:outputs]
    return _images(dataset, standardise)[chosen], (labels[:, None] == classes).astype(float)


PIXELS = SIDE * SIDE
MLP = ((PIXELS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, OUTPUTS))
CONV = ((3, 3, 4), (3 * 3 * 4, OUTPUTS))
TINY = ((3, 1), (1, OUTPUTS))


def mlp_on_real(rng: Rng, dataset: Dataset, **options: Any) -> Network:
    """An MLP on the data set, standardised."""
    x, y = real(rng, dataset)
    return complete(rng, x.reshape(SAMPLES, -1), y, MLP, **options)


def mlp_on_gaussian(rng: Rng, dataset: Dataset, **options: Any) -> Network:
    """An MLP on Gaussian inputs and targets."""
    return complete(
        rng, rng.standard_normal((SAMPLES, PIXELS)), rng.standard_normal((SAMPLES, OUTPUTS)), MLP, **options
    )


def conv_on_real(rng: Rng, dataset: Dataset, **options: Any) -> Network:
    """A convolution and a dense layer on the data set, standardised."""
    return complete(rng, *real(rng, dataset), CONV, activation="tanh", **options)


def tiny_on_real(rng: Rng, dataset: Dataset) -> Network:
    """Three pixels, one hidden unit and two outputs: five weights."""
    x, y = real(rng, dataset, 3)
    lively = np.argsort(-abs(x).sum(axis=0).ravel())[: TINY[0][0]]
    return complete(rng, x.reshape(3, -1)[:, lively], y, TINY, activation="tanh", most=4)


def cases(**options: Any) -> tuple[Case, ...]:
    """The cases common to the family, with options of :func:`complete`."""
    return tuple(
        Case(name, lambda rng, dataset, make=make: make(rng, dataset, **options))
        for name, make in (
            ("mlp-gaussian", mlp_on_gaussian), ("mlp-{data}", mlp_on_real), ("conv-{data}", conv_on_real),
        )
    )  # fmt: skip


ALL = cases()
SMALL = Case("small-{data}", tiny_on_real, enumerable=True)
"""All outcomes of a mask law are enumerated."""
