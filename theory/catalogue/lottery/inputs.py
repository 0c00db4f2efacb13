"""What the cases of the ``lottery/`` family take from a data set."""

from functools import lru_cache

import numpy as np

from sketchprune.data import Dataset

Rng = np.random.Generator


def pixels(rng: Rng, dataset: Dataset, samples: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random samples of a data set [samples, count], and their labels.

    Only a few features, chosen at random, are taken. They are divided by the largest of their absolute values.
    """
    rows = rng.choice(len(dataset.x), samples, replace=len(dataset.x) < samples)
    features = dataset.x.shape[1]
    varied = _varied(dataset)
    columns = rng.choice(varied if len(varied) else features, count, replace=len(varied) < count)
    x = np.asarray(dataset.x)[np.ix_(rows, columns)].astype(float)  # not all of a large data set in float64
    return x / (np.abs(x).max() or 1), np.asarray(dataset.y)[rows]


@lru_cache(maxsize=4)
def _varied(dataset: Dataset) -> np.ndarray:
    """The features that are not constant."""
    return np.flatnonzero(np.ptp(np.asarray(dataset.x), axis=0) > 0)
