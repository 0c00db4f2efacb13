"""How many weights the pruners leave in each layer: which of them empty a layer, and at which compression."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._config import Config, Scale
from figures._path_networks import PRUNERS, Network, Pruner, network, prune_network, suited
from figures._style import CYAN, WIDTH, Look, style
from sketchprune import masks, prune, scores
from sketchprune.types import Key, Mask, Params

CLAIMS = ("paths/critical-compression",)
METHODS = {
    **{name: PRUNERS[name] for name in ("random", "magnitude", "snip", "grasp")},
    "synflow_once": Pruner(Look("SynFlow, one-shot", CYAN, "s", "--"), scores.synflow),
    "synflow": PRUNERS["synflow"]._replace(look=PRUNERS["synflow"].look._replace(label="SynFlow, iterative")),
}


@dataclass(frozen=True)
class Compressions:
    """How far networks are pruned.

    Attributes:
        network: the network where there are images; the six-layer FC net elsewhere.
        seeds: how many draws of its weights.
        exponents: log₁₀ of the compressions, weights to weights kept.
        rounds: of iterative SynFlow from one compression to the next.
        methods: the names of the methods.
        samples: how many images the scores see.
    """

    network: str
    seeds: int
    exponents: tuple[float, ...]
    rounds: int
    methods: tuple[str, ...] = tuple(METHODS)
    samples: int = 256


SETTINGS: dict[Scale, Compressions] = {
    "tiny": Compressions("tiny", 2, (0.5, 1.0, 2.0), 5, ("magnitude", "synflow"), 64),
    "small": Compressions("lenet", 10, tuple(np.arange(0.25, 3.6, 0.25).tolist()), 25),
    "paper": Compressions("vgg16", 5, tuple(np.arange(0.25, 5.1, 0.25).tolist()), 25),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The weights left in each layer, by method and compression.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    settings = config.settings(SETTINGS)
    net = _network(config)
    sizes = counts(net, net.initial(key))
    kept = np.array(
        [_part(config, method, key) for method in settings.methods]
    )  # [methods, seeds, compressions, layers]
    least = kept.min(axis=3)
    method, exponent = (axis.ravel() for axis in np.meshgrid(settings.methods, settings.exponents, indexing="ij"))

    def by_row(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(method), *values.shape[2:])

    return {
        "method": method,
        "compression": 10**exponent,
        "collapsed_share": by_row((least == 0).mean(axis=1)),
        "fewest": by_row(np.median(least, axis=1)),
        "fewest_least": by_row(least.min(axis=1)),
        "fewest_largest": by_row(least.max(axis=1)),
        "density": by_row((kept / sizes).mean(axis=1)),
        "emptied_share": by_row((kept == 0).mean(axis=1)),
        "layer_size": sizes,
        "seeds": np.array([settings.seeds]),
    }


def _network(config: Config) -> Network:
    """The network of a run."""
    settings = config.settings(SETTINGS)
    (name,) = suited([settings.network], config.data)
    return network(name, config.data, settings.samples)


def _part(config: Config, method: str, key: Key) -> np.ndarray:
    """The weights that a method leaves, from an earlier run if they are known."""

    def measure() -> dict[str, np.ndarray]:
        return {"kept": occupancy(_network(config), METHODS[method], config.settings(SETTINGS), key)}

    return config.part(method, measure)["kept"]


def counts(net: Network, tree: Params | Mask) -> Int[np.ndarray, " layers"]:
    """How many entries of each layer are not zero, from the input to the output.

    Args:
        net: the network.
        tree: its weights, or a mask.
    """
    return np.array(net.by_layer(masks.summary(tree).kept, tree))


def occupancy(
    net: Network, method: Pruner, settings: Compressions, key: Key
) -> Int[np.ndarray, "seeds compressions layers"]:
    """The weights that a method leaves in each layer. The methods share the weights of a seed.

    Args:
        net: the network.
        method: how it is pruned.
        settings: how far.
        key: for weights and masks.
    """
    found = []
    for start_key, mask_key in jax.random.split(key, (settings.seeds, 2)):
        params = net.initial(start_key)
        keeps = [round(prune.size(params) / 10**exponent) for exponent in settings.exponents]
        pruned = prune_network(net, params, method, keeps, key=mask_key, rounds=settings.rounds)
        found.append([counts(net, mask) for mask in pruned])
    return np.array(found)


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    r"""The weights that pruners leave: in the emptiest layer (left), and in every layer (right), against compression.

    Lines are medians over draws of the weights on the left, where bands go from the least to the largest, and means on
    the right, up to a cross where the layer is empty in at least half of the draws, so that no path is left. Iterative
    SynFlow empties no layer up to the largest compression, as the theory says of pruning weight by weight. The
    one-shot pruners do: on the digits first SynFlow itself, then magnitude, random masks, GraSP and SNIP.
    """
    figure = Figure(figsize=(2 * WIDTH, 1.1 * WIDTH))
    names = list(dict.fromkeys(arrays["method"].tolist()))
    columns = -(-len(names) // 2)
    grid = figure.add_gridspec(2, columns + 1, width_ratios=(2, *[1] * columns))
    _draw_emptiest(figure.add_subplot(grid[:, 0]), arrays, names)
    shared = None
    depth = len(arrays["layer_size"])
    colours = colormaps["viridis"](np.linspace(0, 0.88, depth))
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        axes = figure.add_subplot(grid[row, column + 1], sharex=shared, sharey=shared)
        shared = shared or axes
        _draw_layers(axes, arrays, arrays["method"] == name, colours)
        axes.set_title(METHODS[name].look.label, fontsize="small")
        axes.tick_params(labelbottom=index + columns >= len(names), labelleft=column == 0)
        if index + columns >= len(names):
            axes.set_xlabel("compression")
        if column == 0:
            axes.set_ylabel("part of a layer left")
    layers = [Line2D([], [], color=colour, label=f"layer {at}") for at, colour in enumerate(colours, 1)]
    if depth > 8:  # too many for a legend
        layers = [layers[0], layers[-1]]
    empty = Line2D([], [], color="black", marker="x", linestyle="", label="empty from here on")
    methods = [METHODS[name].look.entry() for name in names]
    figure.legend(handles=methods, loc="outside upper left", ncols=3)
    figure.legend(handles=[*layers, empty], loc="outside upper right", ncols=3)
    return figure


def _draw_emptiest(axes: Axes, arrays: dict[str, np.ndarray], names: list[str]) -> None:
    """The weights in the emptiest layer, a line for each method."""
    for name in names:
        look = METHODS[name].look
        compression, median, least, largest = (
            arrays[key][arrays["method"] == name] for key in ("compression", "fewest", "fewest_least", "fewest_largest")
        )
        axes.plot(compression, median, color=look.colour, marker=look.marker, linestyle=look.line)
        axes.fill_between(compression, least, largest, color=look.colour, alpha=0.15, linewidth=0)
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set(xscale="log", xlabel="compression (weights to weights left)", ylabel="weights left in the emptiest layer")
    axes.set_ylim(bottom=-0.1)


def _draw_layers(
    axes: Axes, arrays: dict[str, np.ndarray], rows: Bool[np.ndarray, " rows"], colours: Float[np.ndarray, "layers 4"]
) -> None:
    """The part of each layer that is left by one method, up to where it is empty."""
    compression = arrays["compression"][rows]
    for at, colour in enumerate(colours):
        density, emptied = (arrays[key][rows][:, at] for key in ("density", "emptied_share"))
        known = emptied < 0.5
        axes.plot(compression[known], density[known], color=colour, linewidth=1.0)
        if known.any() and not known.all():
            end = np.flatnonzero(~known)[0]
            axes.plot(compression[end], density[max(end - 1, 0)], color=colour, marker="x", linestyle="")
    axes.set(xscale="log", yscale="log")
