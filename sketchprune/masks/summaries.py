"""What a mask keeps, by layer and in all: counts, densities, and a table of them."""

import html
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from sketchprune._boundary import checked
from sketchprune._leaves import chosen_of_mask
from sketchprune.types import Mask, Prunable

_HEADINGS = ("layer", "size", "kept", "density", "dead units")


class Summary(NamedTuple):
    """What a mask keeps of each layer. Printed, or shown by a notebook, it is a table.

    Attributes:
        kept: how many entries of each leaf are not zero; 0 for leaves that are never pruned, as in
            :func:`sketchprune.prune.layer_counts`.
        sizes: how many entries there are; 0 likewise.
        dead_units: how many units (of a convolution: output channels) of each leaf keep no incoming weight; 0 likewise,
            and for leaves of one axis.
        units: how many units there are; 0 likewise.
    """

    kept: PyTree[int]
    sizes: PyTree[int]
    dead_units: PyTree[int]
    units: PyTree[int]

    @property
    def densities(self) -> PyTree[float]:
        """The part of each leaf that is kept; 1.0 for leaves that are never pruned."""
        return jax.tree.map(lambda kept, size: kept / size if size else 1.0, self.kept, self.sizes)

    @property
    def density(self) -> float:
        """The part of all prunable weights that is kept."""
        return sum(jax.tree.leaves(self.kept)) / sum(jax.tree.leaves(self.sizes))

    def __str__(self) -> str:
        rows = [_HEADINGS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same table, as Jupyter shows it."""

        def line(cells: tuple[str, ...], tag: str) -> str:
            right = "".join(
                f'<{tag} style="text-align: right">{html.escape(cell, quote=False)}</{tag}>' for cell in cells[1:]
            )
            return f'<tr><{tag} style="text-align: left">{html.escape(cells[0], quote=False)}</{tag}>{right}</tr>'

        body = "".join(line(row, "td") for row in self._rows())
        return f"<table><thead>{line(_HEADINGS, 'th')}</thead><tbody>{body}</tbody></table>"

    def _rows(self) -> list[tuple[str, ...]]:
        """The cells of the table: of each leaf that may be pruned, and of all of them together."""
        paths = [jax.tree_util.keystr(path) or "all" for path, _ in jax.tree_util.tree_leaves_with_path(self.sizes)]
        columns = [jax.tree.leaves(part) for part in (self.sizes, self.kept, self.dead_units, self.units)]
        leaves = [(path, *numbers) for path, *numbers in zip(paths, *columns, strict=True) if numbers[0]]
        total = ("all", *map(sum, columns))
        return [_row(*numbers) for numbers in (leaves if len(leaves) == 1 else [*leaves, total])]


def _row(name: str, size: int, kept: int, dead: int, units: int) -> tuple[str, ...]:
    """The cells of a line."""
    of_units = f"{dead:,} of {units:,}" if units else "–"
    return name, f"{size:,}", f"{kept:,}", f"{kept / size:.4g}" if size else "–", of_units


@checked
def summary(mask: Mask, prunable: Prunable = None) -> Summary:
    """What a mask keeps by layer and in all: the realised densities, beside those that were asked for.

    Args:
        mask: a mask, not traced.
        prunable: which leaves may be pruned, as for :func:`sketchprune.masks.prunable`.

    Returns:
        Counts of whole numbers on the host, with the densities that follow; a table where it is printed.

    Raises:
        ValueError: as :func:`sketchprune.masks.prunable`.

    Cost: O(d), on the host.

    >>> found = summary({"kernel": np.array([[True, False], [False, False]]), "bias": np.ones(2)})
    >>> found.kept, found.densities, found.density
    ({'bias': 0, 'kernel': 1}, {'bias': 1.0, 'kernel': 0.25}, 0.25)
    >>> print(found)
    layer       size  kept  density  dead units
    ['kernel']     4     1     0.25      1 of 2
    """
    chosen = chosen_of_mask(mask, prunable)

    def count(pruned: bool, leaf: Any) -> tuple[int, int, int, int]:
        """Kept, size, dead units, units."""
        if not pruned:
            return 0, 0, 0, 0
        kept = np.asarray(leaf) != 0
        fed = kept.any(axis=tuple(range(kept.ndim - 1))) if kept.ndim > 1 else np.ones(0, bool)
        return int(kept.sum()), kept.size, int((~fed).sum()), fed.size

    leaves, structure = jax.tree.flatten(mask)
    counts = map(count, jax.tree.leaves(chosen), leaves)
    return Summary(*map(structure.unflatten, zip(*counts, strict=True)))
