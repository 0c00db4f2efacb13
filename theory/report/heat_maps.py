"""The arrays of a counterexample as small heat maps, in inline SVG."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from theory.report.formats import number
from theory.report.svg import drawing, element

LEVELS = 10
"""Shades of either sign."""
MAX_ENTRIES = 4096
"""Larger arrays have no heat map, so that the page stays small."""
MAX_SIDE, MAX_CELL = 280.0, 18.0
"""Sides of a heat map and of a cell at most, in pixels."""


def heat_maps(values: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """A caption and a heat map for each array of an instance with 2 to ``MAX_ENTRIES`` entries.

    Args:
        values: name -> nested lists, in which numbers that are not finite are None or NaN; arrays that are too large
            to be written down are given as text, and left out.
    """
    arrays = {name: _matrix(each) for name, each in values.items() if not isinstance(each, str)}
    return [
        (_caption(name, values[name], array), heat_map(name, array))
        for name, array in arrays.items()
        if 1 < array.size <= MAX_ENTRIES
    ]


def heat_map(name: str, array: np.ndarray) -> Markup:
    """A matrix with a colour for each sign, the darker the larger; or with two colours if it is a mask.

    Args:
        name: what it is called.
        array: [rows, columns].
    """
    rows, columns = array.shape
    width, height = (min(MAX_CELL, MAX_SIDE / count) for count in (columns, rows))
    cells: dict[tuple[str, int], list[str]] = {}
    for (row, column), kind in np.ndenumerate(_shades(array)):
        if kind != _ZERO:
            cells.setdefault(_PAINT[kind], []).append(f"M{column} {row}h1v1h-1z")
    # Cells are drawn in units of a cell, all of one shade in one path: a large array stays small in the page.
    paths = [
        element("path", d="".join(parts), class_=class_, fill_opacity=level / LEVELS)
        for (class_, level), parts in sorted(cells.items())
    ]
    return drawing(
        height * rows,
        element("rect", width=width * columns, height=height * rows, class_="zero"),
        element("g", *paths, transform=f"scale({width:.4g} {height:.4g})", shape_rendering="crispEdges"),
        label=f"{name} as a heat map",
        class_="heat mask" if is_mask(array) else "heat",
        width=width * columns,
        scales=False,
    )


_ZERO = 0
_MISSING = LEVELS + 1
_PAINT = {
    **{level: ("plus", level) for level in range(1, LEVELS + 1)},
    **{-level: ("minus", level) for level in range(1, LEVELS + 1)},
    _MISSING: ("missing", LEVELS),
}
"""From a shade to the class of its cells, and how opaque they are."""


def _shades(array: np.ndarray) -> np.ndarray:
    """A whole number for each entry: its sign times its size in LEVELS steps, at least 1 where it is not 0."""
    finite = np.isfinite(array)
    sizes = np.where(finite, abs(array), 0.0)
    steps = np.maximum(np.ceil(LEVELS * (sizes / (sizes.max() or 1.0)) * (1 - 1e-12)), sizes > 0).astype(int)
    return np.where(finite, np.sign(np.where(finite, array, 0)).astype(int) * steps, _MISSING)


def _matrix(values: Any) -> np.ndarray:
    """The entries as floats in a matrix whose columns are the last axis; missing ones are NaN."""
    array = np.asarray(values, float)
    return array.reshape(-1, array.shape[-1]) if array.ndim and array.shape[-1] else array.reshape(1, -1)


def _caption(name: str, values: Any, array: np.ndarray) -> str:
    """The name, the shape, and the size of the largest entry."""
    shape = "×".join(map(str, np.shape(values)))
    finite = array[np.isfinite(array)]
    if is_mask(array):
        return f"{name} [{shape}], {int(finite.sum())} of {array.size} are 1"
    return f"{name} [{shape}], largest size {number(abs(finite).max(initial=0.0))}"


def is_mask(array: np.ndarray) -> bool:
    """Whether all entries are 0 or 1.

    >>> is_mask(np.array([[0.0, 1.0]])), is_mask(np.array([[0.0, -1.0]]))
    (True, False)
    """
    return bool(np.isin(array, (0.0, 1.0)).all())
