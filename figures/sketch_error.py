"""The error of a random mask against the number of weights that it may keep, beside what the theory says of it."""

import jax
import numpy as np
from matplotlib.figure import Figure

from figures import _mask_errors
from figures._config import Config, Scale
from figures._digits import digits
from figures._mask_errors import BUDGETS, KEEP, PANELS
from sketchprune.types import Key

CLAIMS = ("sketch/second-moment", "sketch/optimal-probabilities", "sketch/data-free", "sketch/top-k")
DATA = "digits"
SETTINGS: dict[Scale, int] = {"tiny": 32, "small": 256, "paper": 4096}
"""Scale -> masks for each draw of weights."""
NUM_WEIGHTS = 16
"""Draws of Gaussian weights, over which everything is averaged."""


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The theory's error, and the mean error of sampled masks with its standard error.

    Errors are relative to ‖Xw‖² and averaged over draws of the weights.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    arrays = {"budgets": BUDGETS, "keep": KEEP}
    for index, panel in enumerate(PANELS):
        weight_key, mask_key = jax.random.split(jax.random.fold_in(key, index))
        x = digits(panel)[0]
        w = jax.random.normal(weight_key, (NUM_WEIGHTS, x.shape[1]))
        numbers = jax.device_get(_mask_errors.errors(mask_key, x, w, w, num_masks=config.settings(SETTINGS)))
        arrays |= {f"{panel}_{name}": values for name, values in numbers.items()}
    return arrays


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """The error of a masked linear model of the digits at initialisation, relative to ‖Xw‖², by budget.

    Lines are the theory: exact expectations of the three random masks, and the bound for the largest |w|. Points are
    means over random masks with 95 % intervals, averaged over draws of the weights. The zero mask has error 1.
    """
    return _mask_errors.draw(arrays, r"$\mathbb{E}\,\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$")
