"""Arithmetic that formulas share: 0/0, powers of numbers near one, products at full precision."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator/denominator with 0/0 = 0, its derivative too; other numbers over 0 are infinite, a NaN stays one.

    >>> ratio(jnp.array([0.0, 1.0, 1.0]), jnp.array([0.0, 0.0, 2.0]))
    Array([0. , inf, 0.5], dtype=float64)
    """
    empty = (numerator == 0) & (denominator == 0)
    return jnp.where(empty, 0, numerator / jnp.where(empty, 1, denominator))


def decay_and_gain(rate: Float[Array, "*r"], steps: Int[Array, "*t"]) -> tuple[Array, Array]:
    """(1 − rate)^steps and 1 − (1 − rate)^steps, each to rounding for small rates and for any number of steps.

    >>> decay_and_gain(jnp.array([0.5, 3.0]), jnp.array([2, 3]))
    (Array([ 0.25, -8.  ], dtype=float64), Array([0.75, 9.  ], dtype=float64))
    """
    monotone = rate <= 1
    # log|1 − rate|, of which log1p is the accurate form on the side where training takes place.
    logarithm = jnp.where(monotone, jnp.log1p(-jnp.where(monotone, rate, 0)), jnp.log(jnp.where(monotone, 1, rate - 1)))
    exponent = jnp.where(steps == 0, 0, steps.astype(rate.dtype) * logarithm)
    flips = ~monotone & (steps % 2 == 1)
    power = jnp.exp(exponent)
    return jnp.where(flips, -power, power), jnp.where(flips, 1 + power, -jnp.expm1(exponent))


def product(a: Array, b: Array) -> Array:
    """The matrix product a @ b in the full precision of its dtype, on every device."""
    return jnp.matmul(a, b, precision="highest")
