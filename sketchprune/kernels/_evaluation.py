"""Evaluates single equations of a jaxpr: as they are, or in another way with the same values and derivatives.

A kernel's pullback runs on samples x outputs cotangents at once. In small convolutional networks XLA, on CPU,
spends nearly all of that time in two kinds of equations; both have a form made of slices and products that is
several times faster.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun, primitives
from jaxtyping import Array, Float

from sketchprune.kernels._layouts import aval, features_last, windows


def evaluate(jaxpr: Jaxpr, equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of one equation of ``jaxpr``, evaluated as a jaxpr of its own.

    Custom derivatives and the equation's context stay what they are.
    """
    given = [(atom, value) for atom, value in zip(equation.invars, operands, strict=True) if isinstance(atom, Var)]
    alone = Jaxpr((), [atom for atom, _ in given], equation.outvars, [equation], equation.effects, jaxpr.debug_info)
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*(value for _, value in given))


def evaluate_fast(jaxpr: Jaxpr, equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """As ``evaluate``, with the faster form where there is one."""
    if equation.primitive is primitives.conv_general_dilated_p and _is_narrow(equation):
        return [_banded(equation, *operands)]
    if equation.primitive is primitives.reduce_window_max_p and _is_small_pool(equation):
        return [_pooled(equation, *operands)]
    return evaluate(jaxpr, equation, operands)


def _is_narrow(equation: JaxprEqn) -> bool:
    """Few input channels, and a kernel wide enough for the bands not to be mostly zeros.

    The pullback of a 5x5 convolution with 6 input channels runs at a tenth of the rate of a matrix product;
    from 16 channels on XLA's convolution is as fast as any.
    """
    params = equation.params
    images, kernel = map(aval, equation.invars)
    _, features, *space = params["dimension_numbers"].lhs_spec
    return (
        len(space) == 2
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and tuple(params["lhs_dilation"]) == (1, 1)
        and images.dtype == kernel.dtype == aval(equation.outvars[0]).dtype
        and images.shape[features] <= 8
        and images.shape[space[1]] <= 5 * kernel.shape[params["dimension_numbers"].rhs_spec[3]]
    )


def _banded(equation: JaxprEqn, images: Float[Array, "..."], kernel: Float[Array, "..."]) -> Float[Array, "..."]:
    """A convolution as one product for each row of the kernel, with the matrix it is over the width."""
    params = equation.params
    numbers, precision = params["dimension_numbers"], params["precision"]
    images = features_last(images, numbers.lhs_spec)
    kernel = kernel.transpose(*numbers.rhs_spec[2:], *numbers.rhs_spec[1::-1])
    count, _, width, channels = images.shape
    rows, columns, _, features = kernel.shape
    (stride, step), (padding, margin) = params["window_strides"], params["padding"]
    dilation, gap = params["rhs_dilation"]
    bands = lax.conv_general_dilated(
        jnp.eye(width * channels, dtype=images.dtype).reshape(-1, width, channels),
        kernel.transpose(1, 2, 0, 3).reshape(columns, channels, rows * features),
        (step,),
        (margin,),
        rhs_dilation=(gap,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=precision,
    )
    places = [aval(equation.outvars[0]).shape[axis] for axis in numbers.out_spec[2:]]
    bands = bands.reshape(width * channels, places[1], rows, features)
    flat = images.reshape(count, -1, width * channels)
    flat = lax.pad(flat, jnp.zeros((), flat.dtype), [(0, 0, 0), (*padding, 0), (0, 0, 0)])
    met = windows(flat, (1, rows, 1), (1, stride, 1), (1, dilation, 1), (count, places[0], width * channels))
    total = sum(
        jnp.matmul(row, bands[:, :, at].reshape(width * channels, -1), precision=precision)
        for at, row in enumerate(met)
    )
    result = jnp.reshape(total, (count, *places, features))
    batch_first = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return result.transpose([batch_first.index(axis) for axis in range(4)])


def _is_small_pool(equation: JaxprEqn) -> bool:
    params = equation.params
    return (
        jnp.issubdtype(aval(equation.outvars[0]).dtype, jnp.floating)
        and math.prod(params["window_dimensions"]) <= 16
        and all(dilation == 1 for dilation in params["base_dilation"])
    )


def _pooled(equation: JaxprEqn, images: Float[Array, "..."]) -> Float[Array, "..."]:
    """Max pooling by strided slices; as in XLA, the derivative goes to the first of equal entries."""
    params = equation.params
    lowest = jnp.array(-jnp.inf, images.dtype)
    images = lax.pad(images, lowest, [(low, high, 0) for low, high in params["padding"]])
    window, strides, places = (
        params["window_dimensions"],
        params["window_strides"],
        aval(equation.outvars[0]).shape,
    )
    if window == strides and set(params["window_dilation"]) == {1}:  # windows that do not overlap: no slices
        images = images[tuple(slice(n * step) for n, step in zip(places, strides, strict=True))]
        split = images.reshape([size for pair in zip(places, window, strict=True) for size in pair])
        axes = range(2 * len(places))
        entries = split.transpose(*axes[1::2], *axes[::2]).reshape(-1, *places)
    else:
        entries = jnp.stack(list(windows(images, window, strides, params["window_dilation"], places)))
    at = jnp.arange(len(entries)).reshape(-1, *(1 for _ in places))
    return jnp.sum(jnp.where(at == jnp.argmax(entries, axis=0), entries, 0), axis=0)
