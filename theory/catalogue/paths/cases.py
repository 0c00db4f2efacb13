"""How the instances of the ``paths/`` family are drawn, and the cases that several of its claims share."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from sketchprune.data import Dataset
from theory.catalogue.paths.networks import (
    CONVOLUTIONAL,
    DENSE,
    SHORT_DENSE,
    SHORT_WIDTHS,
    WIDTHS,
    Net,
    Topology,
)
from theory.catalogue.tangent.cases import SIDE, real_samples
from theory.claim import Case, NoInstance

Rng = np.random.Generator
Drawn = TypeVar("Drawn")

SAMPLES = 3
FREE_SIGNS = 10
"""How many weights have signs that a claim may enumerate."""
MAX_TRIES = 10_000
"""How often an instance is drawn until one is suitable."""
CLEAR = 1e-3
"""Non-zero pre-activations are at least this large, relative to the layer's largest: in float32 the same gates open."""


def first_suitable(draw: Callable[[], Drawn], suitable: Callable[[Drawn], bool], what: str) -> Drawn:
    """The first draw that is suitable; ``what`` says of what the data have none otherwise."""
    for _ in range(MAX_TRIES):
        drawn = draw()
        if suitable(drawn):
            return drawn
    raise NoInstance(f"the data have a {what}")


def draw_network(
    rng: Rng,
    inputs: Callable[[], np.ndarray],
    topology: Topology = DENSE,
    *,
    density: float = 1.0,
    linear: bool = False,
    theta: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> Net:
    """An instance: inputs, weights and mask, drawn until a path is live and every pre-activation is clear of zero.

    Args:
        rng: for everything that is drawn here.
        inputs: draws the samples.
        topology: the edges.
        density: the probability that a weight is kept.
        linear: leave out the activations.
        theta: weights to take; unless given they are He-normal and bounded away from zero.
        kept: the mask to take, instead of one with the density.
    """
    in_layer, into_unit, out_of_unit = _membership(topology)
    scale = np.sqrt(2 / _fan_in(topology))

    def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = inputs()
        normal = rng.standard_normal(topology.size)
        weights = np.sign(normal) * (abs(normal) + 0.05) * scale if theta is None else theta
        chosen = (rng.random(topology.size) < density if kept is None else kept) * in_layer.sum(axis=0)
        return x, weights, chosen

    def suitable(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bool:
        x, weights, chosen = drawn
        pairs = zip(topology.indices, topology.coefficients, strict=True)
        return _is_live_and_clear([c * (weights * chosen)[index] for index, c in pairs], x, linear)

    what = "network with a live path and no pre-activation close to zero"
    x, weights, chosen = first_suitable(draw, suitable, what)
    return Net(
        theta=weights,
        kept=chosen,
        indices=topology.indices,
        coefficients=topology.coefficients,
        in_layer=in_layer,
        into_unit=into_unit,
        out_of_unit=out_of_unit,
        bias=rng.standard_normal(into_unit.shape[:2]),
        x=x,
        y=rng.choice([-1.0, 1.0], (len(x), topology.indices[-1].shape[1])),
        linear=np.asarray(linear),
        free_signs=np.resize(np.flatnonzero(chosen)[:FREE_SIGNS], FREE_SIGNS),
    )


def _membership(topology: Topology) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`Net.in_layer`, `Net.into_unit` and `Net.out_of_unit`."""
    hidden = topology.channels
    in_layer = np.zeros((len(topology.indices), topology.size))
    into_unit = np.zeros((len(hidden), max(channels.size for channels in hidden), topology.size))
    out_of_unit = np.zeros(into_unit.shape)
    for at, (index, c) in enumerate(zip(topology.indices, topology.coefficients, strict=True)):
        start, end = np.nonzero(c)
        weight = index[start, end]
        in_layer[at, weight] = 1
        if at < len(hidden):
            into_unit[at, hidden[at][end], weight] = 1
        if at:
            out_of_unit[at - 1, hidden[at - 1][start], weight] = 1
    return in_layer, into_unit, out_of_unit


def _fan_in(topology: Topology) -> np.ndarray:
    """For each weight, the largest number of edges into a unit of its layer."""
    fan_in = np.ones(topology.size)
    for index, c in zip(topology.indices, topology.coefficients, strict=True):
        fan_in[index[c != 0]] = (c != 0).sum(axis=0).max()
    return fan_in


def _is_live_and_clear(matrices: list[np.ndarray], x: np.ndarray, linear: bool) -> bool:
    """Whether the network has a path of non-zero weights, and no unit on any sample a value just beside zero."""
    live = np.ones(x.shape[1])
    hidden = x
    clear = True
    for matrix in matrices:
        live = live @ abs(matrix)
        hidden = hidden @ matrix
        clear &= not ((abs(hidden) > 0) & (abs(hidden) < CLEAR * abs(hidden).max())).any()
        hidden = hidden if linear else np.maximum(hidden, 0)
    return bool(live.any() and clear)


def pixels(
    rng: Rng, dataset: Dataset, count: int = WIDTHS[0], samples: int = SAMPLES, *, standardise: bool = True
) -> np.ndarray:
    """Neighbouring pixels in a row of images, [samples, count]; in no image are all of them zero."""

    def draw() -> np.ndarray:
        images, _ = real_samples(rng, dataset, samples, standardise=standardise)
        row = rng.integers(1, SIDE - 1)
        column = rng.integers(0, SIDE - count + 1)
        return images[:, row, column : column + count]

    what = f"row of {count} neighbouring pixels that are not all 0"
    return first_suitable(draw, lambda chosen: bool((abs(chosen).max(axis=1) > 0).all()), what)


def gaussian(rng: Rng, count: int = WIDTHS[0], samples: int = SAMPLES) -> np.ndarray:
    """Independent standard normal entries, [samples, count]."""
    return rng.standard_normal((samples, count))


# --- Cases


def _mlp_gaussian(rng: Rng, dataset: Dataset) -> Net:
    return draw_network(rng, lambda: gaussian(rng))


def _mlp_masked(rng: Rng, dataset: Dataset) -> Net:
    return draw_network(rng, lambda: gaussian(rng), density=rng.uniform(0.4, 0.9))


def _mlp_real(rng: Rng, dataset: Dataset) -> Net:
    return draw_network(rng, lambda: pixels(rng, dataset), density=rng.choice([1.0, 0.7]))


def _conv_real(rng: Rng, dataset: Dataset) -> Net:
    return draw_network(rng, lambda: pixels(rng, dataset), CONVOLUTIONAL, density=rng.choice([1.0, 0.8]))


MLPS = (Case("mlp-gaussian", _mlp_gaussian), Case("mlp-masked", _mlp_masked), Case("mlp-{data}", _mlp_real))
ALL = (*MLPS, Case("conv-{data}", _conv_real))


def linear_on_real(rng: Rng, dataset: Dataset) -> Net:
    """A deep linear network on the data set."""
    return draw_network(rng, lambda: pixels(rng, dataset), density=0.8, linear=True)


LINEAR = Case("linear-{data}", linear_on_real)


def _short_gaussian(rng: Rng, dataset: Dataset) -> Net:
    return draw_network(rng, lambda: gaussian(rng, SHORT_WIDTHS[0]), SHORT_DENSE, density=rng.choice([1.0, 0.7]))


def _short_real(rng: Rng, dataset: Dataset) -> Net:
    return draw_network(rng, lambda: pixels(rng, dataset, SHORT_WIDTHS[0]), SHORT_DENSE)


def _chain(rng: Rng, dataset: Dataset) -> Net:
    """A single path, with positive weights and positive inputs."""
    kept = np.zeros(SHORT_DENSE.size)
    kept[[index[0, 0] for index in SHORT_DENSE.indices]] = 1

    def inputs() -> np.ndarray:
        return rng.uniform(0.5, 2, (SAMPLES, SHORT_WIDTHS[0]))

    return draw_network(rng, inputs, SHORT_DENSE, theta=rng.uniform(0.5, 2, kept.size), kept=kept)


SHORT = (Case("gaussian", _short_gaussian), Case("{data}", _short_real), Case("chain", _chain))
"""For the claims whose counterexamples are searched for through eigenvalues."""
