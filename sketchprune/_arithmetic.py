"""Arithmetic that formulas share: 0/0, powers of numbers near one, products at full precision."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_LONG_ROW = 2**16
"""Bytes of a row from which on a matrix is summed row by row."""


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator/denominator with 0/0 = 0, whose derivative is 0 as well.

    Other numbers over 0 are infinite, and a NaN stays one.

    >>> ratio(jnp.array([0.0, 1.0, 1.0]), jnp.array([0.0, 0.0, 2.0])).tolist()
    [0.0, inf, 0.5]
    """
    empty = (numerator == 0) & (denominator == 0)
    return jnp.where(empty, 0, numerator / jnp.where(empty, 1, denominator))


def decay_and_gain(rate: Float[Array, "*r"], steps: Int[Array, "*t"]) -> tuple[Array, Array]:
    """(1 − rate)^steps and 1 − (1 − rate)^steps, each to rounding for small rates and for any number of steps.

    >>> decay, gain = decay_and_gain(jnp.array([0.5, 3.0]), jnp.array([2, 3]))
    >>> [round(value, 4) for value in (*decay.tolist(), *gain.tolist())]
    [0.25, -8.0, 0.75, 9.0]
    """
    monotone = rate <= 1
    # log|1 − rate|; log1p is accurate for rates below one, where training converges.
    logarithm = jnp.where(monotone, jnp.log1p(-jnp.where(monotone, rate, 0)), jnp.log(jnp.where(monotone, 1, rate - 1)))
    exponent = jnp.where(steps == 0, 0, steps.astype(rate.dtype) * logarithm)
    flips = ~monotone & (steps % 2 == 1)
    power = jnp.exp(exponent)
    return jnp.where(flips, -power, power), jnp.where(flips, 1 + power, -jnp.expm1(exponent))


def product(a: Array | np.ndarray, b: Array | np.ndarray) -> Array:
    """The matrix product a @ b in the full precision of its dtype, on every device."""
    return jnp.matmul(a, b, precision="highest")


@jax.jit
def column_squares(x: Float[Array | np.ndarray, "n d"]) -> Float[Array, "d"]:
    """The sum of squares of each column.

    On a CPU, XLA sums a few columns at a time and so jumps from row to row. Where rows are long, each jump waits for
    memory, and adding up whole rows is up to 40 times as fast.

    >>> column_squares(jnp.array([[3.0, 0.0], [4.0, 1.0]])).tolist()
    [25.0, 1.0]
    """
    if jax.default_backend() != "cpu" or x.shape[1] * x.dtype.itemsize < _LONG_ROW:
        return jnp.sum(x**2, axis=0)
    return lax.scan(lambda total, row: (total + row**2, None), jnp.zeros_like(x, shape=x.shape[1:]), x)[0]


def count_true(*flags: Bool[Array, "..."]) -> Int[Array, "flags"]:
    """The number of true entries in each of several arrays of one size, as int32.

    It is one reduction of several operands: the arrays that the flags are computed from are read once, and on a CPU it
    is many times faster than a sum of booleans.

    >>> count_true(jnp.array([True, False]), jnp.array([True, True])).tolist()
    [1, 2]
    """
    zeros = (jnp.int32(0),) * len(flags)
    ones = tuple(flag.ravel().astype(jnp.int32) for flag in flags)
    return jnp.stack(lax.reduce(ones, zeros, lambda a, b: tuple(map(operator.add, a, b)), (0,)))
