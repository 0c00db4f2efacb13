"""Data sets of every odd shape and size: each is legal, and no true claim may be refuted on one."""

import numpy as np

from sketchprune.data import Dataset

ODD = ("5x4", "3x200", "60x2", "rank-1", "one-class", "equal-columns", "constant", "zero", "one-sample", "two-samples",
       "one-hot", "1e8", "1e-8", "1e-160", "normal")  # fmt: skip
"""Names of data sets."""


def odd(name: str) -> Dataset:
    """The data set of this name, called that."""
    rng = np.random.default_rng(7)
    x, classes = rng.standard_normal((60, 16)), 3
    match name:
        case "5x4" | "3x200" | "60x2":
            x = rng.standard_normal([int(length) for length in name.split("x")])
        case "rank-1":
            x = np.outer(rng.standard_normal(60), rng.standard_normal(16))
        case "one-class":
            classes = 1
        case "equal-columns":
            x[:, 5] = x[:, 3]
        case "constant":
            x = np.full_like(x, 3.0)
        case "zero":
            x = np.zeros_like(x)
        case "one-sample":
            x = x[:1]
        case "two-samples":
            x = x[:2]
        case "one-hot":
            x = np.eye(16)[rng.integers(16, size=60)]
        case "1e8" | "1e-8" | "1e-160":
            x = x * float(name)
        case "normal":
            pass
        case _:
            raise ValueError(f"name is {name!r}; it takes one of {', '.join(ODD)}")
    image_shape = (4, 4, 1) if name == "constant" else ()
    return Dataset(x, np.arange(len(x)) % classes, name, classes, image_shape)
