"""The error at the trained weights of masks that were drawn at initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from figures import _mask_errors
from figures._config import Config, Scale
from figures._digits import digits
from figures._mask_errors import BUDGETS, KEEP, PANELS
from sketchprune import linalg
from sketchprune.types import Key

CLAIMS = ("sketch/transfer",)
DATA = "digits"
SETTINGS: dict[Scale, int] = {"tiny": 32, "small": 256, "paper": 4096}
"""Scale -> masks for each class."""
UNIFORM = 0.1
"""The uniform part of the probabilities, without which a weight that starts near 0 has an error without bound."""
LOOKS = {
    name: look._replace(label=label)
    for (name, look), label in zip(
        _mask_errors.LOOKS.items(),
        (r"$p\propto\Vert x_i\Vert\,|w_{0,i}|$", r"$p\propto|w_{0,i}|$", "$p$ uniform", r"top-$|w_0|$, and its bound"),
        strict=True,
    )
}


def data(config: Config, key: Key) -> dict[str, np.ndarray]:
    """The theory's error, and the mean error of sampled masks with its standard error, at the trained weights w.

    Errors are relative to ‖Xw‖² and averaged over the ten classes, each told from the rest by weights of its own.

    Args:
        config: the settings of the run.
        key: the key of this figure.
    """
    arrays = {"budgets": BUDGETS, "keep": KEEP}
    for index, panel in enumerate(PANELS):
        weight_key, mask_key = jax.random.split(jax.random.fold_in(key, index))
        x, targets = digits(panel)
        start = jax.random.normal(weight_key, (targets.shape[1], x.shape[1]))
        end = jax.vmap(linalg.limit, (None, 1, 0))(jnp.asarray(x), jnp.asarray(targets), start)
        masks = config.settings(SETTINGS)
        numbers = jax.device_get(_mask_errors.errors(mask_key, x, start, end, num_masks=masks, mixed=UNIFORM))
        arrays |= {f"{panel}_{name}": values for name, values in numbers.items()}
    return arrays


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """What a mask that was drawn for the initial weights does to the trained weights w of a linear model of the digits.

    Lines are the theory: exact expectations of the three random masks, and the bound for the largest initial weights.
    Points are means over random masks with 95 % intervals, averaged over the ten classes. Nine tenths of the
    probabilities follow the initial weights and one tenth is uniform. The zero mask has error 1.
    """
    return _mask_errors.draw(arrays, r"$\mathbb{E}\,\Vert X(m\circ w)-Xw\Vert^2/\,\Vert Xw\Vert^2$, trained $w$", LOOKS)
