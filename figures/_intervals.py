"""Means over seeds with their intervals."""

import numpy as np
from jaxtyping import Float

from sketchprune._intervals import student_half_width


def mean_interval(values: Float[np.ndarray, "seeds ..."]) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The mean over the seeds, and half the width of Student's 95 % interval around it.

    Args:
        values: one for each seed, on the first axis. NaN counts as missing: with one seed left the half width is NaN,
            and with none both are.
    """
    known = np.isfinite(values)
    count = known.sum(axis=0)
    none = np.where(count > 0, 0.0, np.nan)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1) + none
    squares = (np.where(known, values - mean, 0) ** 2).sum(axis=0)
    half = student_half_width(np.maximum(count, 1), np.sqrt(squares / np.maximum(count - 1, 1)), 0.05)
    return mean, np.where(count > 1, half, np.nan)
