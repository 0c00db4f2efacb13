"""The digits as a linear model, compressed to the few rows that leave every error as it is."""

import functools
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from sketchprune import data, linalg, sketch

Pixels = Literal["raw", "standardised"]


class Panel(NamedTuple):
    """A panel of a figure: one of two models of the digits.

    Attributes:
        title: the title of the panel.
        pixels: how the pixels are scaled.
        signed: whether the weights are Gaussian, or the absolute values of such weights.
    """

    title: str
    pixels: Pixels
    signed: bool


PANELS = {
    "gaussian": Panel("standardised pixels, Gaussian $w$", "standardised", True),
    "informative": Panel(r"raw pixels, $w\geq 0$", "raw", False),
}


@functools.cache
def digits(pixels: Pixels) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "r k"]]:
    """X [74, 64] and targets [74, 10], which tell one class each from the rest.

    Raw pixels lie in [0, 1], with targets ±1. Standardised ones have mean 0 and variance 1, with targets ±1 less their
    mean. The rows come from :func:`sketchprune.linalg.compress`.

    Args:
        pixels: how the pixels are scaled.
    """
    dataset = data.load()
    return jax.device_get(_compressed(dataset.x, dataset.y, num_classes=dataset.num_classes, pixels=pixels))


def with_unit_targets() -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, "k r"]]:
    """The standardised digits, and in rows the targets of each class, scaled so that ‖y‖ = 1."""
    x, targets = digits("standardised")
    return x, (targets / np.linalg.norm(targets, axis=0)).T


def mostly_optimal(x: Float[Array, "r d"], w: Float[Array, " d"]) -> Float[Array, " d"]:
    """Nine parts of the optimal probabilities p*(w) and one part uniform.

    Args:
        x: the features.
        w: the weights.
    """
    return 0.9 * sketch.optimal_probabilities(x, w) + 0.1 * sketch.uniform_probabilities(w)


@functools.partial(jax.jit, static_argnames=("num_classes", "pixels"))
def _compressed(
    x: Float[Array, "n d"], labels: Int[Array, " n"], *, num_classes: int, pixels: Pixels
) -> tuple[Float[Array, "r d"], Float[Array, "r k"]]:
    """The scaled pixels and the targets, compressed together."""
    y = 2 * data.one_hot(labels, num_classes) - 1
    if pixels == "raw":
        return linalg.compress(x / x.max(), y)
    return linalg.compress(data.standardise(x), y - y.mean(axis=0))
