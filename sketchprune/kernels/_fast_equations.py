"""Faster forms of two kinds of equations, with the same values and derivatives.

A kernel's pullback runs on samples x outputs cotangents at once. In small convolutional networks XLA spends nearly
all of that time on a CPU in narrow convolutions and small max poolings. Both have a form made of slices and matrix
products that is several times faster.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, primitives
from jaxtyping import Array, Float

from sketchprune._jaxpr import aval, evaluate
from sketchprune.kernels._layouts import features_last, windows

_MOST_NARROW_CHANNELS = 8
"""XLA's convolution is as fast as any other form from 16 input channels on."""
_MOST_WIDTH_IN_KERNELS = 5
"""The band matrices are mostly zeros when an image is wider than this many kernels."""
_MOST_POOLED_ENTRIES = 16
"""Entries of a pooling window for which slices are faster than XLA's reduction."""


def evaluate_fast(jaxpr: Jaxpr, equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of one equation, in the faster form where there is one."""
    if equation.primitive is primitives.conv_general_dilated_p and _is_narrow(equation):
        return [_banded_convolution(equation, *operands)]
    if equation.primitive is primitives.reduce_window_max_p and _is_small_pool(equation):
        return [_sliced_max_pool(equation, *operands)]
    return evaluate(jaxpr, equation, operands)


def _is_narrow(equation: JaxprEqn) -> bool:
    """Whether a convolution has few input channels and a kernel wide enough for its band matrices.

    The pullback of a 5x5 convolution with 6 input channels runs at a tenth of the rate of a matrix product.
    """
    params = equation.params
    images, kernel = map(aval, equation.invars)
    _, features, *space = params["dimension_numbers"].lhs_spec
    return (
        len(space) == 2
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and tuple(params["lhs_dilation"]) == (1, 1)
        and images.dtype == kernel.dtype == aval(equation.outvars[0]).dtype
        and images.shape[features] <= _MOST_NARROW_CHANNELS
        and images.shape[space[1]] <= _MOST_WIDTH_IN_KERNELS * kernel.shape[params["dimension_numbers"].rhs_spec[3]]
    )


def _banded_convolution(
    equation: JaxprEqn, images: Float[Array, "..."], kernel: Float[Array, "..."]
) -> Float[Array, "..."]:
    """A convolution as one matrix product for each row of the kernel, with the band matrix of that row."""
    params = equation.params
    numbers = params["dimension_numbers"]
    precision = params["precision"]
    row_stride, column_stride = params["window_strides"]
    row_padding, column_padding = params["padding"]
    row_dilation, column_dilation = params["rhs_dilation"]
    images = features_last(images, numbers.lhs_spec)
    kernel = kernel.transpose(*numbers.rhs_spec[2:], *numbers.rhs_spec[1::-1])  # rows, columns, channels, features
    bands = _bands(kernel, images.shape[2], column_stride, column_padding, column_dilation, precision)
    count, _, width, channels = images.shape
    rows, _, _, features = kernel.shape
    places = [aval(equation.outvars[0]).shape[axis] for axis in numbers.out_spec[2:]]
    flat = images.reshape(count, -1, width * channels)
    flat = lax.pad(flat, jnp.zeros((), flat.dtype), [(0, 0, 0), (*row_padding, 0), (0, 0, 0)])
    met = windows(flat, (1, rows, 1), (1, row_stride, 1), (1, row_dilation, 1), (count, places[0], width * channels))
    total = sum(jnp.matmul(row, band, precision=precision) for row, band in zip(met, bands, strict=True))
    result = jnp.reshape(total, (count, *places, features))
    result_axes = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return result.transpose([result_axes.index(axis) for axis in range(4)])


def _bands(
    kernel: Float[Array, "rows columns channels features"],
    width: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    precision: Any,
) -> list[Float[Array, "inputs outputs"]]:
    """For each kernel row the matrix from a row of pixels [width * channels] to a row of results.

    It is the convolution along the width, applied to the unit vectors.
    """
    rows, columns, channels, features = kernel.shape
    bands = lax.conv_general_dilated(
        jnp.eye(width * channels, dtype=kernel.dtype).reshape(-1, width, channels),
        kernel.transpose(1, 2, 0, 3).reshape(columns, channels, rows * features),
        (stride,),
        (padding,),
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=precision,
    )
    bands = bands.reshape(width * channels, -1, rows, features)
    return [bands[:, :, row].reshape(width * channels, -1) for row in range(rows)]


def _is_small_pool(equation: JaxprEqn) -> bool:
    """Whether a max pooling has few entries in its window and no base dilation."""
    params = equation.params
    return (
        jnp.issubdtype(aval(equation.outvars[0]).dtype, jnp.floating)
        and math.prod(params["window_dimensions"]) <= _MOST_POOLED_ENTRIES
        and all(dilation == 1 for dilation in params["base_dilation"])
    )


def _sliced_max_pool(equation: JaxprEqn, images: Float[Array, "..."]) -> Float[Array, "..."]:
    """Max pooling by strided slices. As in XLA, the derivative goes to the first of equal entries."""
    params = equation.params
    lowest = jnp.array(-jnp.inf, images.dtype)
    images = lax.pad(images, lowest, [(low, high, 0) for low, high in params["padding"]])
    window = params["window_dimensions"]
    strides = params["window_strides"]
    dilation = params["window_dilation"]
    places = aval(equation.outvars[0]).shape
    if window == strides and set(dilation) == {1}:
        entries = _tiles(images, window, places)
    else:
        entries = jnp.stack(list(windows(images, window, strides, dilation, places)))
    at = jnp.arange(len(entries)).reshape(-1, *(1 for _ in places))
    return jnp.sum(jnp.where(at == jnp.argmax(entries, axis=0), entries, 0), axis=0)


def _tiles(images: Float[Array, "..."], window: Sequence[int], places: Sequence[int]) -> Float[Array, "entries ..."]:
    """The entries of windows that do not overlap, by a reshape instead of slices."""
    images = images[tuple(slice(count * size) for count, size in zip(places, window, strict=True))]
    split = images.reshape([size for pair in zip(places, window, strict=True) for size in pair])
    axes = range(2 * len(places))
    return split.transpose(*axes[1::2], *axes[::2]).reshape(-1, *places)
