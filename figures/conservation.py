"""The sum of each pruning score over each layer: which scores are conserved, as SynFlow's paper says, and which not."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures._config import Config, Scale
from figures._path_networks import PRUNERS, Network, network, suited
from figures._style import BLUE, CYAN, GREEN, GREY, PURPLE, RED, WIDTH, YELLOW, Look, style
from sketchprune import scores, train
from sketchprune.scores import Pruned
from sketchprune.types import Key, Params, ScoreFn

CLAIMS = ("paths/conservation", "paths/saliency-balance", "paths/trace-drop")


@dataclass(frozen=True)
class Draws:
    """How much is drawn.

    Attributes:
        network: the network where there are images; the six-layer FC net elsewhere.
        seeds: how many draws of its weights.
        scores: the names of the scores, those that are conserved first.
        samples: how many images they see.
    """

    network: str
    seeds: int
    scores: tuple[str, ...]
    samples: int = 256


@scores.score
def saliency(net: Pruned) -> Params:
    """θ ∂L/∂θ with its sign, of which SNIP is the size."""
    return jax.tree.map(jnp.multiply, net.gradient(), net.params)


class Summed(NamedTuple):
    """A score that is summed over layers.

    Attributes:
        look: how it is drawn.
        score: the score.
        conserved: whether theory says that its sums are equal.
    """

    look: Look
    score: ScoreFn
    conserved: bool


SUMMED = {
    "synflow": Summed(Look("SynFlow", BLUE, "o", "-"), scores.synflow, True),
    "synflow_l2": Summed(Look("SynFlow-L2, conserved form", PURPLE, "D", "-"), scores.synflow_l2, True),
    "trace_drop": Summed(Look(r"drop of $\mathrm{Tr}\,\Pi$", CYAN, "s", "-"), scores.trace_drop, True),
    "saliency": Summed(Look(r"$\theta_i\,\partial_iL$, signed", GREEN, "h", "-"), saliency, True),
    "snip": Summed(Look(r"SNIP, $|\theta_i\,\partial_iL|$", GREEN, "^", "--"), scores.snip, False),
    "grasp": Summed(Look("GraSP, absolute", YELLOW, "v", "--"), scores.grasp, False),
    "magnitude": Summed(PRUNERS["magnitude"].look, scores.magnitude, False),
    "path_trace": Summed(Look(r"share of $\mathrm{Tr}\,\Pi$", "black", "<", "--"), scores.path_trace, False),
    "synflow_l2_authors": Summed(
        Look("SynFlow-L2, authors' form", RED, "p", "--"), functools.partial(scores.synflow_l2, form="authors"), False
    ),
    "synflow_l2_later": Summed(
        Look("SynFlow-L2, later form", GREY, "X", "--"), functools.partial(scores.synflow_l2, form="later"), False
    ),
}
"""Name -> score. The sums of a score that is not conserved are of its absolute values."""
SETTINGS: dict[Scale, Draws] = {
    "tiny": Draws("tiny", 2, ("synflow", "saliency", "magnitude"), 64),
    "small": Draws("lenet", 10, tuple(SUMMED)),
    "paper": Draws("vgg16", 10, tuple(SUMMED)),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The sum of each score over each layer, relative to its mean over the layers, in float64.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    draws = config.settings(SETTINGS)
    (name,) = suited([draws.network], config.data)
    chosen = [SUMMED[name] for name in draws.scores]
    net = network(name, config.data, draws.samples, np.float64)
    params = [net.initial(key) for key in jax.random.split(key, draws.seeds)]
    layers = net.layers(params[0])
    sums = np.array([[layer_sums(net, each, summed) for summed in chosen] for each in params])
    relative = sums / sums.mean(axis=2, keepdims=True)  # [seeds, scores, layers]
    deviation = abs(relative - 1).max(axis=2)
    return {
        "score": np.array(draws.scores),
        "conserved": np.array([summed.conserved for summed in chosen]),
        "relative_sum": relative.mean(axis=0),
        "relative_sum_least": relative.min(axis=0),
        "relative_sum_largest": relative.max(axis=0),
        "deviation": deviation.mean(axis=0),
        "deviation_least": deviation.min(axis=0),
        "deviation_largest": deviation.max(axis=0),
        "layer": np.array(layers),
        "seeds": np.array([draws.seeds]),
    }


def layer_sums(net: Network, params: Params, summed: Summed) -> Float[np.ndarray, " layers"]:
    """The sum of a score over each layer, from the input to the output.

    Args:
        net: the network.
        params: its weights.
        summed: the score.
    """
    found = summed.score(net.apply, train.cross_entropy, params, (net.x, net.y))
    return np.array([np.sum(leaf if summed.conserved else abs(leaf)) for leaf in net.by_layer(found, params)])


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    r"""Sums of scores over each layer of a network (left), and how far they are from equal (right).

    Scores above the line are conserved: their sums are equal in all layers but for rounding, in 64 bits. Below it, sums
    are of absolute values; the two other forms of SynFlow-L2 that are published are not conserved. Where a layer has
    many weights and a small sum, its scores are small, and pruning by them takes that layer first. Points are means
    over draws of the weights, bands and bars go from the least to the largest.
    """
    figure = Figure(figsize=(2 * WIDTH, WIDTH))
    lines, points = figure.subplots(1, 2, width_ratios=(1, 0.9))
    depth = np.arange(1, len(arrays["layer"]) + 1)
    names = arrays["score"].tolist()
    conserved = int(arrays["conserved"].sum())
    # Lines that lie on each other all show, because each is thinner than the one below it.
    widths = iter(np.linspace(5, 1, conserved))
    for index, name in enumerate(names):
        look = SUMMED[name].look
        mean, least, largest = (arrays[f"relative_sum{end}"][index] for end in ("", "_least", "_largest"))
        thin = {"linewidth": 0.8, "marker": look.marker}
        given = {"linewidth": next(widths)} if arrays["conserved"][index] else thin
        lines.plot(depth, mean, linestyle=look.line, color=look.colour, **given)
        lines.fill_between(depth, least, largest, color=look.colour, alpha=0.12, linewidth=0)
    lines.set(yscale="log", xlabel="layer", ylabel="sum of scores over the layer,\nrelative to the mean over layers")
    lines.set_xticks(depth)
    ticks = (0.05, 0.1, 0.2, 0.5, 1, 2, 5)
    lines.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    lines.minorticks_off()
    lines.set_ylim(0.8 * arrays["relative_sum_least"].min(), 1.25 * arrays["relative_sum_largest"].max())
    _draw_deviations(points, arrays, names, conserved)
    return figure


def _draw_deviations(axes: Axes, arrays: dict[str, np.ndarray], names: list[str], conserved: int) -> None:
    """The largest deviations, with a line between scores that are conserved and others."""
    height = np.arange(len(names))[::-1]
    # A deviation of zero has no place on the scale.
    least_drawn = np.finfo(float).eps / 2
    for index, name in enumerate(names):
        look = SUMMED[name].look
        mean, least, largest = (
            np.maximum(arrays[f"deviation{end}"][index], least_drawn) for end in ("", "_least", "_largest")
        )
        axes.plot([least, largest], [height[index]] * 2, color=look.colour, linewidth=0.8)
        axes.plot(mean, height[index], marker=look.marker, color=look.colour, linestyle="")
    axes.set_yticks(height, [SUMMED[name].look.label for name in names])
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0)
    axes.set(xscale="log", xlabel="largest relative deviation from the mean", ylim=(-0.6, len(names) - 0.4))
    between = len(names) - conserved - 0.5
    axes.axhline(between, color="black", linewidth=0.5)
    axes.annotate("conserved", (0.97, between + 0.15), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.annotate("not conserved", (0.03, between - 0.15), xycoords=("axes fraction", "data"), va="top")
