"""lottery/: a random network that is one layer deeper and wide enough contains a target exactly."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool

from sketchprune import lottery
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.lottery.inputs import Rng, pixels
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Probability

WIDTHS = (4, 3, 2)
"""Inputs, hidden units and outputs of the target."""
NONZEROS = (6, 4)
"""Weights of each of its layers that are not 0."""
DENSITIES = (0.7, 0.6, 0.8)
DELTA = 0.05
SAMPLES = 8
ROUNDING = 1e-9
"""Relative to the largest output."""
COPIES_WITHOUT_LOG = tuple(
    math.ceil(-1 / math.log1p(-live)) for live in (DENSITIES[0] * DENSITIES[1], DENSITIES[2])
)  # fmt: skip
"""Of inputs and hidden units, where the logarithm of the number of edges is left out."""


class Target(struct.PyTreeNode):
    """A target network and the samples on which it is run.

    Attributes:
        kernels: of both layers, [inputs, units].
        biases: of both layers, [units].
        x: [samples, inputs], not negative unless ``signed``.
        signed: whether inputs may be negative, static.
    """

    kernels: tuple[Any, ...]
    biases: tuple[Any, ...]
    x: Any
    signed: bool = struct.field(pytree_node=False, default=False)

    @property
    def layers(self) -> tuple[lottery.Dense, ...]:
        """The target as the library takes it."""
        return tuple(lottery.Dense(*layer) for layer in zip(self.kernels, self.biases, strict=True))


def _masks(key: Key, copies: tuple[int, ...], signed: bool) -> list[Bool[Array, "_ _"]]:
    """Independent entries, for a source with that many copies of the inputs and of the hidden units."""
    first, second = copies[:2]
    widths = (WIDTHS[0], WIDTHS[0] * first * (2 if signed else 1), WIDTHS[1] * second, WIDTHS[2])
    layers = zip(jax.random.split(key, 3), itertools.pairwise(widths), DENSITIES, strict=True)
    return [jax.random.bernoulli(one, density, shape) for one, shape, density in layers]


def _error(target: Target, masks: list[Bool[Array, "_ _"]]) -> Array:
    """The largest error of the embedded network, relative to the largest output; more where it leaves its mask."""
    network = lottery.embed(target.layers, masks, signed=target.signed).network
    outside = [jnp.any((layer.kernel != 0) & ~mask) for layer, mask in zip(network, masks, strict=True)]
    (first, second), (bias, last) = target.kernels, target.biases
    wanted = jax.nn.relu(target.x @ first + bias) @ second + last
    hidden = target.x
    for layer in network[:-1]:
        hidden = jax.nn.relu(hidden @ layer.kernel + layer.bias)
    found = hidden @ network[-1].kernel + network[-1].bias
    return jnp.max(abs(found - wanted)) / jnp.max(abs(wanted)) + jnp.sum(jnp.stack(outside))


def _width_suffices(target: Target, key: Key) -> dict[str, Sides]:
    copies = lottery.sufficient_copies(NONZEROS, DENSITIES, DELTA, signed=target.signed)
    measured = _error(target, _masks(key, copies, target.signed))
    too_few = _error(target, _masks(key, COPIES_WITHOUT_LOG, target.signed))
    right = Sides(measured, jnp.asarray(ROUNDING, measured.dtype), delta=jnp.asarray(DELTA, measured.dtype))
    return {"claim": right, "no logarithm": right._replace(measured=too_few)}


def _draw(rng: Rng, x: np.ndarray, *, signed: bool = False) -> Target:
    kernels = []
    for (inputs, units), count in zip(itertools.pairwise(WIDTHS), NONZEROS, strict=True):
        used = rng.permutation(inputs * units) < count
        kernels.append(np.where(used, rng.standard_normal(inputs * units), 0).reshape(inputs, units))
    return Target(tuple(kernels), tuple(rng.standard_normal(units) for units in WIDTHS[1:]), x, signed)


def _positive(rng: Rng, dataset: Dataset) -> Target:
    return _draw(rng, abs(rng.standard_normal((SAMPLES, WIDTHS[0]))))


def _images(rng: Rng, dataset: Dataset) -> Target:
    return _draw(rng, abs(pixels(rng, dataset, SAMPLES, WIDTHS[0])[0]))


def _centred(rng: Rng, dataset: Dataset) -> Target:
    x, _ = pixels(rng, dataset, SAMPLES, WIDTHS[0])
    return _draw(rng, x - x.mean(axis=0), signed=True)


WIDTH_SUFFICES = Claim(
    id="lottery/width-suffices",
    title="A random sparse network that is one layer deeper and wide enough contains a target exactly",
    statement=(
        r"q_L=1,\quad q_{l-1}\ge\frac{\log(Lm_lq_l/\delta)}{\log\frac1{1-p_{l+1}}},\quad "
        r"q_0\ge\frac{\log(Lm_1q_1/\delta)}{\log\frac1{1-p_1p_2}}\;\Rightarrow\;"
        r"P(\text{contained})\ge1-\delta"
    ),
    sources=(Source("gadhikar2023random"),),
    kind=Probability(),
    cases=(Case("positive", _positive), Case("{data}", _images), Case("centred-{data}", _centred)),
    trial=_width_suffices,
    mutants=("no logarithm",),
    batch=1024,
    note=(
        "m_l is the number of non-zero weights of layer l of the target, and the source holds q_l copies of each of "
        "its units. The embedding is built inside random masks and run on the samples: it fails where its outputs "
        "differ from the target's by more than rounding, or where it uses a pruned weight. Inputs that may be negative "
        "take copies of both signs, and 2L in place of L for the first layer."
    ),
)
