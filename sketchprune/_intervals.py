"""Student's interval for the mean of a few numbers."""

from typing import Any

import numpy as np
from scipy import special


def student_half_width(count: Any, deviation: Any, level: float) -> Any:
    """Half the width of the interval that misses the mean with probability ``level``, t·deviation/√count.

    Args:
        count: how many numbers there are; a number or an array.
        deviation: their sample standard deviation, of count − 1 degrees of freedom; broadcast against ``count``.
        level: in (0, 1).

    Returns:
        The half width, at least 0; NaN below two numbers.

    >>> round(float(student_half_width(2, 1.0, 0.05)), 3)
    8.985
    """
    return -special.stdtrit(np.subtract(count, 1), level / 2) * deviation / np.sqrt(count)
