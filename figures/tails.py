"""How often the error of a single mask exceeds a threshold, beside two tail bounds."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._digits import PANELS, digits
from figures._style import BLUE, GREEN, RED, WIDTH, style
from sketchprune import laws, sketch
from sketchprune.types import Key
from theory.statistics import binomial_interval

DELTAS = 10.0 ** -np.linspace(0.001, 6, 200)
"""Failure rates δ at which the bounds are drawn."""
BUDGET = 64
"""Draws of a mask."""
CLAIMS = ("sketch/high-probability", "sketch/high-probability-sharp")
DATA = "digits"
SETTINGS: dict[Scale, int] = {"tiny": 4096, "small": 131072, "paper": 2**22}
"""Scale -> random masks whose errors are measured."""
NUM_THRESHOLDS = 200


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """Thresholds, how many masks exceed them, the bounds at each δ, and the root of the mean square.

    Masks are drawn from the optimal probabilities p*; errors and bounds are relative to ‖Xw‖.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    num_masks = config.settings(SETTINGS)
    arrays: dict[str, Any] = {"deltas": DELTAS, "masks": np.array(num_masks)}
    for index, (name, panel) in enumerate(PANELS.items()):
        x = digits(panel.pixels)[0]
        panel_key = jax.random.fold_in(key, index)
        numbers = jax.device_get(_panel(panel_key, x, panel.signed, num_masks=num_masks))
        errors = numbers.pop("errors")
        thresholds = np.linspace(errors.min(), errors.max(), NUM_THRESHOLDS)
        numbers |= {"thresholds": thresholds, "exceed": (errors > thresholds[:, None]).sum(axis=1)}
        arrays |= {f"{name}_{quantity}": values for quantity, values in numbers.items()}
    return arrays


@functools.partial(jax.jit, static_argnames="num_masks")
def _panel(key: Key, x: Float[Array, "n d"], signed: bool, *, num_masks: int) -> dict[str, Array]:
    """The errors of multinomial masks, the bounds, and the root of the mean square."""
    weight_key, mask_key = jax.random.split(key)
    w = jax.random.normal(weight_key, x.shape[1:])
    w = jnp.where(signed, w, abs(w))
    law = laws.Multinomial(sketch.optimal_probabilities(x, w), BUDGET)
    size = jnp.linalg.norm(x @ w)

    def error(key: Key) -> Array:
        return jnp.linalg.norm(x @ ((law.sample(key) - 1) * w))

    def at_each_delta(bound: Callable[..., Array]) -> Array:
        return jax.vmap(lambda delta: bound(x, w, BUDGET, delta))(jnp.asarray(DELTAS))

    return {
        "errors": lax.map(error, jax.random.split(mask_key, num_masks), batch_size=1024) / size,
        "mean": jnp.sqrt(law.error(sketch.linear_items(x, w))) / size,
        "dkm": at_each_delta(sketch.dkm_tail) / size,
        "mcdiarmid": at_each_delta(sketch.mcdiarmid_tail) / size,
    }


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """How often the error of a random mask exceeds t, and two bounds on that probability, which lie to the right of it.

    The band is the exact 95 % interval of each frequency.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.72 * WIDTH))
    panels = figure.subplots(1, 2, sharey=True)
    num_masks = arrays["masks"]
    lowest = 0.5 / num_masks
    for axes, (name, panel) in zip(panels, PANELS.items(), strict=True):
        thresholds = arrays[f"{name}_thresholds"]
        exceed = arrays[f"{name}_exceed"]
        low, high = binomial_interval(exceed, num_masks, 0.05)
        axes.fill_between(thresholds, low, high, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(
            thresholds,
            np.where(exceed > 0, exceed, np.nan) / num_masks,
            color=BLUE,
            label=f"measured, {num_masks:,} masks, 95 % band",
        )
        axes.plot(arrays[f"{name}_mcdiarmid"], arrays["deltas"], "--", color=RED, label="McDiarmid")
        axes.plot(arrays[f"{name}_dkm"], arrays["deltas"], "-.", color=GREEN, label="Drineas et al.")
        axes.axvline(arrays[f"{name}_mean"], color=BLUE, linewidth=0.7, linestyle=":", label="root of the mean square")
        axes.axvline(1, color="black", linewidth=0.5)
        label = {"textcoords": "offset points", "rotation": 90, "fontsize": "small", "va": "bottom"}
        axes.annotate("zero mask", (1, lowest), (1, 2), **label)
        axes.set(xscale="log", yscale="log", title=panel.title, ylim=(lowest, 1.5))
        axes.set_xlabel(rf"threshold $t$, at $p^{{\mathrm{{*}}}}$ and $s={BUDGET}$")
    panels[0].set_ylabel(r"$\mathbb{P}\,(\Vert X(m\circ w)-Xw\Vert>t\,\Vert Xw\Vert)$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
