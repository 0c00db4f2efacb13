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
    """The mean of all outputs, and log₁₀ of the mean norm of an output vector, by network, pruner and step.

    Args:
        config: the settings of the run.
        key: the key of this figure, which it does not use: it shares its networks with two others.
    """
    found = followed(config)
    norm = found["norm"]
    # A network without a path has outputs of norm 0.
    log_norm = np.log10(norm, out=np.full(norm.shape, np.nan), where=norm > 0)
    return table(found, {"mean": found["mean"], "log10_norm": log_norm})


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """The outputs while networks train with 10 % of their weights or all: their mean, and the mean norm on images.

    Lines are means over seeds, of log₁₀ below, bands their 95 % intervals, and the colour is the trace of the path
    kernel before training. On the digits a smaller first trace mostly goes with smaller first outputs, which grow
    later. GraSP is the exception: it keeps the weights that the norm of the gradient needs, and starts with outputs
    that are more than ten times as large as those of the dense network.
    """
    return draw_lines(
        arrays, [Row("mean", "mean output"), Row("log10_norm", r"$\log_{10}$ of the mean $\Vert f(x)\Vert$")]
    )
