"""lottery/: how the density of a random mask is spread over layers, and which way keeps most paths."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from sketchprune import laws
from sketchprune.data import Dataset
from sketchprune.laws.subsets import all_subsets
from sketchprune.types import Key
from theory.catalogue.paths.cases import draw_network, pixels
from theory.catalogue.paths.networks import CONVOLUTIONAL, DENSE, Net, Topology, dense
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Expectation, Identity

Rng = np.random.Generator
Shapes = Sequence[tuple[int, ...]]

GADHIKAR = Source("gadhikar2023random")
RULES = ("uniform", "erk", "balanced", "pyramidal")

# --- lottery/densities

LAYERS = 21
"""The most layers of a network here; the others are padded with layers without weights."""


class Spread(struct.PyTreeNode):
    """The layers of a network and their densities, padded with layers without weights.

    Attributes:
        density: ρ.
        sizes: [layers], N_l.
        ratios: [2, layers], what ERK and balanced densities are proportional to; 0 where a layer is padding.
        densities: [rules, layers], as the library gives them.
        clipped: the same, where a layer that would exceed 1 is clipped and nothing goes to the others.
    """

    density: Any
    sizes: Any
    ratios: Any
    densities: Any
    clipped: Any


def _spread(rng: Rng, shapes: Shapes) -> Spread:
    density = rng.uniform(0.01, 0.9)

    def padded(values: Sequence[int | float] | np.ndarray) -> np.ndarray:
        return np.pad(np.asarray(values, float), (0, LAYERS - len(shapes)))

    def all_rules(redistribute: bool) -> np.ndarray:
        found = [laws.layer_densities(rule, shapes, density, redistribute=redistribute) for rule in RULES]
        return np.stack([padded(p) for p in found])

    sizes = [math.prod(shape) for shape in shapes]
    erk = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    return Spread(
        density=np.asarray(density),
        sizes=padded(sizes),
        ratios=np.stack([padded(erk), padded([1 / size for size in sizes])]),
        densities=all_rules(True),
        clipped=all_rules(False),
    )


def _vgg16(rng: Rng, dataset: Dataset) -> Spread:
    """Thirteen convolutions and a dense layer."""
    widths = (3, 64, 64, 128, 128, *[256] * 3, *[512] * 6)
    convolutions = [(3, 3, a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return _spread(rng, [*convolutions, (512, 10)])


def _resnet18(rng: Rng, dataset: Dataset) -> Spread:
    """Two blocks of two convolutions for each width, with a 1x1 convolution where the width changes."""
    shapes: list[tuple[int, ...]] = [(3, 3, 3, 64), *[(3, 3, 64, 64)] * 4]
    for width in (128, 256, 512):
        before = width // 2
        shapes += [(3, 3, before, width), (3, 3, width, width), (1, 1, before, width), *[(3, 3, width, width)] * 2]
    return _spread(rng, [*shapes, (512, 10)])


def _resnet20(rng: Rng, dataset: Dataset) -> Spread:
    """Three blocks of two convolutions for each width; shortcuts have no weights."""
    widths = (3, *[16] * 7, *[32] * 6, *[64] * 6)
    convolutions = [(3, 3, a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return _spread(rng, [*convolutions, (64, 10)])


def _mlp(rng: Rng, dataset: Dataset) -> Spread:
    """Two hidden layers between the features and the classes of the data."""
    return _spread(rng, [(dataset.x.shape[1], 128), (128, 128), (128, dataset.num_classes)])


def _root(function: Callable[[Array], Array], target: Array, high: Array) -> Float[Array, ""]:
    """Where an increasing function has the target value, between 0 and ``high``, by bisection."""

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        below = function(middle) < target
        return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    return jax.lax.fori_loop(0, 100, halve, (jnp.zeros_like(high), high))[1]


def _densities(spread: Spread, _: Key) -> dict[str, Sides]:
    sizes, rho = spread.sizes, spread.density
    real, kept = sizes > 0, rho * jnp.sum(sizes)
    depth = jnp.arange(1, LAYERS + 1)

    def proportional(ratios: Array) -> Array:
        """min(1, c·ratio), where c is such that ρN weights are kept."""
        full = 1 / jnp.min(jnp.where(real, ratios, jnp.inf))
        return jnp.minimum(1, ratios * _root(lambda c: jnp.sum(sizes * jnp.minimum(1, c * ratios)), kept, full))

    x = _root(lambda x: jnp.sum(sizes * x**depth), kept, jnp.ones_like(rho))
    uniform, pyramidal = jnp.where(real, rho, 0), jnp.where(real, x**depth, 0)
    expected = jnp.stack([uniform, proportional(spread.ratios[0]), proportional(spread.ratios[1]), pyramidal])

    def sides(densities: Array) -> Sides:
        """The weights that each rule keeps, and each density."""
        return Sides(
            jnp.concatenate([densities @ sizes, densities.ravel()]),
            jnp.concatenate([jnp.full(len(RULES), kept), expected.ravel()]),
        )

    return {"claim": sides(spread.densities), "clipping without redistribution": sides(spread.clipped)}


DENSITIES = Claim(
    id="lottery/densities",
    title="Layer densities of each rule keep the density that was asked for",
    statement=r"\sum_l p_lN_l=\rho N,\qquad p_l=\min(1,c\,r_l)\;\;\mathrm{or}\;\;p_l=x^l",
    sources=(GADHIKAR, Source("evci2020rigl")),
    kind=Identity(),
    cases=(
        Case("vgg16", _vgg16), Case("resnet18", _resnet18), Case("resnet20", _resnet20), Case("mlp-{data}", _mlp),
    ),
    trial=_densities,
    mutants=("clipping without redistribution",),
    note="Components: Σp_lN_l by rule, then p_l by rule and layer. Uniform densities have r_l = 1, ERK densities "
    "r_l = (Σ dims)/(Π dims), balanced ones r_l = 1/N_l, and pyramidal ones are powers. Bisection finds c and x.",
)  # fmt: skip


# --- lottery/balanced-optimal

DIRECTIONS = 64
"""How many densities are drawn that keep as many weights as the first ones."""
SHORT = dense((3, 2, 2, 1))
"""12 weights, so that all masks can be listed."""


class Allocation(struct.PyTreeNode):
    """A network and several ways to spread one density over its layers.

    Attributes:
        net: the network; what it keeps are the weights that exist.
        densities: [L], p_l, drawn at random.
        feasible: [ways, L], other densities that keep as many weights, among them those of the rules.
        balanced: [L].
        erk: [L].
    """

    net: Net
    densities: Any
    feasible: Any
    balanced: Any
    erk: Any


def _allocation(rng: Rng, net: Net, shapes: Shapes, least: float) -> Allocation:
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    p = rng.uniform(least, 1, len(sizes))
    density = p @ sizes / sizes.sum()
    rules = {rule: laws.layer_densities(rule, shapes, density) for rule in RULES}
    directions = rng.standard_normal((DIRECTIONS, len(sizes)))
    directions -= np.outer(directions @ sizes, sizes) / (sizes @ sizes)
    # How far one can go from p in each direction before a density is 0 or 1.
    room = np.min(np.where(directions > 0, 1 - p, p) / abs(directions), axis=1)
    moved = p + directions * (room * rng.uniform(0, 1, DIRECTIONS))[:, None]
    feasible = np.stack([*rules.values(), p, *np.clip(moved, 1e-9, 1)])
    return Allocation(net=net, densities=p, feasible=feasible, balanced=rules["balanced"], erk=rules["erk"])


def _shapes(topology: Topology) -> Shapes:
    return [index.shape for index in topology.indices]


def _all_masks(rng: Rng, dataset: Dataset) -> Allocation:
    net = draw_network(rng, lambda: rng.standard_normal((3, SHORT.indices[0].shape[0])), SHORT)
    return _allocation(rng, net, _shapes(SHORT), 0.2)


def _all_masks_real(rng: Rng, dataset: Dataset) -> Allocation:
    net = draw_network(rng, lambda: pixels(rng, dataset, SHORT.indices[0].shape[0]), SHORT)
    return _allocation(rng, net, _shapes(SHORT), 0.2)


def _mlp_real(rng: Rng, dataset: Dataset) -> Allocation:
    return _allocation(rng, draw_network(rng, lambda: pixels(rng, dataset), DENSE), _shapes(DENSE), 0.5)


def _conv_real(rng: Rng, dataset: Dataset) -> Allocation:
    net = draw_network(rng, lambda: pixels(rng, dataset), CONVOLUTIONAL)
    return _allocation(rng, net, [(4, 1, 2), (2, 2, 2), (2, 2)], 0.5)


def path_sum(net: Net, powers: Float[Array, " P"], u: Float[Array, " d"], power: int) -> Float[Array, ""]:
    """Σ_p |v_p|^q u_p over all paths, layer by layer, where the weights are given as their powers |θ_i|^q."""
    for index, c in zip(net.indices, net.coefficients, strict=True):
        u = u @ (jnp.where(c != 0, abs(c) ** power, 0) * powers[index])
    return jnp.sum(u)


def path_quantities(net: Net, mask: Float[Array, " P"]) -> tuple[Float[Array, "4"], Float[Array, ""]]:
    """The number of live paths, R_1, R_2 and TrΠ of the masked network; and TrΠ with the columns of pruned weights."""
    squares, u = (mask * net.theta) ** 2, net.mean_power(2)
    largest, columns = jax.value_and_grad(lambda powers: path_sum(net, powers, u, 2))(squares)
    count = path_sum(net, mask, jnp.ones_like(u), 0)
    first = path_sum(net, mask * abs(net.theta), net.mean_power(1), 1)
    return jnp.stack([count, first, largest, columns @ mask]), columns @ net.kept


def _draw(allocation: Allocation, key: Key) -> Float[Array, " P"]:
    net = allocation.net
    return laws.Poisson(allocation.densities @ net.in_layer, binary=True).sample(key) * net.kept


def _every_mask(allocation: Allocation) -> tuple[Float[Array, "masks P"], Float[Array, " masks"]]:
    rates = allocation.densities @ allocation.net.in_layer
    masks = all_subsets(rates.size)
    return masks.astype(rates.dtype), jnp.prod(jnp.where(masks, rates, 1 - rates), axis=1)


def _balanced_optimal(allocation: Allocation, mask: Float[Array, " P"]) -> dict[str, Sides]:
    net = allocation.net
    measured, with_pruned = path_quantities(net, mask)
    whole, _ = path_quantities(net, net.kept)
    expected = jnp.prod(allocation.densities) * whole

    def excess(best: Array) -> Array:
        """By how much densities of as many weights exceed e^{−‖p−best‖²/2} Π best; 0 if ``best`` is optimal."""
        allowed = jnp.sum(jnp.log(best)) - jnp.sum((allocation.feasible - best) ** 2, axis=1) / 2
        found = jnp.max(jnp.expm1(jnp.sum(jnp.log(allocation.feasible), axis=1) - allowed))
        return jnp.where(found < 1e-5, 0, found)  # at p* itself float32 rounds to either side of 0

    def sides(quantities: Array, best: Array) -> Sides:
        return Sides(
            jnp.append(quantities, excess(best)),
            jnp.append(expected, 0.0),
            scale=jnp.append(expected, 1.0),
        )

    return {
        "claim": sides(measured, allocation.balanced),
        "ERK optimal": sides(measured, allocation.erk),
        "pruned columns included": sides(measured.at[3].set(with_pruned), allocation.balanced),
    }


BALANCED_OPTIMAL = Claim(
    id="lottery/balanced-optimal",
    title="Balanced densities keep the most paths, path norm and path-kernel trace on average",
    statement=(
        r"\mathbb{E}\,R_q(m\circ\theta)=R_q(\theta)\prod_l p_l,\qquad"
        r"\mathbb{E}\,\mathrm{Tr}\,\Pi(m\circ\theta)=\mathrm{Tr}\,\Pi(\theta)\prod_l p_l,\qquad"
        r"\prod_l p_l\le e^{-\|p-p^*\|^2/2}\prod_l p^*_l,\quad p^*_l=\min(1,c/N_l)"
    ),
    sources=(GADHIKAR, Source("tanaka2020synflow"), Source("gebhart2021paths")),
    kind=Expectation(),
    cases=(
        Case("all-masks", _all_masks, enumerable=True), Case("all-masks-{data}", _all_masks_real, enumerable=True),
        Case("mlp-{data}", _mlp_real), Case("conv-{data}", _conv_real),
    ),
    trial=_balanced_optimal,
    draw=_draw,
    outcomes=_every_mask,
    mutants=("ERK optimal", "pruned columns included"),
    note="Components: the number of live paths, R_1, R_2, TrΠ over kept columns, and by how much any of 69 other "
    "densities that keep as many weights exceeds the last bound, which must be 0. The bound has one maximiser.",
)  # fmt: skip

DENSITIES_AND_PATHS = (DENSITIES, BALANCED_OPTIMAL)
