"""The error of a masked linear model of the digits: masks are drawn for some weights and used on others."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from figures._digits import Pixels
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, masks, sketch
from sketchprune.types import Key

BUDGETS = np.array([4, 8, 16, 32, 64, 128, 256])
"""Draws of a sketch."""
KEEP = np.arange(4, 61, 4)
"""Weights that top-|w| keeps."""
PROBABILITIES = {
    "optimal": sketch.optimal_probabilities,
    "data_free": lambda x, w: sketch.data_free_probabilities(w),
    "uniform": lambda x, w: sketch.uniform_probabilities(w),
}
"""Name -> probabilities of the weights, given the data and the weights."""
LOOKS = {
    "optimal": Look(r"$p^{\mathrm{*}}\propto\Vert x_i\Vert\,|w_i|$", BLUE, "o", "-"),
    "data_free": Look(r"$p\propto|w_i|$, data-free", RED, "s", "--"),
    "uniform": Look("$p$ uniform", GREEN, "^", "-."),
    "top": Look(r"top-$|w|$, and its bound", PURPLE, "D", ":"),
}
PANELS: dict[Pixels, str] = {"raw": "raw pixels", "standardised": "standardised pixels"}


@functools.partial(jax.jit, static_argnames=("num_masks", "mixed"))
def errors(
    key: Key,
    x: Float[Array, "n d"],
    start: Float[Array, "w d"],
    end: Float[Array, "w d"],
    *,
    num_masks: int,
    mixed: float = 0.0,
) -> dict[str, Array]:
    """The theory's error and the mean error of sampled masks with its standard error, averaged over the weights.

    Errors are ‖X(m∘w) − Xw‖²/‖Xw‖², of masks that are drawn for ``start``, at w = ``end``.

    Args:
        key: for the masks.
        x: the samples.
        start: draws of the weights that masks are drawn for.
        end: the weights that they are used on.
        num_masks: masks for each draw of the weights.
        mixed: the part of the probabilities that is uniform.
    """
    top, bound = jax.vmap(jax.vmap(_top, (None, 0, 0, None)), (None, None, None, 0))(x, start, end, jnp.asarray(KEEP))
    laws_of = jnp.stack([jax.vmap(function, (None, 0))(x, start) for function in PROBABILITIES.values()])
    probabilities = (1 - mixed) * laws_of + mixed / x.shape[1]
    keys = jax.random.split(key, probabilities.shape[:2])

    def over_weights(keyed: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        keys, p = keyed
        theory, mean, variance = lax.map(lambda each: _sampled(x, *each, num_masks=num_masks), (keys, end, p))
        return theory.mean(axis=0), mean.mean(axis=0), jnp.sqrt(variance.sum(axis=0)) / len(end)

    numbers = {"top_mean": top.mean(axis=1), "top_theory": bound.mean(axis=1)}
    found = lax.map(over_weights, (keys, probabilities))
    for quantity, rows in zip(("theory", "mean", "error"), found, strict=True):
        numbers |= {f"{name}_{quantity}": row for name, row in zip(PROBABILITIES, rows, strict=True)}
    return numbers


def _sampled(
    x: Float[Array, "n d"], key: Key, w: Float[Array, " d"], p: Float[Array, " d"], *, num_masks: int
) -> tuple[Float[Array, " s"], Float[Array, " s"], Float[Array, " s"]]:
    """For each budget: the theory's error, the mean error of sampled masks, and the variance of that mean."""
    size = jnp.sum((x @ w) ** 2)
    items = sketch.linear_items(x, w)

    def error(key: Key, budget: Array) -> Array:
        mask = laws.Multinomial(p, budget, max_budget=int(BUDGETS.max())).sample(key)
        return jnp.sum((x @ ((mask - 1) * w)) ** 2) / size

    # Each budget has masks of its own, so that the points of the figure are independent.
    keys = jax.random.split(key, (num_masks, len(BUDGETS)))
    errors = jax.vmap(jax.vmap(error), (0, None))(keys, jnp.asarray(BUDGETS))
    theory = jax.vmap(lambda budget: laws.Multinomial(p, budget).error(items))(jnp.asarray(BUDGETS))
    return theory / size, errors.mean(axis=0), errors.var(axis=0, ddof=1) / num_masks


def _top(
    x: Float[Array, "n d"], start: Float[Array, " d"], w: Float[Array, " d"], keep: Int[Array, ""]
) -> tuple[Array, Array]:
    """The error at w of the mask that keeps the largest |start|, and its bound: the square of Σ a_i of the rest."""
    removed = jnp.where(masks.keep_top(abs(start), keep), 0, w)
    size = jnp.sum((x @ w) ** 2)
    return jnp.sum((x @ removed) ** 2) / size, jnp.sum(sketch.magnitudes(x, removed)) ** 2 / size


@style()
def draw(arrays: Mapping[str, np.ndarray], ylabel: str, looks: Mapping[str, Look] = LOOKS) -> Figure:
    """Lines are the theory, points are sampled, with 95 % intervals.

    Args:
        arrays: the numbers of both panels, called after them, and the budgets.
        ylabel: what is drawn.
        looks: how each quantity is drawn.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.75 * WIDTH))
    panels: Sequence[Any] = figure.subplots(1, 2, sharey=True)
    for axes, (panel, title) in zip(panels, PANELS.items(), strict=True):
        for name, look in looks.items():
            kept = arrays["keep" if name == "top" else "budgets"]
            interval = None if name == "top" else 1.96 * arrays[f"{panel}_{name}_error"]
            axes.plot(kept, arrays[f"{panel}_{name}_theory"], color=look.colour, linestyle=look.line)
            axes.errorbar(kept, arrays[f"{panel}_{name}_mean"], interval, fmt=look.marker, color=look.colour)
        axes.axhline(1, color="black", linewidth=0.5)
        axes.annotate("zero mask", (256, 1), (0, 1.5), textcoords="offset points", ha="right", fontsize="small")
        axes.set(xscale="log", yscale="log", title=title, xlabel="budget $s$ (of 64 weights)")
        axes.set_xticks(arrays["budgets"], arrays["budgets"])
        axes.minorticks_off()
    panels[0].set_ylabel(ylabel)
    handles = [look.entry() for look in looks.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
