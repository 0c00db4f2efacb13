"""Checks of arguments that several modules of this folder take; values that are traced are not checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sketchprune import _checks


def probability(name: str, value: Any) -> None:
    """A number in [0, 1], or an array of them."""
    values = _checks.concrete(value)
    if values is not None and not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} is {value}; it takes a number in [0, 1]")


def at_least_zero(name: str, value: Any) -> None:
    """A finite number >= 0, or an array of them."""
    values = _checks.concrete(value)
    if values is not None and not ((values >= 0) & (values < np.inf)).all():
        raise ValueError(f"{name} is {value}; it takes a finite number >= 0")


def chain(name: str, shapes: Sequence[tuple[int, ...]]) -> None:
    """Kernels [inputs, units] of dense layers, each as many inputs as the layer before has units."""
    if not shapes:
        raise ValueError(f"{name} has no layers; it takes at least one")
    for i, shape in enumerate(shapes):
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{name}[{i}] has shape {shape}; it takes [inputs, units], both >= 1")
        if i and shape[0] != shapes[i - 1][1]:
            raise ValueError(f"{name}[{i}] has {shape[0]} inputs; it takes {shapes[i - 1][1]}, the units before it")


def network(name: str, layers: Sequence[Any]) -> None:
    """Dense layers that fit together, each with a bias for every unit."""
    chain(name, [np.shape(layer.kernel) for layer in layers])
    for i, layer in enumerate(layers):
        units = np.shape(layer.kernel)[1]
        if layer.bias is None or np.shape(layer.bias) != (units,):
            got = "None" if layer.bias is None else f"of shape {np.shape(layer.bias)}"
            raise ValueError(f"{name}[{i}].bias is {got}; it takes [{units}], zeros for a layer without biases")
