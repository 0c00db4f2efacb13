"""Mean and norm of the outputs of pruned networks while they train, for the pruners of the paths paper."""

import numpy as np
from matplotlib.figure import Figure

from figures._config import Config
from figures._style import style
from figures._trained_lines import Row, draw_lines, table
from figures._trained_paths import SETTINGS as SETTINGS
from figures._trained_paths import followed
from sketchprune.types import Key

CLAIMS = ("paths/predicts-early-training",)


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The mean of all outputs and the mean norm of an output vector, by network, pruner and step.

    Args:
        config: the settings of the run.
        key: the key of this figure, which it does not use: it shares its networks with two others.
    """
    found = followed(config)
    return table(found, {name: found[name] for name in ("mean", "norm")})


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """TODO."""
    return draw_lines(arrays, [Row("mean", "mean output"), Row("norm", r"mean of $\Vert f(x)\Vert$")])
