"""The digits as a linear model: all images, in the few rows that leave every error as it is."""

import functools
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from sketchprune import data, linalg

Pixels = Literal["raw", "standardised"]


class Panel(NamedTuple):
    """One of two models of the digits: pixels, and weights that are Gaussian or their absolute values."""

    title: str
    pixels: Pixels
    signed: bool


PANELS = {
    "gaussian": Panel("standardised pixels, Gaussian $w$", "standardised", True),
    "informative": Panel(r"raw pixels, $w\geq 0$", "raw", False),
}


@functools.cache
def digits(pixels: Pixels) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "r k"]]:
    """X [74, 64] and targets [74, 10], one class each against the rest.

    Raw pixels lie in [0, 1], with targets ±1; standardised ones have mean 0 and variance 1, with targets ±1 less
    their mean. The rows come from :func:`sketchprune.linalg.compress`.
    """
    dataset = data.load()
    return jax.device_get(_prepared(dataset.x, dataset.y, dataset.num_classes, pixels))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _prepared(
    x: Float[Array, "n d"], labels: Int[Array, " n"], num_classes: int, pixels: Pixels
) -> tuple[Float[Array, "r d"], Float[Array, "r k"]]:
    y = 2 * data.one_hot(labels, num_classes) - 1
    if pixels == "raw":
        return linalg.compress(x / x.max(), y)
    return linalg.compress(data.standardise(x), y - y.mean(axis=0))
