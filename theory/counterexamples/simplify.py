"""Simpler numbers: what is tried on the entries of a counterexample, and how complicated they are."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float

MAX_BLOCKS = 512
"""Entries that are tried at once, each alone: of each a whole copy of the instance is made."""

Transform = Callable[[np.ndarray], np.ndarray]
Entries = Float[np.ndarray, " entries"]


def _to_digits(digits: int) -> Transform:
    """Rounding to significant decimal digits."""
    return lambda values: np.array([float(f"{value:.{digits - 1}e}") for value in values])


def _to_one_size(values: np.ndarray) -> np.ndarray:
    """All of the block's mean size, to two digits, with their signs."""
    return np.sign(values) * float(f"{np.mean(abs(values)):.1e}")


ZERO: Transform = np.zeros_like
SIMPLER: tuple[Transform, ...] = (
    ZERO,
    np.sign,
    np.abs,
    np.round,
    lambda values: np.round(2 * values) / 2,
    _to_one_size,
    _to_digits(1),
    _to_digits(2),
    _to_digits(3),
)
"""What is tried on entries, the simplest result first."""


def transformed(
    entries: Entries, blocks: list[np.ndarray], transform: Transform, holds: Callable[[list[Entries]], np.ndarray]
) -> Entries:
    """The entries with a transform applied to as many blocks as the statement stays contradicted with.

    Each block is tried alone; then those that can change are changed one after the other, and the longest row of
    changes that can stand together stays.
    """
    for _ in range(len(blocks)):
        moves = [(block, transform(entries[block])) for block in blocks]
        moves = [(block, new) for block, new in moves if total_cost(new) < total_cost(entries[block])]
        alone = [_replaced(entries, *move) for move in moves]
        moves = [move for move, possible in zip(moves, holds(alone), strict=True) if possible] if moves else []
        if not moves:
            break
        moves.sort(key=lambda move: total_cost(move[1]) - total_cost(entries[move[0]]))
        together = [_replaced(entries, *moves[0])]
        for move in moves[1:]:
            together.append(_replaced(together[-1], *move))
        fails = ~holds(together)
        entries = together[int(np.argmax(fails)) - 1 if fails.any() else -1]
    return entries


def _replaced(entries: Entries, block: np.ndarray, new: np.ndarray) -> Entries:
    changed = entries.copy()
    changed[block] = new
    return changed


def total_cost(values: np.ndarray) -> int:
    """The sum of the numbers' costs."""
    return sum(map(number_cost, values.tolist()))


def blocks_of(shapes: list[tuple[int, ...]]) -> Iterator[list[np.ndarray]]:
    """The places of whole arrays, then of their slices along each axis, then of single entries, some at a time."""
    arrays, start = [], 0
    for shape in shapes:
        arrays.append(start + np.arange(math.prod(shape)).reshape(shape))
        start += math.prod(shape)
    yield [array.ravel() for array in arrays if array.size]
    yield [
        np.take(array, index, axis).ravel()
        for array in arrays
        if array.ndim > 1
        for axis in range(array.ndim)
        for index in range(array.shape[axis])
    ]
    for first in range(0, start, MAX_BLOCKS):
        yield [np.array([place]) for place in range(first, min(first + MAX_BLOCKS, start))]


@lru_cache(maxsize=2**16)
def number_cost(value: float) -> int:
    """How complicated a number is: 0 for 0, 1 for 1, else its decimal digits and more; a minus sign costs 1.

    >>> [number_cost(value) for value in (0.0, 1.0, -1.0, 0.5, 0.3333, 1e-8)]
    [0, 1, 2, 3, 6, 11]
    """
    if value == 0:
        return 0
    if abs(value) == 1:
        return 1 + (value < 0)
    mantissa, _, exponent = repr(abs(float(value))).partition("e")
    digits = mantissa.replace(".", "").strip("0")
    return 2 + len(digits) + abs(int(exponent or 0)) + (value < 0)
