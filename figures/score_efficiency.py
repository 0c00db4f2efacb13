"""How well each pruning score sketches the tangent kernel, against the test error of the masks that it makes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from figures._config import Config, Scale
from figures._style import BLUE, GREY, RED, WIDTH, Look, style
from sketchprune import scores
from sketchprune.data import load
from sketchprune.types import Key
from theory.catalogue.effects.efficiency import masks_of_scores
from theory.catalogue.effects.rank_correlation import spearman
from theory.catalogue.effects.seeds import COMPARED_AT, Seed, drawn, make_seed, train_mask
from theory.statistics import mean_interval
from theory.verdict import EFFECT_LEVEL

CLAIMS = (
    "tangent/score-efficiency",
    "tangent/efficiency-predictor-sampled",
    "tangent/efficiency-predictor-top",
)
DATA = "digits"
SETTINGS: dict[Scale, int] = {"tiny": 2, "small": 64, "paper": 256}
"""Scale -> seeds; each has initial weights and images of its own to train and to test on."""
PANELS = {
    "sampled": Look(r"masks drawn in proportion to $|$score$|$", BLUE, "o", "none"),
    "top": Look("masks of the highest scores", RED, "s", "none"),
}
_NAME_GAP = 0.07
"""The least distance between two names, as a fraction of the height of a panel."""


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """For an MLP on the digits: efficiencies and test errors [seeds, scores], and their rank correlations [seeds].

    Networks, training and masks are those of the claims tangent/efficiency-predictor-sampled and -top.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    dataset = load()
    seeds = [make_seed(rng, dataset) for _ in range(config.settings(SETTINGS))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *seeds)
    numbers = jax.device_get(_measure(stacked, jax.random.split(key, len(seeds))))
    return {"names": np.array(list(scores.SCORES)), **numbers}


@jax.jit
def _measure(seeds: Seed, keys: Key) -> dict[str, Array]:
    """Efficiencies, test errors and rank correlations of each seed."""

    def one(keyed: tuple[Seed, Key]) -> dict[str, Array]:
        instance, key = keyed
        draw_key, train_key = jax.random.split(key)
        efficiency, *stacks = masks_of_scores(instance, draw_key)
        all_masks = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *stacks)
        chance, all_masks, _ = drawn(instance, all_masks, train_key)
        errors = jax.vmap(lambda mask: train_mask(instance, chance, mask).error)(all_masks).reshape(len(PANELS), -1)
        numbers = {"efficiency": efficiency}
        for name, error in zip(PANELS, errors, strict=True):
            numbers |= {f"{name}_error": error, f"{name}_correlation": spearman(efficiency, -error)}
        return numbers

    return lax.map(one, (seeds, keys))


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Scores by how well they sketch the tangent kernel, against the test error of a trained MLP of their masks.

    Points are means over seeds with 95 % intervals (of an efficiency, the geometric mean). ρ is the mean rank
    correlation with the 99.9 % interval that decides the claim; where it lies below 0, the masks of efficient scores
    are the worse ones.
    """
    figure = Figure(figsize=(2 * WIDTH, 0.9 * WIDTH))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    y, low, high = np.exp(_means(np.log(arrays["efficiency"])))
    for axes, (name, look) in zip(panels, PANELS.items(), strict=True):
        x, left, right = _means(arrays[f"{name}_error"])
        for height in y:
            axes.axhline(height, color=GREY, linewidth=0.3, zorder=0)
        across = (x - left, right - x)
        axes.errorbar(x, y, (y - low, high - y), across, fmt=look.marker, color=look.colour, elinewidth=0.8)
        correlation, interval = mean_interval(arrays[f"{name}_correlation"], EFFECT_LEVEL)
        numbers = f"{correlation:.2f}, 99.9 % in [{interval.low:.2f}, {interval.high:.2f}]".replace("-", "−")
        axes.set_title(f"{look.label}\n$\\rho$(efficiency, −error) = {numbers}", fontsize="small")
        axes.set(yscale="log", xlabel=f"test error, {100 * COMPARED_AT:.0f} % of the weights kept")
        axes.grid(visible=False, axis="y")
    panels[0].set_ylabel(r"efficiency $1/(1+\chi^2)$")
    errors = np.stack([arrays[f"{name}_error"].mean(axis=0) for name in PANELS])
    _write_names(panels[1], arrays["names"], y, errors)
    return figure


def _means(values: Float[np.ndarray, "seeds scores"]) -> Float[np.ndarray, "3 scores"]:
    """The mean over seeds, and both ends of its 95 % interval."""
    found = (mean_interval(column, 0.05) for column in values.T.astype(np.float64))
    return np.array([(mean, *interval) for mean, interval in found]).T


def _write_names(axes: Axes, names: np.ndarray, y: np.ndarray, errors: Float[np.ndarray, "panels scores"]) -> None:
    """Write the names of the scores and their errors to the right of a panel, with a line to each height.

    Each name is as near to its height as its neighbours allow. Two scores may share a height: their errors tell which
    point belongs to which.
    """
    order = np.argsort(y)
    bottom, top = np.log(axes.get_ylim())
    heights = (np.log(y[order]) - bottom) / (top - bottom)
    gaps = _NAME_GAP * np.arange(len(y))
    spread = isotonic_regression(heights - gaps).x.clip(0, 1 - gaps[-1]) + gaps
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.3, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    for name, at, height in zip(names[order], y[order], spread, strict=True):
        axes.annotate(
            name,
            (1, at),
            (1.08, height),
            xycoords=("axes fraction", "data"),
            textcoords="axes fraction",
            va="center",
            fontsize="small",
            annotation_clip=False,
            arrowprops=line,
        )
    axes.text(1.51, 1.06, "mean error", transform=axes.transAxes, ha="right", va="center", fontsize="small")
    for column, means, look in zip((1.39, 1.51), errors, PANELS.values(), strict=True):
        for mean, height in zip(means[order], spread, strict=True):
            axes.text(
                column,
                height,
                f"{mean:.2f}",
                transform=axes.transAxes,
                color=look.colour,
                ha="right",
                va="center",
                fontsize="small",
            )
