"""Networks at initialisation: the instances on which the ``tangent/`` family is tested.

They are small, without biases and on few samples, so that the whole Jacobian J fits in a trial. J is evaluated once for
each instance, at the dense initial weights.
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
from theory.catalogue.simplex import random_probabilities
from theory.claim import Case

Rng = np.random.Generator

SIDE = 8
"""The side in pixels to which images are brought."""
PIXELS = SIDE * SIDE
SAMPLES = 5
OUTPUTS = 2
HIDDEN = 8
"""The width of the hidden layers of an MLP."""
MAX_BUDGET = 8
"""The most draws of a multinomial mask, where budgets are not large on purpose."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class Network(struct.PyTreeNode):
    """A network, its data, and the numbers that a law of masks needs.

    Its arrays are NumPy's when it is made, and JAX's in a program.

    Attributes:
        layers: Weights: dense [inputs, outputs]; a convolution's [rows, columns, channels] comes first.
        x: Inputs [n, d], or [n, height, width] for a convolution.
        y: Targets [n, k].
        tilt: Probabilities [P] drawn without regard to J.
        beta: A number in (0, 1], for which β p* + (1−β) tilt is a β-near-optimal law.
        budget: The number of draws s, from 1 to ``max_budget``.
        density: The density of random pruning, in (0, 1).
        special: A switch whose meaning each claim that uses it defines.
        activation: The activation of the hidden layers, static.
        max_budget: The largest budget of the case, static.
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
    max_budget: int = struct.field(pytree_node=False, default=MAX_BUDGET)


Weights = tuple[Array, ...]


def apply_with(activation: str) -> Callable[[Weights, Array], Array]:
    """The function ``apply(layers, x) -> [n, k]`` of the networks with that activation, always the same object."""
    return _APPLY[activation]


def _forward(phi: Callable[[Array], Array]) -> Callable[[Weights, Array], Array]:
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


_APPLY = {name: _forward(phi) for name, phi in ACTIVATIONS.items()}


def patches(x: Float[Array, "n height width"], size: tuple[int, ...]) -> Float[Array, "n h w i j"]:
    """The tiles of that size which begin at every second row and column and lie within the image."""
    rows, columns = ((length - part) // 2 + 1 for length, part in zip(x.shape[1:], size, strict=True))
    shifted = [
        [x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for j in range(size[1])] for i in range(size[0])
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in shifted], axis=-2)


class Tangent(struct.PyTreeNode):
    """A network linearised at its initial weights.

    Attributes:
        network: The network.
        jacobian: J [N, P], with N = samples * outputs (samples the slower index) and P weights in layer order.
        outputs: f_0 [N].
    """

    network: Network
    jacobian: Float[Array | np.ndarray, "*batch N P"]
    outputs: Float[Array | np.ndarray, "*batch N"]

    @property
    def kernel(self) -> Float[Array, "N N"]:
        """The kernel Θ = JJᵀ."""
        return jnp.matmul(self.jacobian, self.jacobian.T)

    @property
    def residual(self) -> Float[Array, " N"]:
        """The residual f_0 − y."""
        return self.outputs - self.network.y.ravel()

    @property
    def sizes(self) -> Float[Array, " P"]:
        """The squared length ‖J_i‖² of each column."""
        return jnp.sum(self.jacobian**2, axis=0)

    @property
    def optimal(self) -> Float[Array, " P"]:
        """The optimal probabilities p* ∝ ‖J_i‖²."""
        return self.sizes / jnp.sum(self.sizes)

    @property
    def near_optimal(self) -> Float[Array, " P"]:
        """The near-optimal probabilities β p* + (1−β) tilt."""
        return self.network.beta * self.optimal + (1 - self.network.beta) * self.network.tilt

    @property
    def rates(self) -> Float[Array, " P"]:
        """Inclusion rates proportional to the near-optimal law, clipped to [0.2, 1]; about the density on average."""
        return jnp.clip(self.network.density * self.sizes.size * self.near_optimal, 0.2, 1)

    @property
    def items(self) -> laws.Items:
        """The matrices J_i J_iᵀ, which a mask weighs."""
        return sketch.tangent_items(self.jacobian)

    def multinomial(self, probabilities: Float[Array, " P"]) -> laws.Multinomial:
        """The law of ``budget`` draws with these probabilities."""
        return laws.Multinomial(probabilities, self.network.budget, max_budget=self.network.max_budget)


def linearise(network: Network) -> Tangent:
    """The network with its outputs and its Jacobian, by reverse-mode differentiation."""
    apply = apply_with(network.activation)
    outputs = apply(network.layers, network.x)
    leaves = jax.jacrev(apply)(network.layers, network.x)
    jacobian = jnp.concatenate([leaf.reshape(outputs.size, -1) for leaf in leaves], axis=1)
    return Tangent(network, jacobian, outputs.ravel())


def unflatten(network: Network, flat: Float[Array, " P"]) -> Weights:
    """A vector over all weights, cut into the shapes of the layers."""
    ends = np.cumsum([layer.size for layer in network.layers])[:-1]
    return tuple(part.reshape(layer.shape) for part, layer in zip(jnp.split(flat, ends), network.layers, strict=True))


NON_ZERO: dict[str, Callable[[Tangent], Array]] = {"J is not zero": lambda tangent: jnp.sum(tangent.sizes) > 0}
"""The hypothesis under which p* exists; it fails when all units are dead."""


A_LAW: dict[str, Callable[[Tangent], Array]] = {
    "0 < β ≤ 1": lambda tangent: (tangent.network.beta > 0) & (tangent.network.beta <= 1),
    "0 < density ≤ 1": lambda tangent: (tangent.network.density > 0) & (tangent.network.density <= 1),
    "the tilt sums to 1": lambda tangent: (
        jnp.all(tangent.network.tilt >= 0) & (abs(jnp.sum(tangent.network.tilt) - 1) < 1e-5)
    ),
}
"""What makes probabilities and rates of the numbers of a network; all cases draw such."""


def draw_network(
    rng: Rng,
    x: np.ndarray,
    y: np.ndarray,
    shapes: tuple[tuple[int, ...], ...],
    *,
    activation: str = "relu",
    special: bool = False,
    max_budget: int = MAX_BUDGET,
) -> Network:
    """An instance on the given data: He-normal weights, and tilt, β, budget and density at random."""
    layers = tuple(rng.standard_normal(shape) * np.sqrt(2 / math.prod(shape[:-1])) for shape in shapes)
    if len(shapes[0]) == 3:
        layers = (layers[0] * np.sqrt(shapes[0][-1] / shapes[0][1]), *layers[1:])
    tilt = random_probabilities(rng, sum(map(math.prod, shapes)))
    return Network(
        layers=layers,
        x=x,
        y=y,
        tilt=tilt,
        beta=np.asarray(rng.uniform(0.5, 1)),
        budget=np.asarray(rng.integers(max(1, max_budget // 4), max_budget + 1)),
        density=np.asarray(rng.uniform(0.2, 0.8)),
        special=np.asarray(special),
        activation=activation,
        max_budget=max_budget,
    )


@lru_cache(maxsize=4)
def _images(dataset: Dataset, standardise: bool) -> np.ndarray:
    """All images, [n, SIDE, SIDE]; plain features are laid out in rows, and repeated if they are fewer than pixels."""
    pixels = np.asarray(dataset.x).reshape(len(dataset.x), -1)
    if dataset.image_shape:
        height, width, _ = dataset.image_shape
        rows, columns = (np.linspace(0, length - 1, SIDE).round().astype(int) for length in (height, width))
        # Only the pixels that are used become float64: a data set may be large.
        chosen = pixels.reshape(len(pixels), *dataset.image_shape)[:, rows][:, :, columns]
        grey = chosen.astype(np.float64).mean(axis=-1)
    else:
        chosen = pixels[:, np.arange(SIDE * SIDE) % pixels.shape[1]]
        grey = chosen.astype(np.float64).reshape(-1, SIDE, SIDE)
    grey = grey / (abs(grey).max() or 1)  # first, so that no square underflows
    if not standardise:
        return grey
    deviation = grey.std(axis=0)
    return (grey - grey.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def real_samples(
    rng: Rng, dataset: Dataset, samples: int = SAMPLES, *, standardise: bool = True, outputs: int = OUTPUTS
) -> tuple[np.ndarray, np.ndarray]:
    """Images [samples, SIDE, SIDE] of a data set, and one-hot targets for ``outputs`` of its classes.

    They are distinct where the data set has that many.
    """
    chosen = rng.choice(len(dataset.x), samples, replace=len(dataset.x) < samples)
    labels = np.asarray(dataset.y)[chosen]
    classes = rng.permutation(np.concatenate([np.unique(labels), rng.choice(dataset.num_classes, outputs)]))[:outputs]
    return _images(dataset, standardise)[chosen], (labels[:, None] == classes).astype(float)


MLP = ((PIXELS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, OUTPUTS))
CONV = ((3, 3, 4), (3 * 3 * 4, OUTPUTS))
TINY = ((3, 1), (1, OUTPUTS))
TINY_SAMPLES = 3
TINY_MAX_BUDGET = 4


def mlp_on_real(rng: Rng, dataset: Dataset, **options: Any) -> Network:
    """An MLP on the data set, standardised."""
    x, y = real_samples(rng, dataset)
    return draw_network(rng, x.reshape(SAMPLES, -1), y, MLP, **options)


def mlp_on_gaussian(rng: Rng, dataset: Dataset, **options: Any) -> Network:
    """An MLP on Gaussian inputs and targets."""
    x = rng.standard_normal((SAMPLES, PIXELS))
    y = rng.standard_normal((SAMPLES, OUTPUTS))
    return draw_network(rng, x, y, MLP, **options)


def conv_on_real(rng: Rng, dataset: Dataset, **options: Any) -> Network:
    """A convolution and a dense layer on the data set, standardised."""
    return draw_network(rng, *real_samples(rng, dataset), CONV, activation="tanh", **options)


def tiny_on_real(rng: Rng, dataset: Dataset) -> Network:
    """A network of five weights: three pixels, one hidden unit and two outputs."""
    x, y = real_samples(rng, dataset, TINY_SAMPLES)
    brightest = np.argsort(-abs(x).sum(axis=0).ravel())[: TINY[0][0]]
    x = x.reshape(TINY_SAMPLES, -1)[:, brightest]
    return draw_network(rng, x, y, TINY, activation="tanh", max_budget=TINY_MAX_BUDGET)


def cases(**options: Any) -> tuple[Case, ...]:
    """The cases common to the family, with options of :func:`draw_network`."""
    return tuple(
        Case(name, lambda rng, dataset, make=make: make(rng, dataset, **options))
        for name, make in (
            ("mlp-gaussian", mlp_on_gaussian), ("mlp-{data}", mlp_on_real), ("conv-{data}", conv_on_real),
        )
    )  # fmt: skip


ALL = cases()
SMALL = Case("small-{data}", tiny_on_real, enumerable=True)
"""The case in which all outcomes of a law of masks are enumerated."""
