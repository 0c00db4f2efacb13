"""Arrays that travel with a power of two of their own, so that long products neither overflow nor underflow."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Exponent = Int[Array, ""]


def scaled(values: Float[Array, "..."], exponent: Exponent) -> Float[Array, "..."]:
    """The product values * 2**exponent, in two factors because 2**exponent itself may not be representable."""
    half = exponent // 2
    return values * power_of_two(half, values.dtype) * power_of_two(exponent - half, values.dtype)


def power_of_two(exponent: Exponent, dtype: Any) -> Float[Array, ""]:
    """2**exponent, exactly; the smallest or largest normal power of two where it lies outside their range."""
    info = jnp.finfo(dtype)
    word = getattr(jnp, f"int{info.bits}")
    bits = (jnp.clip(exponent, info.minexp, info.maxexp - 1) + info.maxexp - 1).astype(word) << info.nmant
    return lax.bitcast_convert_type(bits, dtype)


def normaliser(values: Float[Array, "..."]) -> tuple[Exponent, Float[Array, ""], Bool[Array, ""]]:
    """The exponent e of the largest entry of an array >= 0, 2**−e, and whether that entry is above 0 (else e is 0).

    2**−e is the smallest normal power of two where it lies below the range of the dtype.
    """
    info = jnp.finfo(values.dtype)
    word = getattr(jnp, f"int{info.bits}")
    bias, zero = word(info.maxexp - 1), jnp.zeros((), values.dtype)
    largest = jnp.max(lax.stop_gradient(values), initial=0)
    positive = largest > zero
    biased = lax.select(positive, lax.bitcast_convert_type(largest, word) >> word(info.nmant), bias)
    factor = lax.bitcast_convert_type(lax.max(2 * bias - biased, word(1)) << word(info.nmant), values.dtype)
    return (biased - bias).astype(jnp.int32), factor, positive


def exponent_of(values: Float[Array, "..."]) -> Exponent:
    """The exponent of the largest entry of an array >= 0, or 0 where no entry is above 0."""
    info = jnp.finfo(values.dtype)
    largest = lax.stop_gradient(jnp.max(values, initial=0))
    bits = lax.bitcast_convert_type(largest, getattr(jnp, f"int{info.bits}")) >> info.nmant
    return jnp.where(largest > 0, bits - info.maxexp + 1, 0).astype(jnp.int32)
