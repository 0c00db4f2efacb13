"""Small linear models, the error of a mask on them, and its least value by trying every subset."""

import itertools

import numpy as np
import scipy.optimize

KINDS = ("gaussian", "same sign", "zero columns", "wide", "twins")


def model(kind, d=8, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(5 if kind == "wide" else 12, d)), rng.normal(size=d)
    x = np.pad(x, ((0, 12 - len(x)), (0, 0)))  # rows of zeros, so that programs of one shape serve all
    if kind == "same sign":
        x, w = abs(x), abs(w)
    if kind == "zero columns":
        x[:, ::3] = 0
    if kind == "twins":
        x[:, 1] = x[:, 0]
        w[:2] = 1, -1
    return x, w


def error(x, w, mask):
    return np.sum((x @ ((np.asarray(mask, float) - 1) * w)) ** 2)


def brute_force(x, w, keep, reweight=False):
    """The least error over all subsets of at most ``keep`` weights."""
    columns, d = x * w, x.shape[1]
    least = np.sum(columns.sum(axis=1) ** 2)
    for size in range(1, keep + 1):
        for chosen in map(list, itertools.combinations(range(d), size)):
            if reweight:
                value = scipy.optimize.nnls(columns[:, chosen], columns.sum(axis=1))[1] ** 2
            else:
                value = error(x, w, np.isin(np.arange(d), chosen))
            least = min(least, value)
    return least
