"""Sums of floating numbers without rounding: the same total in any order, over any parts and after a restart."""

from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

SHIFT = 1074 + 2 * 1022 + 53
"""The whole 53-bit mantissa of the smallest float64, 2^-1074, times the square of the smallest normal one, 2^-1022, is
in units of 2^-3171."""
_LOW = 2**26 - 1


def units(values: Float[np.ndarray, "n"], powers: Int[np.ndarray, "n"] | int = 0) -> int:
    """Σ values·2^powers of fewer than 2^36 finite numbers, exactly, as a whole number of units of 2^-3171.

    Powers from −2044: no product is rounded, and none overflows.

    O(n), and one long number for each exponent that occurs.

    >>> float(in_units(units(np.array([1e308, 1.0, -1e308]))))
    1.0
    >>> float(in_units(units(np.array([1.0, -1.0, 3.0]), np.array([2000, 2000, -1]))))
    1.5
    """
    fractions, exponents = np.frexp(values.astype(np.float64))
    exponents = exponents + powers
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    distinct, group = np.unique(exponents, return_inverse=True)
    # Half words, so that the sums of many mantissas stay whole numbers of 64 bits.
    low, high = np.zeros(len(distinct), np.int64), np.zeros(len(distinct), np.int64)
    np.add.at(low, group, mantissas & _LOW)
    np.add.at(high, group, mantissas >> 26)
    parts = zip(distinct.tolist(), low.tolist(), high.tolist(), strict=True)
    return sum((lower + (upper << 26)) << (exponent - 53 + SHIFT) for exponent, lower, upper in parts)


def in_units(total: int) -> Fraction:
    """The number that so many units are."""
    return Fraction(total, 2**SHIFT)
