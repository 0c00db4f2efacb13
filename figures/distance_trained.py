"""How far training moves the weights of pruned networks, for the pruners of the paths paper."""

import numpy as np
from matplotlib.figure import Figure

from figures._config import Config
from figures._style import style
from figures._trained_lines import Row, draw_lines, table
from figures._trained_paths import SETTINGS as SETTINGS
from figures._trained_paths import followed
from sketchprune.types import Key

CLAIMS = ("paths/trace-moves",)


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The distance of the weights from their start, by network, pruner and step.

    Args:
        config: the settings of the run.
        key: the key of this figure, which it does not use: it shares its networks with two others.
    """
    found = followed(config)
    return table(found, {"distance": found["distance"]})


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """How far the kept weights are from their start, while networks train with 10 % of their weights or all.

    Lines are means over seeds, bands their 95 % intervals, and the colour is the trace of the path kernel before
    training. On the digits random masks, which leave the smallest trace, move farthest, and late, when their gradients
    have grown. Between the others the first trace does not tell who moves farther.
    """
    return draw_lines(arrays, [Row("distance", r"$\Vert\theta_t-\theta_0\Vert$")])
