"""The error of a random mask against the weights that it may keep, beside what the theory says of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from figures._config import Config
from figures._digits import Pixels, digits
from figures._style import BLUE, GREEN, PURPLE, RED, WIDTH, Look, style
from sketchprune import laws, masks, sketch
from sketchprune.types import Key

BUDGETS = np.array([4, 8, 16, 32, 64, 128, 256])
KEEP = np.arange(4, 61, 4)
"""Weights that top-|w| keeps."""
WEIGHTS = 16
"""Draws of Gaussian weights."""
MASKS = {"quick": 32, "standard": 256}
"""Masks for each draw of weights."""
LAWS = {
    "optimal": sketch.optimal_probabilities,
    "data_free": lambda x, w: sketch.data_free_probabilities(w),
    "uniform": lambda x, w: sketch.uniform_probabilities(w),
}
LOOKS = {
    "optimal": Look(r"$p^{\mathrm{*}}\propto\Vert x_i\Vert\,|w_i|$", BLUE, "o", "-"),
    "data_free": Look(r"$p\propto|w_i|$, data-free", RED, "s", "--"),
    "uniform": Look("$p$ uniform", GREEN, "^", "-."),
    "top": Look(r"top-$|w|$, and its bound", PURPLE, "D", ":"),
}
PANELS: dict[Pixels, str] = {"raw": "raw pixels", "standardised": "standardised pixels"}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Errors relative to ‖Xw‖², averaged over weights: of the theory, and of sampled masks with a standard error."""
    arrays = {"budgets": BUDGETS, "keep": KEEP}
    for index, panel in enumerate(PANELS):
        numbers = jax.device_get(_panel(jax.random.fold_in(key, index), digits(panel)[0], MASKS[config.tier]))
        arrays |= {f"{panel}_{name}": values for name, values in numbers.items()}
    return arrays


@functools.partial(jax.jit, static_argnums=2)
def _panel(key: Key, x: Float[Array, "n d"], count: int) -> dict[str, Array]:
    weight_key, mask_key = jax.random.split(key)
    w = jax.random.normal(weight_key, (WEIGHTS, x.shape[1]))
    top, bound = jax.vmap(jax.vmap(_top, (None, 0, None)), (None, None, 0))(x, w, jnp.asarray(KEEP))
    chances = jnp.stack([jax.vmap(law, (None, 0))(x, w) for law in LAWS.values()])
    keys = jax.random.split(mask_key, chances.shape[:2])

    def over_weights(law: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        keys, p = law
        theory, mean, variance = lax.map(lambda each: _sampled(x, each, count), (keys, w, p))
        return theory.mean(axis=0), mean.mean(axis=0), jnp.sqrt(variance.sum(axis=0)) / WEIGHTS

    numbers = {"top_mean": top.mean(axis=1), "top_theory": bound.mean(axis=1)}
    for quantity, values in zip(("theory", "mean", "error"), lax.map(over_weights, (keys, chances)), strict=True):
        numbers |= {f"{name}_{quantity}": row for name, row in zip(LAWS, values, strict=True)}
    return numbers


def _sampled(
    x: Float[Array, "n d"], instance: tuple[Key, Float[Array, " d"], Float[Array, " d"]], count: int
) -> tuple[Float[Array, " s"], Float[Array, " s"], Float[Array, " s"]]:
    """At each budget: the theory's error, the mean of ``count`` masks, and the variance of that mean."""
    key, w, p = instance
    size = jnp.sum((x @ w) ** 2)

    def error(key: Key, budget: Array) -> Array:
        mask = laws.Multinomial(p, budget, max_budget=int(BUDGETS.max())).sample(key)
        return jnp.sum((x @ ((mask - 1) * w)) ** 2) / size

    # Its own masks for each budget: what chance does at one of them says nothing of the others.
    keys = jax.random.split(key, (count, len(BUDGETS)))
    errors = jax.vmap(jax.vmap(error), (0, None))(keys, jnp.asarray(BUDGETS))
    items = sketch.linear_items(x, w)
    theory = jax.vmap(lambda budget: laws.Multinomial(p, budget).error(items))(jnp.asarray(BUDGETS))
    return theory / size, errors.mean(axis=0), errors.var(axis=0, ddof=1) / count


def _top(x: Float[Array, "n d"], w: Float[Array, " d"], keep: Int[Array, ""]) -> tuple[Array, Array]:
    """The error of the mask that keeps the largest |w|, and its bound (Σ_{i∉T} a_i)²."""
    lost = jnp.where(masks.keep_top(abs(w), keep), 0, w)
    size = jnp.sum((x @ w) ** 2)
    return jnp.sum((x @ lost) ** 2) / size, jnp.sum(sketch.magnitudes(x, lost)) ** 2 / size


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Lines are the theory, points are sampled, with 95 % intervals."""
    figure = Figure(figsize=(2 * WIDTH, 0.75 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (panel, title) in zip(panels, PANELS.items(), strict=True):
        for name, look in LOOKS.items():
            kept = arrays["keep" if name == "top" else "budgets"]
            theory, mean = (arrays[f"{panel}_{name}_{quantity}"] for quantity in ("theory", "mean"))
            interval = None if name == "top" else 1.96 * arrays[f"{panel}_{name}_error"]
            axes.plot(kept, theory, color=look.colour, linestyle=look.line)
            axes.errorbar(kept, mean, interval, fmt=look.marker, color=look.colour)
        axes.axhline(1, color="black", linewidth=0.5)
        axes.annotate("zero mask", (256, 1), (0, 1.5), textcoords="offset points", ha="right", fontsize="small")
        axes.set(xscale="log", yscale="log", title=title, xlabel="budget $s$ (of 64 weights)")
        axes.set_xticks(arrays["budgets"], arrays["budgets"])
        axes.minorticks_off()
    panels[0].set_ylabel(r"$\mathbb{E}\,\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$")
    handles = [look.entry() for look in LOOKS.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure
