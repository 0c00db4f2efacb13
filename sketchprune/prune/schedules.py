"""Schedules of iterative pruning: how many weights are left after each round."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from sketchprune import _checks
from sketchprune._boundary import checked

Counts = int | np.integer | PyTree[int | np.integer]
"""One count, or a pytree like the parameters with one count for each leaf."""


@checked
def exponential_schedule(start: Counts, keep: Counts, rounds: int) -> Any:
    """Counts that shrink by the same factor in each round r: start·(keep/start)^{r/R}, rounded.

    Args:
        start: how many weights there are before the first round; or a pytree, whose leaves each have a schedule. A leaf
            that is never pruned has 0.
        keep: how many are left after the last, at least 1 and at most ``start``; shaped like ``start``.
        rounds: R >= 1.

    Returns:
        A NumPy array of R whole numbers, or a pytree of them.

    Raises:
        ValueError: for ``keep`` out of range and ``rounds`` below 1.

    Source: tanaka2020synflow.

    >>> exponential_schedule(100, 1, 2).tolist()
    [10, 1]
    """
    return _schedule(lambda start, keep, part: start * (keep / start) ** part, start, keep, rounds)


@checked
def linear_schedule(start: Counts, keep: Counts, rounds: int) -> Any:
    """Counts that shrink by the same amount in each round r: start − (start − keep)·r/R, rounded.

    Args:
        start: as for `exponential_schedule`.
        keep: as for `exponential_schedule`.
        rounds: R >= 1.

    Returns:
        A NumPy array of R whole numbers, or a pytree of them.

    Raises:
        ValueError: as `exponential_schedule`.

    >>> linear_schedule(100, 10, 3).tolist()
    [70, 40, 10]
    """
    return _schedule(lambda start, keep, part: start - (start - keep) * part, start, keep, rounds)


@checked
def cubic_schedule(start: Counts, keep: Counts, rounds: int) -> Any:
    """Counts that shrink fast at first and slowly at last: keep + (start − keep)(1 − r/R)³ in round r, rounded.

    Args:
        start: as for `exponential_schedule`.
        keep: as for `exponential_schedule`.
        rounds: R >= 1.

    Returns:
        A NumPy array of R whole numbers, or a pytree of them.

    Raises:
        ValueError: as `exponential_schedule`.

    Source: zhu2018prune.

    >>> cubic_schedule(1010, 10, 4).tolist()
    [432, 135, 26, 10]
    """
    return _schedule(lambda start, keep, part: keep + (start - keep) * (1 - part) ** 3, start, keep, rounds)


@checked
def one_at_a_time_schedule(start: Counts, keep: Counts) -> Any:
    """Counts that shrink by one weight in each round; in a pytree, each leaf by one until it has its count.

    Args:
        start: as for `exponential_schedule`.
        keep: as for `exponential_schedule`.

    Returns:
        A NumPy array of max(1, start − keep) whole numbers, or a pytree of arrays as long as the longest needs.

    Raises:
        ValueError: for ``keep`` out of range.

    >>> one_at_a_time_schedule(5, 2).tolist()
    [4, 3, 2]
    """
    _check_counts(start, keep)
    rounds = max(1, *jax.tree.leaves(jax.tree.map(operator.sub, start, keep)))
    return _schedule(lambda start, keep, part: np.maximum(start - rounds * part, keep), start, keep, rounds)


def _schedule(formula: Callable[..., Any], start: Any, keep: Any, rounds: int) -> Any:
    """The formula of start, keep and the part of the rounds that is done, rounded, for each leaf."""
    _checks.whole("rounds", rounds, least=1)
    _check_counts(start, keep)

    def leaf(start: int, keep: int) -> np.ndarray:
        if start == 0 == keep:
            return np.zeros(rounds, int)
        if not 1 <= keep <= start:
            raise ValueError(f"keep is {keep}; it takes 1 to {start}, the number of weights")
        return np.rint(formula(start, keep, np.arange(1, rounds + 1) / rounds)).astype(int)

    return jax.tree.map(leaf, start, keep)


def _check_counts(start: Any, keep: Any) -> None:
    """Refuses what is no whole number, and pytrees of different structure."""
    _checks.same_structure("keep", keep, "start", start)
    for name, tree in ("start", start), ("keep", keep):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            _checks.whole(name + jax.tree_util.keystr(path), leaf, least=0)
            if np.ndim(leaf):
                raise ValueError(f"{name}{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}; it takes one number")
