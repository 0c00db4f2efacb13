"""Test accuracy of pruned networks against density: the highest scores beside masks drawn in proportion to them."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures._config import BySize, Config, Scale
from figures._path_networks import warm_loss
from figures._style import BLUE, CYAN, GREEN, GREY, PURPLE, RED, WIDTH, YELLOW, style
from figures._sweeps import rows_of, swept
from sketchprune import scores, sweep
from sketchprune.sweep import Look, Method, Summary, Training
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Params, ScoreFn, Scores

CLAIMS = ("sketch/randomised-beats-top", "sketch/randomised-beats-top-iterative")


def grasp(apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, **options: Any) -> Scores:
    """GraSP as its authors take it: of the cross-entropy at their temperature."""
    return scores.grasp(apply, warm_loss, params, batch, **options)


SCORES: dict[str, ScoreFn] = {
    "magnitude": scores.magnitude,
    "SynFlow": scores.synflow,
    "SynFlow-L2": scores.synflow_l2,
    "SNIP": scores.snip,
    "GraSP": grasp,
    "SynFlow, data": functools.partial(scores.synflow, inputs="data"),
    "SynFlow-L2, data": functools.partial(scores.synflow_l2, inputs="data"),
}
"""Name -> score. The last four look at the data."""
COLOURS = dict(zip(SCORES, (GREY, BLUE, RED, GREEN, YELLOW, CYAN, PURPLE), strict=True))
PANELS = {"scores without data": list(SCORES)[:3], "scores with data": list(SCORES)[3:]}
"""Title -> the scores of a column."""
LINES: dict[str, Any] = {"top": "-", "proportional": ":"}
MARKERS = {"top": "o", "proportional": "s"}


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        network: the name of the network.
        scores: the names of the scores.
        densities: the densities.
        rounds: the rounds of iterative pruning.
        seeds: how many seeds.
        samples: training samples at most.
        training: how each network is trained.
    """

    network: str
    scores: tuple[str, ...]
    densities: tuple[float, ...]
    rounds: int
    seeds: int
    samples: int
    training: Training


_FIVE = ("magnitude", "SynFlow", "SynFlow-L2", "SNIP", "GraSP")
_TINY = Settings("mlp", ("magnitude", "SNIP"), (0.5, 0.05), 3, 2, 400, Training(40, 0.1, 64))
_DIGITS = Settings("mlp", tuple(SCORES), (0.5, 0.2, 0.1, 0.05, 0.02, 0.01), 30, 5, 60_000, Training(300, 0.1, 64))
_LENET = Settings("lenet", _FIVE, (0.1, 0.02, 0.01), 30, 5, 10_000, Training(200, 0.1, 64))
_PAPER = Settings("vgg16", tuple(SCORES), (0.1, 0.03, 0.01, 0.003, 0.001), 100, 5, 60_000, Training(60_000, 0.1, 128))
SETTINGS: dict[Scale, Settings | BySize[Settings]] = {
    "tiny": BySize(_TINY, dataclasses.replace(_TINY, network="lenet")),
    "small": BySize(_DIGITS, _LENET),
    "paper": BySize(dataclasses.replace(_DIGITS, rounds=100, training=Training(1000, 0.1, 64)), _PAPER),
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The mean test accuracy of each method at each density, with its 95 % interval over seeds.

    Args:
        config: the settings of the run.
        key: not used: a run derives from its seed.
    """
    settings = config.settings(SETTINGS)
    problem = sweep.problem(settings.network, *config.halves(settings.samples), settings.training)
    table = swept(config, "accuracy", problem, _methods(settings), settings.densities, settings.seeds)
    found = sweep.summarise(rows_of(table))
    return {name: np.array([getattr(each, name) for each in found]) for name in Summary._fields}


def _methods(settings: Settings) -> list[Method]:
    """Every score with every sampler, at once and in rounds."""
    return [
        sweep.scored(name, SCORES[name], sampler=sampler, rounds=rounds)
        for name in settings.scores
        for sampler in LINES
        for rounds in (1, settings.rounds)
    ]


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Test accuracy on held-out data of networks that were pruned at their initial weights and then trained.

    Solid lines keep the highest scores; dotted lines draw as many weights in proportion to the size of the score.
    Above, networks are pruned at once; below, in rounds, each of which scores what is left. Points are means over the
    seeds, bands 95 % intervals of the mean, and the line at the top is the dense network. A cross says that most
    networks have a layer without weights; a stroke at the bottom, that a draw was asked for more weights than have a
    score other than zero. GraSP is that of its authors, at temperature 200.

    On the digits, drawing helps where the highest scores empty a layer or nearly so: magnitude, and SynFlow at once. It
    does not help SynFlow in rounds, and at once it costs SNIP and GraSP accuracy at the lowest densities. The highest
    scores of GraSP in rounds train badly at this step size.
    """
    rows = zip(*(arrays[name].tolist() for name in Summary._fields), strict=True)
    found = [Summary(*row) for row in rows]
    rounds = sorted({each.rounds for each in found if each.sampler})
    figure = Figure(figsize=(2 * WIDTH, 1.25 * WIDTH))
    panels = figure.subplots(len(rounds), len(PANELS), sharex=True, sharey=True, squeeze=False)
    marks: dict[str, Line2D] = {}
    for row, number in zip(panels, rounds, strict=True):
        for axes, (title, names) in zip(row, PANELS.items(), strict=True):
            shown = [each for each in found if each.rounds in (number, 0)]
            styles = {
                each.method: Look(COLOURS[each.score], LINES[each.sampler], MARKERS[each.sampler])
                for each in shown
                if each.score in names
            }
            entries = sweep.draw_accuracy(axes, shown, styles)
            marks |= {str(entry.get_label()): entry for entry in entries[len(styles) :]}
            axes.set(xlabel="", ylabel="", title=f"{title}, {'at once' if number == 1 else f'{number} rounds'}")
    figure.supxlabel("density (part of the weights that is kept)", fontsize="medium")
    seeds = max(each.runs + each.failures for each in found)
    figure.supylabel(f"test accuracy, mean of {seeds} seeds", fontsize="medium")
    occurring = list(dict.fromkeys(each.score for each in found if each.sampler))
    colours = [Line2D([], [], color=COLOURS[name], label=name) for name in occurring]
    samplers = [
        Line2D([], [], color="black", linestyle=LINES[name], marker=MARKERS[name], label=label)
        for name, label in (("top", "highest scores"), ("proportional", "drawn in proportion"))
    ]
    figure.legend(handles=[*colours, *samplers, *marks.values()], loc="outside upper center", ncols=5)
    return figure
