"""lottery/: a random network that is one layer deeper and wide enough contains a target exactly."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

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
    first, second = copies
    widths = (WIDTHS[0], WIDTHS[0] * first * (2 if signed else 1), WIDTHS[1] * second, WIDTHS[2])
    layers = zip(jax.random.split(key, 3), itertools.pairwise(widths), DENSITIES, strict=True)
    return [jax.random.bernoulli(one, density, shape) for one, shape, density in layers]


def _is_target(target: Target, masks: list[Bool[Array, "_ _"]], network: tuple[lottery.Dense, ...]) -> Bool[Array, ""]:
    """Whether a network gives the target's outputs, to rounding, and uses no weight that is pruned."""
    outside = [jnp.any((layer.kernel != 0) & ~mask) for layer, mask in zip(network, masks, strict=True)]
    (first, second), (bias, last) = target.kernels, target.biases
    wanted = jax.nn.relu(target.x @ first + bias) @ second + last
    hidden = target.x
    for layer in network[:-1]:
        hidden = jax.nn.relu(hidden @ layer.kernel + layer.bias)
    found = hidden @ network[-1].kernel + network[-1].bias
    near = jnp.max(abs(found - wanted)) <= ROUNDING * jnp.max(abs(wanted))
    return near & ~jnp.any(jnp.stack(outside))


def _needed_parts(
    target: Target, masks: list[Bool[Array, "_ _"]], found: lottery.Embedding, copies: list[tuple[int, ...]]
) -> Float[Array, " choices"]:
    """For each choice of numbers of copies, the least part of them within which the target is contained.

    The part is the same for the copies of inputs and of hidden units. Copies come in their order: a hidden unit takes
    the first host of each of its inputs, and an output any hidden copy.
    """
    inputs, hidden = np.array(copies, target.x.dtype).T[..., None, None]
    used = found.network[1].kernel != 0
    sources, units = len(target.kernels[0]) * (2 if target.signed else 1), len(target.kernels[1])
    used = used.reshape(sources, -1, units, masks[2].shape[0] // units).any(axis=0)
    num_hosts, _, num_copies = used.shape
    last = jnp.max(jnp.where(used, np.arange(1, num_hosts + 1)[:, None, None], 0), axis=0)
    of_copy = jnp.maximum(last / inputs, np.arange(1, num_copies + 1) / hidden)
    usable = masks[2].reshape(units, num_copies, -1) & found.live[1][..., None]
    of_edge = jnp.min(jnp.where(usable, of_copy[..., None], jnp.inf), axis=2)
    return jnp.max(jnp.where(target.kernels[1] != 0, of_edge, 0), axis=(1, 2))


def _width_suffices(target: Target, key: Key) -> dict[str, Sides]:
    copies = lottery.sufficient_copies(NONZEROS, DENSITIES, DELTA, signed=target.signed)[:2]
    masks = _masks(key, copies, target.signed)
    found = lottery.embed(target.layers, masks, signed=target.signed)
    needed = _needed_parts(target, masks, found, [copies, COPIES_WITHOUT_LOG])
    # A complete embedding that computes something else is an error: no number of copies would do.
    needed = jnp.where(found.complete, jnp.where(_is_target(target, masks, found.network), needed, jnp.inf), 2)
    right, without_log = (Sides(part, jnp.ones_like(part), delta=jnp.full_like(part, DELTA)) for part in needed)
    return {"claim": right, "no logarithm": without_log}


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
        "its units. The embedding is built inside random masks and run on the samples. Measured is the least part of "
        "the q_l copies, the same in every layer, that contains the target, and 2 where all of them do not. It is "
        "infinite, and refutes, where a complete embedding differs from the target by more than rounding or uses a "
        "pruned weight. Inputs that may be negative take copies of both signs, and 2L in place of L for the first "
        "layer."
    ),
)
