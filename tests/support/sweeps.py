"""A small sweep: a network of 30 weights on plain features, and methods that score or draw its masks."""

import dataclasses
import functools

import numpy as np

from sketchprune import laws, models, scores, sweep
from sketchprune.data import Dataset

DENSITIES = (1.0, 0.5, 0.2)
SEEDS = (3, 4)


def features(samples, seed, classes=3, width=4):
    """Samples whose class shows in their features."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    return Dataset(rng.normal(size=(samples, width)) + np.eye(classes, width)[y], y, "tiny", classes)


@functools.cache
def small_problem(**training):
    settings = sweep.Training(**{"steps": 12, "learning_rate": 0.1, "batch_size": 8} | training)
    return sweep.problem(models.mlp(5, 3), features(30, 0), features(20, 1), settings)


def erk(apply, loss, params, batch, density, key):
    return laws.ErdosRenyiCounts.at_density(params, density, least=1).sample(key)


def sketch(apply, loss, params, batch, density, key):
    """Weights kept with probability ``density`` each, and scaled by its inverse; biases stay."""
    chosen = laws.ErdosRenyiCounts.at_density(params, density, rule="uniform").sample(key)
    return {
        layer: {name: leaf / density if name == "kernel" else leaf * 1.0 for name, leaf in leaves.items()}
        for layer, leaves in chosen.items()
    }


def refusing(apply, loss, params, batch, density, key):
    raise ValueError("nothing, to\nkeep")


METHODS = (
    sweep.scored("snip", scores.snip),
    sweep.scored("magnitude", scores.magnitude, sampler="proportional"),
    sweep.scored("magnitude", scores.magnitude, rounds=3),
    sweep.Method("erk", erk),
    sweep.Method("sketch", sketch),
)


def rows_of(groups):
    return [row for group in groups for row in group]


def timeless(rows):
    """Rows without what no two runs share, as text: a NaN equals a NaN."""
    return [repr(dataclasses.replace(row, seconds=0.0)) for row in rows]
