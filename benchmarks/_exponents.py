"""How a cost grows: the exponent of a power law through measured points."""

from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost against log size, by least squares: 2 where twice the size costs four times as much.

    Args:
        sizes: positive, two different ones at least.
        costs: positive, one for each size.

    Raises:
        ValueError: the numbers allow no slope.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    if len(sizes) != len(costs):
        raise ValueError(f"costs has {len(costs)} numbers; it takes one for each of the {len(sizes)} sizes")
    if min(sizes, default=0) <= 0 or len(set(sizes)) < 2:
        raise ValueError(f"sizes is {list(sizes)}; it takes positive numbers, two different ones at least")
    if min(costs) <= 0:
        raise ValueError(f"costs is {list(costs)}; it takes positive numbers")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
