"""From a setting to its problem; and how exactly float32 evaluates it."""

import math

import jax
import numpy as np
from jaxtyping import Float

from sketchprune.data import Dataset
from sketchprune.search.problems.linear import linear_problem
from sketchprune.search.problems.network import network_problem
from sketchprune.search.problems.setting import Problem, Setting
from sketchprune.types import Mask, Prunable


def problem(setting: Setting, dataset: Dataset, *, prunable: Prunable = None) -> Problem:
    """The problem that a completed setting names.

    Args:
        setting: from :func:`completed`.
        dataset: the data that it names.
        prunable: which leaves of the model's parameters may be pruned, as for :func:`sketchprune.masks.prunable`. The
            density and the law are over these.

    Returns:
        The law, the objective, and what theory says of them.

    Raises:
        ValueError: for a density that keeps nothing, data that give every weight the size 0, and a law that has no 0/1
            masks of its own where ``binary`` asks for them; and as :func:`sketchprune.masks.prunable`.
    """
    return (linear_problem if setting.model == "linear" else network_problem)(setting, dataset, prunable)


def rounding_error(problem: Problem, masks: Mask, values: Float[np.ndarray, "best"]) -> float:
    """The largest relative error of values in float32 against the same objective in float64.

    Args:
        problem: what was searched.
        masks: masks, stacked on a leading axis.
        values: their objectives, as the search found them.

    Returns:
        One number; NaN for no masks, and for a problem without an objective in float64.
    """
    objective = problem.objective_float64
    if objective is None or not len(values):
        return math.nan
    with jax.enable_x64(True):
        every = jax.jit(lambda stacked: jax.lax.map(objective, stacked))
        exact = np.asarray(every(masks))
    scale = np.where(exact == 0, 1, np.abs(exact))
    return float(np.max(np.abs(values - exact) / scale))
