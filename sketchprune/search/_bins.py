"""Fixed log-spaced bins of floating numbers: 32 an octave, for each sign, from 2^-126 to 2^128.

They are the same for every search, so that histograms of different runs add up. A bin is found by comparing whole
numbers, the bits of a float32. No logarithm is taken, so that every device finds the same bin.
"""

import numpy as np
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

_BINS_PER_OCTAVE = 32
_OCTAVES = range(-126, 128)
_BINS_PER_SIGN = _BINS_PER_OCTAVE * len(_OCTAVES)
NUM_BINS = 2 * _BINS_PER_SIGN + 3
"""In ascending order: −∞, the negative bins, zero, the positive bins, +∞."""
ZERO_BIN = _BINS_PER_SIGN + 1
_STEPS = np.ceil((2.0 ** (np.arange(1, _BINS_PER_OCTAVE) / _BINS_PER_OCTAVE) - 1) * 2**23).astype(np.int32)
"""Where each further bin of an octave begins, as a mantissa of 23 bits."""
_STARTS = np.concatenate([[1.0], 1 + _STEPS / 2**23])
MAX_EDGE_RATIO = float(np.max(np.append(_STARTS[1:], 2.0) / _STARTS))
"""The largest ratio of the two edges of a bin: just above 2^(1/32)."""


def bin_index(values: Float[Array, "n"]) -> Int[Array, "n"]:
    """The bin of each value as float32 rounds it. What is below 2^-126 in size counts as zero, and so does a NaN.

    O(32 n).
    """
    bits = lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)
    exponent = (bits >> 23) & 255
    mantissa = bits & (2**23 - 1)
    step = jnp.sum((mantissa[..., None] >= _STEPS).astype(jnp.int32), axis=-1)
    # Zero and subnormal numbers have the exponent 0. Infinity has 255 and comes just after the largest bin.
    size = jnp.where(exponent == 0, 0, _BINS_PER_OCTAVE * (exponent - 1) + step + 1)
    return jnp.where(jnp.isnan(values), ZERO_BIN, ZERO_BIN + jnp.where(bits < 0, -size, size))


def edges() -> Float[np.ndarray, "edges"]:
    """The NUM_BINS + 1 edges, ascending, in float64: bin b holds what lies between edges b and b + 1.

    >>> len(edges()) - NUM_BINS, edges()[ZERO_BIN : ZERO_BIN + 2].tolist() == [-(2.0**-126), 2.0**-126]
    (1, True)
    """
    positive = np.append(np.concatenate([_STARTS * 2.0**octave for octave in _OCTAVES]), 2.0**128)
    return np.concatenate([[-np.inf], -positive[::-1], positive, [np.inf]])


def quantile(histogram: Int[np.ndarray, "bins"], level: int | float) -> float:
    """The smallest value that at least a fraction ``level`` of the counted values do not exceed, within 1.1 %.

    It is the geometric middle of its bin; ±inf and zero for their bins, NaN of an empty histogram.

    >>> counts = np.zeros(NUM_BINS, int)
    >>> counts[ZERO_BIN + 1 + 126 * 32] = 1  # one value in [1, 2^(1/32))
    >>> round(quantile(counts, 0.5), 3)
    1.011
    """
    cumulative = np.cumsum(histogram)
    total = int(cumulative[-1])
    if not total:
        return float("nan")
    # The rank is a whole number from 1 to the total, also where rounding says otherwise.
    rank = min(max(int(np.ceil(level * total)), 1), total)
    found = int(np.searchsorted(cumulative, rank))
    if found in (0, ZERO_BIN, NUM_BINS - 1):
        return {0: -np.inf, ZERO_BIN: 0.0, NUM_BINS - 1: np.inf}[found]
    low, high = edges()[found : found + 2]
    return float(np.copysign(np.sqrt(abs(low)) * np.sqrt(abs(high)), low))
