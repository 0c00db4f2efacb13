"""Sums of floating numbers without rounding: the same total in any order, over any parts and after a restart."""

from fractions import Fraction

import numpy as np
from jaxtyping import Float

_SHIFT = 1074 + 53
"""The whole 53-bit mantissa of the smallest float64, 2^-1074, is in units of 2^-1127."""
_LOW = 2**26 - 1


def units(values: Float[np.ndarray, "..."]) -> int:
    """The exact sum of fewer than 2^36 finite numbers, as a whole number of units of 2^-1127.

    O(n), and one long number for each exponent that occurs.

    >>> float(in_units(units(np.array([1e308, 1.0, -1e308]))))
    1.0
    """
    fractions, exponents = np.frexp(np.ravel(values).astype(np.float64))
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    distinct, group = np.unique(exponents, return_inverse=True)
    # Half words, so that the sums of many mantissas stay whole numbers of 64 bits.
    low, high = np.zeros(len(distinct), np.int64), np.zeros(len(distinct), np.int64)
    np.add.at(low, group, mantissas & _LOW)
    np.add.at(high, group, mantissas >> 26)
    parts = zip(distinct.tolist(), low.tolist(), high.tolist(), strict=True)
    return sum((lower + (upper << 26)) << (exponent - 53 + _SHIFT) for exponent, lower, upper in parts)


def in_units(total: int) -> Fraction:
    """The number that so many units are."""
    return Fraction(total, 2**_SHIFT)
