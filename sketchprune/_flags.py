"""Counting, quickly: how many entries are true."""

import operator

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int


def tally(*flags: Bool[Array, "..."]) -> Int[Array, "flags"]:
    """How many are true in each of several arrays of one size.

    One reduction of several operands: what the flags are made of is read once, and it is many times faster on a CPU
    than a sum of booleans.

    >>> tally(jnp.array([True, False]), jnp.array([True, True]))
    Array([1, 2], dtype=int32)
    """
    zeros = (jnp.int32(0),) * len(flags)
    ones = tuple(flag.ravel().astype(jnp.int32) for flag in flags)
    return jnp.stack(lax.reduce(ones, zeros, lambda a, b: tuple(map(operator.add, a, b)), (0,)))
