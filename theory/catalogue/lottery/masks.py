"""lottery/: how many weights a random mask keeps, which units they connect, and what repairing it adds."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import laws, lottery
from sketchprune.data import Dataset
from sketchprune.laws.densities import Rule
from sketchprune.laws.subsets import all_subsets
from sketchprune.types import Key
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Expectation, Probability

Rng = np.random.Generator
Shapes = tuple[tuple[int, ...], ...]

GADHIKAR = Source("gadhikar2023random")


def _mlp_shapes(dataset: Dataset, hidden: int) -> Shapes:
    return (dataset.x.shape[1], hidden), (hidden, dataset.num_classes)


# --- lottery/concentration

HIDDEN = 8


class Counted(struct.PyTreeNode):
    """Densities of the layers of a network, and a deviation of the number of kept weights.

    Attributes:
        densities: p_l, one number for each layer.
        deviation: t, in (0, 1], relative to the expected number.
        shapes: of the layers, static.
    """

    densities: tuple[Any, ...]
    deviation: Any
    shapes: Shapes = struct.field(pytree_node=False)

    @property
    def law(self) -> laws.ErdosRenyi:
        """The random masks."""
        return laws.ErdosRenyi(self.densities, self.shapes)


def _counted(
    rng: Rng, shapes: Shapes, density: float, rule: Rule, *, exponents: tuple[float, float] = (2.5, 3.0)
) -> Counted:
    """A deviation such that t²ρN is between the exponents."""
    p = laws.layer_densities(rule, shapes, density)
    kept = density * sum(math.prod(shape) for shape in shapes)
    deviation = np.sqrt(rng.uniform(*exponents) / kept)
    return Counted(tuple(np.asarray(p_l) for p_l in p), np.asarray(deviation), shapes)


def _uniform(rng: Rng, dataset: Dataset) -> Counted:
    return _counted(rng, _mlp_shapes(dataset, HIDDEN), rng.uniform(0.05, 0.5), "uniform")


def _balanced(rng: Rng, dataset: Dataset) -> Counted:
    """So sparse that no layer keeps more than half of its weights."""
    shapes = _mlp_shapes(dataset, HIDDEN)
    sizes = [math.prod(shape) for shape in shapes]
    most = len(sizes) * min(sizes) / (2 * sum(sizes))
    return _counted(rng, shapes, rng.uniform(most / 4, most), "balanced")


def _few(rng: Rng, dataset: Dataset) -> Counted:
    """About four weights are kept, so that t is close to 1."""
    return _counted(rng, ((8, 8), (8, 4)), rng.uniform(3.2, 5) / 96, "erk")


def _sparse(rng: Rng, dataset: Dataset) -> Counted:
    """Few weights of many, and deviations so rare that the bound is near their probability."""
    return _counted(rng, ((16, 16), (16, 8)), rng.uniform(0.035, 0.06), "uniform", exponents=(11.9, 12.0))


def _concentration(counted: Counted, mask: tuple[Array, ...]) -> dict[str, Sides]:
    t = counted.deviation
    expected = sum(p * math.prod(shape) for p, shape in zip(counted.densities, counted.shapes, strict=True))
    kept = jnp.sum(jnp.stack([jnp.sum(layer != 0) for layer in mask]))
    # Slightly less than tρN, because the statement counts equality as a failure.
    threshold = t * expected * (1 - 1e-9)

    def sides(constant: float) -> Sides:
        return Sides(abs(kept - expected), threshold, delta=2 * jnp.exp(-(t**2) * expected / constant))

    return {"claim": sides(3.0), "0.4 for 3": sides(0.4)}


CONCENTRATION = Claim(
    id="lottery/concentration",
    title="The number of weights that a random mask keeps is close to its mean",
    statement=r"\mathbb{P}\big(|\mathrm{nnz}(m)-\rho N|\ge t\rho N\big)\le 2e^{-t^2\rho N/3},\qquad 0<t\le1",
    sources=(GADHIKAR,),
    kind=Probability(),
    cases=(
        Case("uniform-{data}", _uniform),
        Case("balanced-{data}", _balanced),
        Case("few-weights", _few),
        Case("sparse", _sparse),
    ),
    trial=_concentration,
    draw=lambda counted, key: counted.law.sample(key),
    hypotheses={"t is at most 1": lambda counted: jnp.asarray(counted.deviation <= 1)},
    mutants=("0.4 for 3",),
    note="Chernoff's inequality for independent entries, whatever the densities of the layers. No density exceeds ½ "
    "here, so that deviations are not rare.",
)


# --- lottery/connectivity

DELTAS = (0.2, 0.05)
"""Failure rates δ at which densities are tested."""


class Kernels(struct.PyTreeNode):
    """The weights of a network: kernels [inputs, units] or [rows, columns, inputs, units]."""

    layers: tuple[Any, ...]


def _kernels(rng: Rng, shapes: Shapes) -> Kernels:
    return Kernels(tuple(rng.standard_normal(shape) / np.sqrt(math.prod(shape[:-1])) for shape in shapes))


def _mlp(rng: Rng, dataset: Dataset) -> Kernels:
    return _kernels(rng, _mlp_shapes(dataset, 16))


def _conv(rng: Rng, dataset: Dataset) -> Kernels:
    """Two convolutions on the images, the mean over positions, and a dense layer."""
    channels = dataset.image_shape[-1] if dataset.image_shape else 1
    return _kernels(rng, ((3, 3, channels, 8), (3, 3, 8, 8), (8, dataset.num_classes)))


def _critical_densities(kernels: Kernels, key: Key) -> Float[Array, " layers"]:
    """The density of each layer above which every unit has an input.

    At density p those weights are kept whose uniform random number is below p, so a mask grows with its density.
    """
    keys = jax.random.split(key, len(kernels.layers))
    drawn = [jax.random.uniform(one, w.shape, w.dtype) for one, w in zip(keys, kernels.layers, strict=True)]
    return jnp.stack([jnp.max(jnp.min(numbers.reshape(-1, numbers.shape[-1]), axis=0)) for numbers in drawn])


def _lonely_units(kernels: Kernels, densities: Float[Array, " layers"], key: Key) -> Float[Array, " layers"]:
    """How many units of each layer of a masked network have no input."""
    law = laws.ErdosRenyi(tuple(densities), tuple(layer.shape for layer in kernels.layers))
    connected = [lottery.connected_units(w * m) for w, m in zip(kernels.layers, law.sample(key), strict=True)]
    return jnp.stack([jnp.sum(~units) for units in connected]).astype(densities.dtype)


def _connectivity(kernels: Kernels, key: Key) -> dict[str, Sides]:
    depth = len(kernels.layers)
    units = np.array([layer.shape[-1] for layer in kernels.layers])
    fan_in = np.array([math.prod(layer.shape[:-1]) for layer in kernels.layers])
    for_density, for_mask = jax.random.split(key)
    critical = _critical_densities(kernels, for_density)
    deltas = jnp.asarray(DELTAS, kernels.layers[0].dtype)
    of_layer, of_network = (
        lottery.sufficient_density(share[:, None], units, fan_in) for share in (deltas, deltas / depth)
    )
    # Mapped over densities, the masks of one key take their random numbers once.
    lonely = jax.vmap(lambda p: _lonely_units(kernels, p, for_mask))(of_layer)
    connected = lottery.connection_probability(of_layer, units, fan_in)
    none, given = jnp.zeros_like(lonely), jnp.broadcast_to(deltas[:, None], lonely.shape)

    def sides(exponent: float) -> Sides:
        """With densities 1 − (δ/n)^{exponent/k} for n units of fan-in k."""
        in_layer, in_network = (1 - (1 - p) ** exponent for p in (of_layer, of_network))
        largest = jnp.max(critical / in_network, axis=1, keepdims=True)
        alone = jnp.broadcast_to(critical, lonely.shape)
        measured = [alone, largest, lonely, 1.0 * (lonely == 0)]
        theory = [in_layer, jnp.ones_like(largest), none, none]
        rates = [given, deltas[:, None], 1 - connected, connected]
        return Sides(*(jnp.concatenate(side, axis=1) for side in (measured, theory)), delta=jnp.concatenate(rates, 1))

    return {"claim": sides(1.0), "exponent 1/(2n)": sides(0.5)}


CONNECTIVITY = Claim(
    id="lottery/connectivity",
    title="At a sufficient density every unit of a random mask keeps an input with high probability",
    statement=(
        r"p_l\ge1-(\delta/n_l)^{1/n_{l-1}}\;\Rightarrow\;"
        r"\mathbb{P}(\mathrm{a\;unit\;of\;layer}\;l\;\mathrm{has\;no\;input})"
        r"=1-\big(1-(1-p_l)^{n_{l-1}}\big)^{n_l}\le\delta"
    ),
    sources=(GADHIKAR,),
    kind=Probability(),
    cases=(Case("mlp-{data}", _mlp), Case("conv-{data}", _conv)),
    trial=_connectivity,
    mutants=("exponent 1/(2n)",),
    batch=512,
    note="For δ = 0.2 and 0.05: the density at which the last unit of a layer gets an input, against the sufficient "
    "one; the largest ratio of the two in the network, with δ/L in each of L layers; then units without inputs at the "
    "sufficient density, by layer: the exact probabilities that there are some and that there are none. For a "
    "convolution n_{l−1} is the fan-in, rows · columns · channels.",
)


# --- lottery/flow-preservation


class Layer(struct.PyTreeNode):
    """One layer and its density.

    Attributes:
        density: p.
        kernel: its weights, [positions, inputs, units].
    """

    density: Any
    kernel: Any


class Repaired(NamedTuple):
    """A mask before and after its repair, [positions, inputs, units]."""

    before: Bool[Array, "... positions inputs units"]
    after: Bool[Array, "... positions inputs units"]


def _layer(rng: Rng, shape: tuple[int, int, int], low: float, high: float) -> Layer:
    return Layer(np.asarray(rng.uniform(low, high)), rng.standard_normal(shape))


def _narrow(rng: Rng, dataset: Dataset) -> Layer:
    return _layer(rng, (1, 3, 2), 0.1, 0.7)


def _wide(rng: Rng, dataset: Dataset) -> Layer:
    return _layer(rng, (1, 2, 3), 0.1, 0.7)


def _small_conv(rng: Rng, dataset: Dataset) -> Layer:
    return _layer(rng, (2, 2, 1), 0.1, 0.7)


def _convolution(rng: Rng, dataset: Dataset) -> Layer:
    return _layer(rng, (9, 4, 6), 0.01, 0.1)


def _first_layer(rng: Rng, dataset: Dataset) -> Layer:
    """The layer that reads the data, so sparse that it leaves some inputs unused."""
    return _layer(rng, (1, dataset.x.shape[1], 16), 0.02, 0.15)


def _draw_repaired(layer: Layer, key: Key) -> Repaired:
    for_mask, for_repair = jax.random.split(key)
    mask = laws.ErdosRenyi(layer.density, (layer.kernel.shape,)).sample(for_mask)
    return Repaired(mask, lottery.repair(for_repair, mask))


def _every_repair(layer: Layer) -> tuple[Repaired, Float[Array, " outcomes"]]:
    """All masks, and for each all edges that its units and then its inputs may draw, as the rule describes them.

    The library's repair is not used here: what it draws from a key cannot be enumerated.
    """
    positions, inputs, units = layer.kernel.shape
    masks = all_subsets(layer.kernel.size).reshape(-1, positions, inputs, units)
    for_units = _draws(positions * inputs, units)
    for_inputs = _draws(positions * units, inputs)
    before, unit_draws, input_draws = np.indices((len(masks), len(for_units), len(for_inputs))).reshape(3, -1)
    mask = masks[before]
    # [outcomes, positions, inputs, units]: the edge that each unit draws, and the one that each input draws.
    drawn = _one_hot(for_units[unit_draws], positions * inputs)
    drawn = drawn.reshape(-1, units, positions, inputs).transpose(0, 2, 3, 1)
    served = mask | (drawn & ~mask.any(axis=(1, 2), keepdims=True))
    drawn = _one_hot(for_inputs[input_draws], positions * units)
    drawn = drawn.reshape(-1, inputs, positions, units).transpose(0, 2, 1, 3)
    after = served | (drawn & ~served.any(axis=(1, 3), keepdims=True))
    kept = jnp.sum(mask, axis=(1, 2, 3))
    chances = layer.density**kept * (1 - layer.density) ** (layer.kernel.size - kept)
    return Repaired(mask, after), chances / (len(for_units) * len(for_inputs))


def _draws(choices: int, count: int) -> np.ndarray:
    """All ways to draw one of the choices ``count`` times, [ways, count]."""
    return np.indices((choices,) * count).reshape(count, -1).T


def _one_hot(drawn: np.ndarray, choices: int) -> np.ndarray:
    return drawn[..., None] == np.arange(choices)


def _flow_preservation(layer: Layer, outcome: Repaired) -> dict[str, Sides]:
    p = layer.density
    positions, inputs, units = layer.kernel.shape
    before, after = outcome

    def share(condition: Array) -> Array:
        return jnp.asarray(condition, p.dtype)

    measured = jnp.stack(
        [
            share(jnp.sum(after & ~before)),
            share(jnp.any(before & ~after)),
            share(~after.any(axis=(0, 1)).all()),
            share(~after.any(axis=(0, 2)).all()),
        ]
    )

    def sides(added: Array) -> Sides:
        theory = jnp.append(added, jnp.zeros(3))
        right = lottery.expected_added_edges(p, inputs, units, positions)
        most = jnp.array([inputs + units, 1, 1, 1], p.dtype)
        return Sides(measured, theory, scale=jnp.append(right, jnp.ones(3)), range=most)

    one_by_one = units * (1 - p) ** (positions * inputs) + inputs * (1 - p) ** (positions * units)
    return {
        "claim": sides(lottery.expected_added_edges(p, inputs, units, positions)),
        "inputs counted before units are served": sides(one_by_one),
    }


FLOW_PRESERVATION = Claim(
    id="lottery/flow-preservation",
    title="Repairing a random layer connects all its units and inputs, and adds few edges",
    statement=(
        r"\mathbb{E}\,\|m'-m\|_0=n_l(1-p)^{n_{l-1}}"
        r"+n_{l-1}\Big((1-p)-\frac{(1-p)^{n_{l-1}}}{n_{l-1}}\Big)^{n_l},\qquad m'\ge m"
    ),
    sources=(GADHIKAR,),
    kind=Expectation(),
    cases=(
        Case("all-narrow", _narrow, enumerable=True), Case("all-wide", _wide, enumerable=True),
        Case("all-conv", _small_conv, enumerable=True), Case("conv", _convolution),
        Case("first-layer-{data}", _first_layer),
    ),
    trial=_flow_preservation,
    draw=_draw_repaired,
    outcomes=_every_repair,
    mutants=("inputs counted before units are served",),
    batch=1024,
    note="Components: added edges; whether an edge was removed, a unit has no input, an input has no unit. Small "
    "layers are repaired in every way that the rule allows, the others by the library. With r positions of a "
    "convolution (1−p)^{rn} takes the place of (1−p)^n, n being channels.",
)  # fmt: skip

MASKS = (CONCENTRATION, CONNECTIVITY, FLOW_PRESERVATION)
