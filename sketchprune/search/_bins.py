"""Fixed log-spaced bins of floating numbers: 32 an octave, for each sign, from 2^-126 to 2^128.

The same for every search, so that histograms of different runs add up. A bin is found by whole-number comparisons
on the bits of a float32: no logarithm, hence the same bin on every device.
"""

import numpy as np
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

PER_OCTAVE = 32
_OCTAVES = range(-126, 128)
_HALF = PER_OCTAVE * len(_OCTAVES)
COUNT = 2 * _HALF + 3
"""−∞, the negative bins from large to small, zero, the positive bins from small to large, +∞."""
ZERO = _HALF + 1
_STEPS = np.ceil((2.0 ** (np.arange(1, PER_OCTAVE) / PER_OCTAVE) - 1) * 2**23).astype(np.int32)
"""Where a new bin begins within an octave, as a mantissa of 23 bits."""
_STARTS = np.concatenate([[1.0], 1 + _STEPS / 2**23])
RATIO = float(np.max(np.append(_STARTS[1:], 2.0) / _STARTS))
"""The upper edge of a bin over its lower edge, at most: just above 2^(1/32)."""


def bins(values: Float[Array, "n"]) -> Int[Array, "n"]:
    """The bin of each value, as float32 rounds it; what is below 2^-126 in size counts as zero, and so does a NaN.

    O(32 n).
    """
    bits = lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)
    exponent, mantissa = (bits >> 23) & 255, bits & (2**23 - 1)
    step = jnp.sum((mantissa[..., None] >= _STEPS).astype(jnp.int32), axis=-1)
    # Zero and subnormal numbers have exponent 0; infinity has 255 and comes just after the largest bin.
    size = jnp.where(exponent == 0, 0, PER_OCTAVE * (exponent - 1) + step + 1)
    return jnp.where(jnp.isnan(values), ZERO, ZERO + jnp.where(bits < 0, -size, size))


def edges() -> Float[np.ndarray, "edges"]:
    """The COUNT + 1 edges, ascending, in float64: bin b holds what lies between edges b and b + 1.

    >>> len(edges()) - COUNT, edges()[ZERO : ZERO + 2].tolist() == [-(2.0**-126), 2.0**-126]
    (1, True)
    """
    positive = np.append(np.concatenate([_STARTS * 2.0**octave for octave in _OCTAVES]), 2.0**128)
    return np.concatenate([[-np.inf], -positive[::-1], positive, [np.inf]])


def quantile(histogram: Int[np.ndarray, "bins"], level: float) -> float:
    """The smallest value that at least this fraction of the counted values do not exceed, to √RATIO.

    The geometric middle of its bin: at most 1.1 % off; ±inf and zero for their bins, NaN of an empty histogram.

    >>> counts = np.zeros(COUNT, int)
    >>> counts[ZERO + 1 + 126 * 32] = 1  # one value in [1, 2^(1/32))
    >>> round(quantile(counts, 0.5), 3)
    1.011
    """
    cumulative = np.cumsum(histogram)
    if not cumulative[-1]:
        return float("nan")
    # The rank is a whole number from 1 to the total, also where rounding says otherwise.
    rank = min(max(int(np.ceil(level * cumulative[-1])), 1), int(cumulative[-1]))
    place = int(np.searchsorted(cumulative, rank))
    if place in (0, ZERO, COUNT - 1):
        return {0: -np.inf, ZERO: 0.0, COUNT - 1: np.inf}[place]
    low, high = edges()[place : place + 2]
    return float(np.copysign(np.sqrt(abs(low)) * np.sqrt(abs(high)), low))
