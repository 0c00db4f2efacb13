"""The error of a random mask against the number of weights that it may keep, beside what the theory says of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._digits import Pixels, digits
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, masks, sketch
from sketchprune.types import Key

BUDGETS = np.array([4, 8, 16, 32, 64, 128, 256])
"""Draws of a sketch."""
KEEP = np.arange(4, 61, 4)
"""Weights that top-|w| keeps."""
NUM_WEIGHTS = 16
"""Draws of Gaussian weights, over which everything is averaged."""
CLAIMS = ("sketch/second-moment", "sketch/optimal-probabilities", "sketch/data-free", "sketch/top-k")
SETTINGS: dict[Scale, int] = {"tiny": 32, "small": 256, "paper": 4096}
"""Scale -> masks for each draw of weights."""
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


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The theory's error, and the mean error of sampled masks with its standard error.

    Errors are relative to ‖Xw‖² and averaged over draws of the weights.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    arrays = {"budgets": BUDGETS, "keep": KEEP}
    for index, panel in enumerate(PANELS):
        panel_key = jax.random.fold_in(key, index)
        numbers = jax.device_get(_panel(panel_key, digits(panel)[0], num_masks=config.settings(SETTINGS)))
        arrays |= {f"{panel}_{name}": values for name, values in numbers.items()}
    return arrays


@functools.partial(jax.jit, static_argnames="num_masks")
def _panel(key: Key, x: Float[Array, "n d"], *, num_masks: int) -> dict[str, Array]:
    """The numbers of one panel."""
    weight_key, mask_key = jax.random.split(key)
    w = jax.random.normal(weight_key, (NUM_WEIGHTS, x.shape[1]))
    top, bound = jax.vmap(jax.vmap(_top, (None, 0, None)), (None, None, 0))(x, w, jnp.asarray(KEEP))
    probabilities = jnp.stack([jax.vmap(function, (None, 0))(x, w) for function in PROBABILITIES.values()])
    keys = jax.random.split(mask_key, probabilities.shape[:2])

    def over_weights(keyed: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        keys, p = keyed
        theory, mean, variance = lax.map(lambda each: _sampled(x, *each, num_masks=num_masks), (keys, w, p))
        return theory.mean(axis=0), mean.mean(axis=0), jnp.sqrt(variance.sum(axis=0)) / NUM_WEIGHTS

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


def _top(x: Float[Array, "n d"], w: Float[Array, " d"], keep: Int[Array, ""]) -> tuple[Array, Array]:
    """The error of the mask that keeps the largest |w|, and its bound: the square of Σ a_i over what it removes."""
    removed = jnp.where(masks.keep_top(abs(w), keep), 0, w)
    size = jnp.sum((x @ w) ** 2)
    return jnp.sum((x @ removed) ** 2) / size, jnp.sum(sketch.magnitudes(x, removed)) ** 2 / size


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """The error of a masked linear model of the digits at initialisation, relative to ‖Xw‖², by budget.

    Lines are the theory: exact expectations of the three random masks, and the bound for the largest |w|. Points are
    means over random masks with 95 % intervals, averaged over draws of the weights. The zero mask has error 1.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.75 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (panel, title) in zip(panels, PANELS.items(), strict=True):
        for name, look in LOOKS.items():
            kept = arrays["keep" if name == "top" else "budgets"]
            interval = None if name == "top" else 1.96 * arrays[f"{panel}_{name}_error"]
            axes.plot(kept, arrays[f"{panel}_{name}_theory"], color=look.colour, linestyle=look.line)
            axes.errorbar(kept, arrays[f"{panel}_{name}_mean"], interval, fmt=look.marker, color=look.colour)
        axes.axhline(1, color="black", linewidth=0.5)
        axes.annotate("zero mask", (256, 1), (0, 1.5), textcoords="offset points", ha="right", fontsize="small")
        axes.set(xscale="log", yscale="log", title=title, xlabel="budget $s$ (of 64 weights)")
        axes.set_xticks(arrays["budgets"], arrays["budgets"])
        axes.minorticks_off()
    panels[0].set_ylabel(r"$\mathbb{E}\,\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$")
    handles = [look.entry() for look in LOOKS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
