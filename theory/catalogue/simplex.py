"""Random probabilities that sum to 1 with nothing rounded."""

import numpy as np
from jaxtyping import Float

_GRID = 2**40


def random_probabilities(rng: np.random.Generator, count: int) -> Float[np.ndarray, " count"]:
    """Uniform on the simplex, to multiples of 2^−40: their sum is exactly 1 in floats, and in exact arithmetic.

    Args:
        rng: draws ``count`` exponential numbers.
        count: how many.

    >>> random_probabilities(np.random.default_rng(0), 64).sum()
    np.float64(1.0)
    """
    return to_simplex(rng.exponential(size=count))


def to_simplex(weights: Float[np.ndarray, " count"]) -> Float[np.ndarray, " count"]:
    """Probabilities in proportion to weights, to multiples of 2^−40; their sum is exactly 1.

    Args:
        weights: at least 0; one of them is above 0.

    >>> to_simplex(np.array([1.0, 1.0, 2.0])).tolist()
    [0.25, 0.25, 0.5]
    """
    steps = np.round(weights / weights.sum() * _GRID)
    steps[np.argmax(steps)] += _GRID - steps.sum()
    return steps / _GRID
