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
    """The relative change of Tr Π since the start of training, by network, pruner and step.

    Args:
        config: the settings of the run.
        key: the key of this figure, which it does not use: it shares its networks with two others.
    """
    found = followed(config)
    log_trace = found["log_trace"]
    first = log_trace[..., :1]
    # Where no path is left, the trace has no relative change.
    change = np.where(np.isfinite(first), np.expm1(log_trace - np.where(np.isfinite(first), first, 0)), np.nan)
    return table(found, {"change": change})


@style()
def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """TODO."""
    return draw_lines(arrays, [Row("change", r"$\mathrm{Tr}\,\Pi(\theta_t)/\mathrm{Tr}\,\Pi(\theta_0)-1$")])
