"""Every mask that a law can draw, listed in NumPy, and the expectations that follow."""

import itertools
import math

import numpy as np


def multinomial_masks(p, budget, binary=False):
    """Every sequence of draws: its chance and its mask."""
    for draws in itertools.product(range(len(p)), repeat=budget):
        counts = np.bincount(draws, minlength=len(p))
        mask = (counts > 0).astype(float) if binary else counts / (budget * np.asarray(p))
        yield math.prod(p[i] for i in draws), mask


def poisson_masks(rates, binary=False):
    """Every subset: its chance and its mask."""
    for bits in itertools.product([0, 1], repeat=len(rates)):
        bits = np.array(bits)
        chance = np.prod(np.where(bits == 1, rates, 1 - rates))
        yield chance, bits if binary else np.divide(bits, rates, where=rates > 0, out=np.zeros(len(rates)))


def successive_masks(weights, size):
    """Every order in which items can be drawn without replacement: its chance and its mask."""
    for order in itertools.permutations(range(len(weights)), size):
        chance, left = 1.0, weights.sum()
        for i in order:
            chance, left = chance * weights[i] / left, left - weights[i]
        yield chance, np.isin(np.arange(len(weights)), order).astype(float)


def subset_masks(size, count):
    """Every subset of ``count`` items among ``size``, equally likely."""
    every = list(itertools.combinations(range(size), count))
    for kept in every:
        yield 1 / len(every), np.isin(np.arange(size), kept).astype(float)


def expected_error(x, w, law):
    """E‖X(m∘w) − Xw‖²."""
    return sum(chance * np.sum((x @ (mask * w) - x @ w) ** 2) for chance, mask in law)


def expected_training_error(x, y, law):
    """The expected error of the kept columns, trained to the end by the pseudo-inverse."""
    total = 0
    for chance, mask in law:
        kept = x[:, mask > 0]
        total += chance * np.sum((y - kept @ np.linalg.pinv(kept) @ y) ** 2)
    return total
