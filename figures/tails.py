"""How often the error of a single mask exceeds a threshold, beside two tail bounds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import Config
from figures._digits import PANELS, digits
from figures._style import BLUE, GREEN, RED, WIDTH, style
from sketchprune import laws, sketch
from sketchprune.types import Key
from theory.statistics import binomial_interval

DELTAS = 10.0 ** -np.linspace(0.001, 6, 200)
"""Failure rates at which the bounds are drawn."""
BUDGET = 64
MASKS = {"quick": 4096, "standard": 131072}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """At p*, relative to ‖Xw‖: thresholds and how many masks exceed them, the bounds at each δ, and the mean term."""
    count = MASKS[config.tier]
    arrays: dict[str, Any] = {"deltas": DELTAS, "masks": np.array(count)}
    for index, (name, panel) in enumerate(PANELS.items()):
        numbers = jax.device_get(_panel(jax.random.fold_in(key, index), digits(panel.pixels)[0], panel.signed, count))
        errors = numbers.pop("errors")
        thresholds = np.linspace(errors.min(), errors.max(), 200)
        numbers |= {"thresholds": thresholds, "exceed": (errors > thresholds[:, None]).sum(axis=1)}
        arrays |= {f"{name}_{quantity}": values for quantity, values in numbers.items()}
    return arrays


@functools.partial(jax.jit, static_argnums=3)
def _panel(key: Key, x: Float[Array, "n d"], signed: bool, count: int) -> dict[str, Array]:
    """The errors of multinomial masks, the bounds and the mean term."""
    weight_key, mask_key = jax.random.split(key)
    w = jax.random.normal(weight_key, x.shape[1:])
    w = jnp.where(signed, w, abs(w))
    p, size, deltas = sketch.optimal_probabilities(x, w), jnp.linalg.norm(x @ w), jnp.asarray(DELTAS)

    law = laws.Multinomial(p, BUDGET)

    def error(key: Key) -> Array:
        return jnp.linalg.norm(x @ ((law.sample(key) - 1) * w))

    return {
        "errors": lax.map(error, jax.random.split(mask_key, count), batch_size=1024) / size,
        "mean": jnp.sqrt(law.error(sketch.linear_items(x, w))) / size,
        "dkm": sketch.dkm_tail(x, w, BUDGET, deltas) / size,
        "mcdiarmid": sketch.mcdiarmid_tail(x, w, BUDGET, deltas) / size,
    }


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """The measured frequency with its exact 95 % band, and the bounds to the right of it."""
    figure = Figure(figsize=(2 * WIDTH, 0.72 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, panel) in zip(panels, PANELS.items(), strict=True):
        thresholds, exceed = arrays[f"{name}_thresholds"], arrays[f"{name}_exceed"]
        low, high = binomial_interval(exceed, arrays["masks"], 0.05)
        axes.fill_between(thresholds, low, high, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(thresholds, np.where(exceed > 0, exceed, np.nan) / arrays["masks"], color=BLUE, label="measured")
        axes.plot(arrays[f"{name}_mcdiarmid"], arrays["deltas"], "--", color=RED, label="McDiarmid")
        axes.plot(arrays[f"{name}_dkm"], arrays["deltas"], "-.", color=GREEN, label="Drineas, Kannan and Mahoney")
        axes.axvline(arrays[f"{name}_mean"], color=BLUE, linewidth=0.7, linestyle=":", label="root of the mean square")
        axes.axvline(1, color="black", linewidth=0.5)
        axes.annotate("zero mask", (1, 0.5 / arrays["masks"]), (1, 2), rotation=90, textcoords="offset points",
                      fontsize="small", va="bottom")  # fmt: skip
        axes.set(xscale="log", yscale="log", title=panel.title, ylim=(0.5 / arrays["masks"], 1.5))
        axes.set_xlabel(rf"threshold $t$, at $p^{{\mathrm{{*}}}}$ and $s={BUDGET}$")
    panels[0].set_ylabel(r"$\mathbb{P}\,(\Vert X(m\circ w)-Xw\Vert>t\,\Vert Xw\Vert)$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
