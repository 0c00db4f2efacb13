"""What a random mask can make of random weights: subset sums by the number of items, and tickets by width."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._config import Config, Scale
from figures._style import BLUE, GREEN, GREY, RED, WIDTH, style
from sketchprune import data as datasets
from sketchprune import lottery, train
from sketchprune.types import Key
from theory.statistics import binomial_interval

CLAIMS = ("lottery/subset-sum-rate", "lottery/subset-sum-thinning", "lottery/strong-ticket")
EPSILON = 1 / 32
DELTA = 0.05
MAX_ITEMS = 20
"""The most items of which all subset sums are looked at."""
DENSITIES = {1.0: BLUE, 0.75: GREEN, 0.5: RED}
"""Part of the items that is kept, and of the edges of a source, and their colours."""
PIXELS, HIDDEN = 16, 8
"""Inputs and hidden units of the target."""


class Work(NamedTuple):
    """What is done at a scale.

    Attributes:
        sets: sets of random items for each density.
        seeds: targets and sources, of which everything is drawn anew.
        units: units of the source for each input of the target.
        steps: of the training of the target.
    """

    sets: int
    seeds: int
    units: tuple[int, ...]
    steps: int


SETTINGS: dict[Scale, Work] = {
    "tiny": Work(64, 2, (8, 16), 50),
    "small": Work(2048, 5, (4, 8, 12, 16, 24, 32, 48, 64), 500),
    "paper": Work(16384, 20, (4, 8, 12, 16, 24, 32, 48, 64), 500),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """How often items cover [−½, ½], and the errors of strong tickets with their bounds.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    work = config.settings(SETTINGS)
    item_key, ticket_key = jax.random.split(key)
    arrays = {"items": np.arange(MAX_ITEMS + 1), "sets": np.array(work.sets), "units": np.array(work.units)}
    for index, density in enumerate(DENSITIES):
        covered = functools.partial(_covered, jax.random.fold_in(item_key, index), density, work.sets)
        arrays |= {f"covered_{index}": config.part(f"items kept with {density}", covered)["covered"]}
    found = [
        config.part(f"tickets {seed}", functools.partial(_tickets, config, jax.random.fold_in(ticket_key, seed), work))
        for seed in range(work.seeds)
    ]
    for index in range(len(DENSITIES)):
        for name in ("measured", "bound"):
            arrays[f"{name}_{index}"] = np.stack([numbers[name][:, index] for numbers in found], axis=1)
    return arrays


def _covered(key: Key, density: float, sets: int) -> dict[str, np.ndarray]:
    """How many sets of n items, from 0 on, cover [−½, ½] to within ε when each item is kept at random."""
    draw_key, keep_key = jax.random.split(key)
    items = jax.random.uniform(draw_key, (sets, MAX_ITEMS), minval=-1, maxval=1)
    kept = jax.random.bernoulli(keep_key, density, items.shape)
    needed = np.asarray(lottery.hitting_numbers(jnp.where(kept, items, 0), [EPSILON]))[:, 0]
    return {"covered": (needed[:, None] <= np.arange(MAX_ITEMS + 1)).sum(axis=0)}


def _tickets(config: Config, key: Key, work: Work) -> dict[str, np.ndarray]:
    """The largest error of tickets on the samples, and its bound, [units, densities], relative to the outputs."""
    target_key, source_key = jax.random.split(key)
    target, x = _target(config, target_key, work.steps)
    size = float(jnp.max(abs(_run(target, x))))
    measured, bound = np.zeros((2, len(work.units), len(DENSITIES)))
    for row, units in enumerate(work.units):
        keys = jax.random.split(jax.random.fold_in(source_key, units), len(DENSITIES))
        for column, (density, one) in enumerate(zip(DENSITIES, keys, strict=True)):
            numbers = _ticket(one, tuple(target), x, density, units=units)
            measured[row, column], bound[row, column] = (float(number) / size for number in numbers)
    return {"measured": measured, "bound": bound}


def _target(config: Config, key: Key, steps: int) -> tuple[list[Array], Float[Array, "n d"]]:
    """A network without biases that is trained to tell the classes from a few pixels, and its samples in [−1, 1]."""
    chosen = slice(None, None, max(1, len(config.data.x) // 512))
    x = np.asarray(config.data.x[chosen], np.float64)
    spread = np.argsort(-x.std(axis=0), kind="stable")[:PIXELS]
    x = x[:, spread] - x[:, spread].mean(axis=0)
    x = jnp.asarray(x / (abs(x).max() or 1))
    labels = jnp.asarray(config.data.y[chosen])
    y = datasets.one_hot(labels, config.data.num_classes)
    widths = (x.shape[1], HIDDEN, config.data.num_classes)
    keys = jax.random.split(key, 2)
    start = [
        jax.random.normal(one, shape, x.dtype) * (2 / shape[0]) ** 0.5
        for one, shape in zip(keys, zip(widths[:-1], widths[1:], strict=True), strict=True)
    ]
    return train.fit(_run, _mean_square, start, (x, y), optax.adam(0.01), steps)[0], x


def _mean_square(outputs: Float[Array, "n k"], y: Float[Array, "n k"]) -> Float[Array, ""]:
    """The mean squared error."""
    return jnp.mean((outputs - y) ** 2)


def _run(kernels: list[Array] | tuple[Array, ...], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    """The outputs of a network with ReLU between the layers."""
    for kernel in kernels[:-1]:
        x = jax.nn.relu(x @ kernel)
    return x @ kernels[-1]


@functools.partial(jax.jit, static_argnames="units")
def _ticket(
    key: Key, target: tuple[Array, ...], x: Float[Array, "n d"], density: float, *, units: int
) -> tuple[Array, Array]:
    """The largest error of the ticket in one random source on the samples, and what the theory says of it."""
    source_key, mask_key = jax.random.split(key)
    source = lottery.random_source(source_key, target, units, signed=True)
    masks = [
        jax.random.bernoulli(one, density, kernel.shape)
        for one, kernel in zip(jax.random.split(mask_key, len(source)), source, strict=True)
    ]
    sizes = lottery.largest_activations(target, x)
    ticket = lottery.strong_ticket(target, source, masks, sizes, signed=True, max_items=14)
    error = jnp.max(abs(lottery.apply(ticket.network, x) - _run(target, x)))
    return error, ticket.error_bounds[-1]


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Left: how often the subset sums of n random items reach every point of [−½, ½] to within ε = 1/32.

    Each item is uniform on [−1, 1] and kept with probability p; bands are exact 95 % intervals. The dotted line is the
    least number of items that could do; triangles are the numbers that are enough for 1 − δ = 0.95 by the thinning
    bound, from the number of items that are enough when all are kept. Right: the largest error of a strong ticket on
    the samples (solid) and its bound (dashed), relative to the largest output, in sources that keep each edge with
    probability p; geometric means over seeds with their range.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.8 * WIDTH))
    left, right = figure.subplots(1, 2)
    _draw_sums(left, arrays)
    for index, colour in enumerate(DENSITIES.values()):
        for name, line, marker in (("measured", "-", "o"), ("bound", "--", "")):
            values = np.log(np.maximum(arrays[f"{name}_{index}"], np.finfo(float).tiny))
            right.fill_between(
                arrays["units"],
                *np.exp([values.min(axis=1), values.max(axis=1)]),
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
            right.plot(arrays["units"], np.exp(values.mean(axis=1)), line, color=colour, marker=marker)
    right.axhline(1, color="black", linewidth=0.5)
    right.set(xscale="log", yscale="log", xlabel="units of the source for each input")
    right.set_ylabel("largest error / largest output")
    right.set_xticks(arrays["units"], arrays["units"])
    right.minorticks_off()
    densities = [Line2D([], [], color=colour, label=f"$p={density:g}$") for density, colour in DENSITIES.items()]
    kinds = [
        Line2D([], [], color=GREY, linestyle=":", label=r"$\log_2\frac{1}{2\varepsilon}$"),
        Line2D([], [], color=GREY, linestyle="", marker="^", markerfacecolor=GREY, label="enough, by thinning"),
        Line2D([], [], color=GREY, marker="o", label="measured"),
        Line2D([], [], color=GREY, linestyle="--", label="bound"),
    ]
    figure.legend(handles=[*densities, *kinds], loc="outside upper center", ncols=7, columnspacing=1.0)
    return figure


def _draw_sums(axes: Axes, arrays: dict[str, np.ndarray]) -> None:
    """The frequencies of covering, and what is known of the numbers of items."""
    all_kept = arrays["covered_0"] / arrays["sets"]
    enough = next((int(count) for count in arrays["items"] if all_kept[count] >= 1 - DELTA / 2), None)
    for index, (density, colour) in enumerate(DENSITIES.items()):
        covered = arrays[f"covered_{index}"]
        low, high = binomial_interval(covered, arrays["sets"], 0.05)
        axes.fill_between(arrays["items"], low, high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(arrays["items"], covered / arrays["sets"], color=colour, marker="o", markevery=2)
        if enough and density < 1:
            at = lottery.thinned_items(enough, density, DELTA)
            axes.plot(at, 1 - DELTA, color=colour, marker="^", markerfacecolor=colour, linestyle="")
    axes.axvline(np.log2(1 / (2 * EPSILON)), color=GREY, linestyle=":")
    axes.axhline(1 - DELTA, color="black", linewidth=0.5)
    axes.set(xlabel="random items $n$", ylabel=r"probability that $[-\frac{1}{2},\frac{1}{2}]$ is covered")
