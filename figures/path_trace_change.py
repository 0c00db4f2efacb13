"""How the trace of the path kernel changes while pruned networks train, for the pruners of the paths paper."""

import numpy as np
from matplotlib.figure import Figure

from figures._config import Config
from figures._style import style
from figures._trained_lines import Row, draw_lines, table
from figures._trained_paths import SETTINGS as SETTINGS
from figures._trained_paths import followed
from sketchprune.types import Key

CLAIMS = ("paths/trace", "paths/trace-moves")


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """log₁₀ of Tr Π relative to its start, by network, pruner and step.

    Args:
        config: the settings of the run.
        key: the key of this figure, which it does not use: it shares its networks with two others.
    """
    found = followed(config)
    log_trace = found["log_trace"] / np.log(10)
    first = log_trace[..., :1]
    # A network without a path has no relative change.
    alive = np.isfinite(first)
    return table(found, {"log10_ratio": np.where(alive, log_trace - np.where(alive, first, 0), np.nan)})


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    r"""The trace of the path kernel, relative to its start, while networks train with 10 % of their weights or all.

    Lines are means over seeds of log₁₀, bands their 95 % intervals, and the colour is the trace before training. In the
    paper's picture the trace changes less than the weights move. On the digits it hardly changes in the dense FC net,
    but grows by a factor of 4 to 10 under the variants of SynFlow, and of more than 1000 under random masks, which
    leave the smallest first trace: mostly, the smaller the first trace, the larger its relative change. GraSP is the
    exception, whose trace falls at first.
    """
    return draw_lines(
        arrays, [Row("log10_ratio", r"$\log_{10}\,\mathrm{Tr}\,\Pi(\theta_t)/\mathrm{Tr}\,\Pi(\theta_0)$")]
    )
