"""Primitives that move entries, and those that fold them along axes."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb

from theory.counterexamples.balls.arrays import Balls, balls, exact, is_float
from theory.counterexamples.balls.elementwise import COMPARISONS, Undecided, equal, less
from theory.counterexamples.scatter_places import places_of_updates


def move(equation: Any, operands: list[Any]) -> list[Any]:
    """What a primitive does that only moves entries: it is run on the entries' positions.

    Args:
        equation: of a traced program.
        operands: arrays of balls, which are moved, and of data, such as indices.
    """
    table: list[Any] = [_fill_value(equation.params)]  # position 0: what no entry was moved to
    positions = []
    for operand in operands:
        if operand.dtype == object:
            positions.append(len(table) + np.arange(operand.size, dtype=np.int32).reshape(operand.shape))
            table.extend(operand.ravel())
        else:
            positions.append(operand)
    params = dict(equation.params)
    if "fill_value" in params:
        params["fill_value"] = 0
    results = equation.primitive.bind(*map(np.asarray, positions), **params)
    entries = np.empty(len(table), object)
    entries[:] = table
    return [entries[np.asarray(result)] for result in (results if equation.primitive.multiple_results else [results])]


def _fill_value(params: dict[str, Any]) -> arb:
    value = params.get("fill_value")
    return arb.nan() if value is None else exact(float(value))


MOVING = {"gather", "dynamic_slice", "dynamic_update_slice", "pad"}
"""Primitives that :func:`move` evaluates. Simpler ones have NumPy functions below."""


def _broadcast_in_dim(x: Any, params: dict[str, Any]) -> Any:
    shape, dimensions = params["shape"], params["broadcast_dimensions"]
    aligned = [1] * len(shape)
    for axis, dimension in enumerate(dimensions):
        aligned[dimension] = x.shape[axis]
    return np.broadcast_to(x.reshape(aligned), shape)


def _slice(x: Any, params: dict[str, Any]) -> Any:
    steps = params["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


REARRANGEMENTS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "reshape": lambda x, params: x.reshape(params["new_sizes"]),
    "squeeze": lambda x, params: np.squeeze(x, params["dimensions"]),
    "expand_dims": lambda x, params: np.expand_dims(x, params["dimensions"]),
    "transpose": lambda x, params: x.transpose(params["permutation"]),
    "rev": lambda x, params: np.flip(x, params["dimensions"]),
    "broadcast_in_dim": _broadcast_in_dim,
    "slice": _slice,
}
"""Primitives of one operand that keep its entries."""


# --- Scatter


def scatter(equation: Any, operands: list[Any]) -> Balls:
    """The operand with updates put, added, multiplied or compared into their places, one after the other."""
    operand, indices, updates = operands
    places = places_of_updates(equation.params, operand.shape, indices, updates.shape)
    combine = _COMBINATIONS[equation.primitive.name]
    result = operand.copy().ravel()
    for place, update in zip(places.ravel(), updates.ravel(), strict=True):
        if place:
            result[place - 1] = combine(result[place - 1], update)
    return result.reshape(operand.shape)


_COMBINATIONS: dict[str, Callable[[arb, arb], arb]] = {
    "scatter": lambda old, new: new,
    "scatter-add": operator.add,
    "scatter_add": operator.add,
    "scatter-mul": operator.mul,
    "scatter_mul": operator.mul,
    "scatter-max": arb.max,
    "scatter_max": arb.max,
    "scatter-min": arb.min,
    "scatter_min": arb.min,
}
SCATTERS = frozenset(_COMBINATIONS)


# --- Folds


def _fold(function: Callable[[Any, Any], Any], x: Balls, axes: tuple[int, ...], empty: Any) -> Balls:
    """The entries along some axes, folded into one."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(x.shape[axis] for axis in kept)
    rows = x.transpose([*kept, *axes]).reshape(int(np.prod(shape, dtype=int)), -1)
    result = np.empty(len(rows), object)
    for row, entries in enumerate(rows):
        result[row] = functools.reduce(function, entries) if len(entries) else empty
    return result.reshape(shape)


_FOLDS: dict[str, tuple[Callable[[Any, Any], Any], float]] = {
    "reduce_sum": (operator.add, 0.0),
    "reduce_prod": (operator.mul, 1.0),
    "reduce_max": (arb.max, -np.inf),
    "reduce_min": (arb.min, np.inf),
}
_INTEGER_FOLDS: dict[str, Callable[..., Any]] = {
    "reduce_sum": np.sum, "reduce_prod": np.prod, "reduce_max": np.max, "reduce_min": np.min, "reduce_and": np.all,
    "reduce_or": np.any,
}  # fmt: skip  # a table, several entries a line
_CUMULATIVE: dict[str, Callable[[Any, Any], Any]] = {
    "cumsum": operator.add, "cumprod": operator.mul, "cummax": arb.max, "cummin": arb.min,
}  # fmt: skip  # a table, several entries a line


def _cumulative(name: str, x: Balls, params: dict[str, Any]) -> Balls:
    axis = params["axis"]
    rows = np.moveaxis(np.flip(x, axis) if params["reverse"] else x, axis, -1).copy()
    for row in rows.reshape(-1, rows.shape[-1]):
        for place in range(1, len(row)):
            row[place] = _CUMULATIVE[name](row[place - 1], row[place])
    result = np.moveaxis(rows, -1, axis)
    return np.flip(result, axis) if params["reverse"] else result


def _extreme_index(name: str, x: Balls, params: dict[str, Any]) -> np.ndarray:
    """Where the first largest or smallest entry is, if the balls decide it."""
    (axis,) = params["axes"]
    rows = np.moveaxis(x, axis, -1)
    better = COMPARISONS["gt" if name == "argmax" else "lt"]
    found = np.zeros(rows.shape[:-1], params["index_dtype"])
    for where in np.ndindex(found.shape):
        row = rows[where]
        best = 0
        for place in range(1, len(row)):
            best = place if better(row[place], row[best]) else best
        found[where] = best
    return found


def fold(name: str, params: dict[str, Any], operands: list[Any]) -> Any:
    """The value of a primitive that folds entries; None where it is none of these."""
    x = operands[0]
    if x.dtype != object:
        if name not in _INTEGER_FOLDS:
            return None
        return np.asarray(_INTEGER_FOLDS[name](x, axis=tuple(params["axes"]))).astype(x.dtype)
    if name in _FOLDS:
        function, empty = _FOLDS[name]
        return _fold(function, x, tuple(map(int, params["axes"])), exact(empty))
    if name in _CUMULATIVE:
        return _cumulative(name, x, params)
    if name in ("argmax", "argmin"):
        return _extreme_index(name, x, params)
    return None


def sort(params: dict[str, Any], operands: list[Any]) -> list[Any]:
    """Operands in the order of the first ``num_keys`` of them, if the balls decide it; equal ones keep their order."""
    axis, keys = params["dimension"], params["num_keys"]
    moved = [np.moveaxis(operand, axis, -1) for operand in operands]
    results = [part.copy() for part in moved]
    for where in np.ndindex(moved[0].shape[:-1]):
        rows = [part[where] for part in moved]

        def compare(a: int, b: int, rows: list[Any] = rows) -> int:
            for row in rows[:keys]:
                before, same = _before(row[a], row[b])
                if not same:
                    return -1 if before else 1
            return a - b

        order = sorted(range(len(rows[0])), key=functools.cmp_to_key(compare))
        for result, row in zip(results, rows, strict=True):
            result[where] = row[order]
    return [np.moveaxis(result, -1, axis) for result in results]


def _before(a: Any, b: Any) -> tuple[bool, bool]:
    """Whether a comes before b, and whether they are equal."""
    if isinstance(a, arb):
        if a != b:
            return less("sort")(a, b), False
        if equal("sort")(a, b):
            return False, True
        raise Undecided("sort")
    return bool(a < b), bool(a == b)


def iota(params: dict[str, Any]) -> Any:
    """Counting along one axis."""
    shape, axis = params["shape"], params["dimension"]
    aligned = [1] * len(shape)
    aligned[axis] = shape[axis]
    counted = np.broadcast_to(np.arange(shape[axis]).reshape(aligned), shape)
    return balls(counted) if is_float(params["dtype"]) else counted.astype(params["dtype"])
