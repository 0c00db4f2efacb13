"""How the operands and the result of a product become a[q, t, i], w[q, j, i] and y[q, t, j] = Σ_i a w."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array, Shaped

from sketchprune._jaxpr import aval

Layout = Callable[[Shaped[Array, "..."]], Shaped[Array, "..."]]
"""A rearrangement of an array's entries, which may also copy them or pad with zeros."""


class Layouts(NamedTuple):
    """The layouts of one product.

    Attributes:
        inputs: Takes the input operand to [q, t, i].
        weight: Takes the weight operand to [q, j, i].
        outputs: Takes the result to [q, t, j].
    """

    inputs: Layout
    weight: Layout
    outputs: Layout


def dot_layouts(equation: JaxprEqn, weight: int) -> Layouts:
    """The layouts of a dot_general whose operand number ``weight`` is the weight."""
    contracted, batch = equation.params["dimension_numbers"]
    fed = 1 - weight

    def free(operand: int) -> list[int]:
        taken = (*contracted[operand], *batch[operand])
        return [axis for axis in range(aval(equation.invars[operand]).ndim) if axis not in taken]

    # The result has the batch axes first, then the free axes of the left operand, then those of the right.
    groups = range(len(batch[0]))
    left = range(len(groups), len(groups) + len(free(0)))
    right = range(left.stop, left.stop + len(free(1)))
    positions, outputs = (left, right) if weight == 1 else (right, left)
    return Layouts(
        _merge(batch[fed], free(fed), contracted[fed]),
        _merge(batch[weight], free(weight), contracted[weight]),
        _merge(groups, positions, outputs),
    )


def _merge(*groups: Sequence[int]) -> Layout:
    """The layout in which each group of axes becomes one axis."""

    def layout(array: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        sizes = [math.prod(array.shape[axis] for axis in group) for group in groups]
        return array.transpose([axis for group in groups for axis in group]).reshape(sizes)

    return layout


def convolution_layouts(equation: JaxprEqn) -> Layouts:
    """The layouts of a convolution: t runs over places in the result, i over the entries of a patch."""
    numbers = equation.params["dimension_numbers"]
    groups = equation.params["feature_group_count"]

    def kernel(weight: Shaped[Array, "..."]) -> Shaped[Array, "q j i"]:
        weight = weight.transpose(numbers.rhs_spec)
        outputs, channels = weight.shape[:2]
        weight = weight.reshape(groups, outputs // groups, channels, -1)
        return weight.transpose(0, 1, 3, 2).reshape(groups, outputs // groups, -1)

    def result(array: Shaped[Array, "..."]) -> Shaped[Array, "q t j"]:
        array = features_last(array, numbers.out_spec)
        return array.reshape(-1, groups, array.shape[-1] // groups).transpose(1, 0, 2)

    return Layouts(_patches(equation), kernel, result)


def _patches(equation: JaxprEqn) -> Layout:
    """The layout from the images of a convolution to the patches that its kernel meets."""
    params = equation.params
    numbers = params["dimension_numbers"]
    groups = params["feature_group_count"]
    kernel = [aval(equation.invars[1]).shape[axis] for axis in numbers.rhs_spec[2:]]
    places = [aval(equation.outvars[0]).shape[axis] for axis in numbers.out_spec[2:]]
    padding = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]

    def layout(images: Shaped[Array, "..."]) -> Shaped[Array, "q t i"]:
        images = features_last(images, numbers.lhs_spec)
        images = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *padding, (0, 0, 0)])
        count = images.shape[0]
        channels = images.shape[-1]
        # One strided slice for each kernel entry: XLA's own extraction of patches is a grouped convolution.
        entries = windows(
            images,
            window=(1, *kernel, 1),
            strides=(1, *params["window_strides"], 1),
            dilation=(1, *params["rhs_dilation"], 1),
            places=(count, *places, channels),
        )
        patches = jnp.stack([entry.reshape(-1, groups, channels // groups) for entry in entries], axis=2)
        return patches.transpose(1, 0, 2, 3).reshape(groups, patches.shape[0], -1)

    return layout


def features_last(images: Shaped[Array, "..."], spec: Sequence[int]) -> Shaped[Array, "n ... c"]:
    """Images whose batch, feature and spatial axes are ``spec``, in that order, as batch, space, features."""
    batch, features, *space = spec
    return images.transpose(batch, *space, features)


def windows(
    array: Shaped[Array, "..."],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    places: Sequence[int],
) -> Iterator[Shaped[Array, "..."]]:
    """For each entry of a sliding window, in row-major order, the array's entries that it meets at all places."""
    for entry in itertools.product(*map(range, window)):
        start = [at * step for at, step in zip(entry, dilation, strict=True)]
        stop = [low + (n - 1) * step + 1 for low, n, step in zip(start, places, strides, strict=True)]
        yield lax.slice(array, start, stop, strides)
