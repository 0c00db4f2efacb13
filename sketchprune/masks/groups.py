"""Structured masks: scores of groups of weights, and masks that keep or prune a group as a whole.

A group is a block of a leaf: a row, a column, a channel, or a rectangle of any size. A pytree of groups has the leaves
and axes of the parameters with fewer entries, so that whatever selects weights selects groups as well.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree, Shaped

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.masks import parameters
from sketchprune.types import Groups, Mask, Prunable, Scores

Block = tuple[int, ...]
"""The length of a block along each axis of a leaf."""


@checked
def group_scores(scores: Scores, groups: Groups, prunable: Prunable = None) -> Scores:
    """The score of each group of weights: the sum of the scores of its weights.

    The last two axes of a kernel [..., inputs, outputs] are a matrix; a convolution has one for each position of its
    filter. ``groups`` is one of

    - "columns": the weights into one unit, kernel[..., :, j], at each position by itself;
    - "rows": the weights out of one input, kernel[..., i, :], at each position by itself;
    - "channels": all weights into one output channel, kernel[..., j]; of a dense layer these are the columns;
    - a tuple, the lengths of blocks along the last axes, with None for a whole axis and 1 along the axes before: (4, 4)
      for squares, (4, 1) for four inputs of one unit, (None, None, None, 1) for channels.

    :func:`sketchprune.prune.select` selects groups as it selects weights, and :func:`spread` makes a mask of weights of
    the selection.

    Args:
        scores: a pytree of floats.
        groups: what a group is.
        prunable: which leaves have groups, as for :func:`sketchprune.masks.prunable`; each weight of the others is a
            group by itself.

    Returns:
        A pytree of at least float32: each leaf has as many axes as that of the scores, and an entry for each block.
        Weights that are pruned already (−inf) count as 0, and a group of nothing else is −inf. A group with a weight
        that is never pruned (+inf) is +inf, and one with a NaN is NaN. A sum that overflows is the largest finite
        number.

    Raises:
        ValueError: for scores that are no floats, for groups of another name, with lengths below 1 or with more axes
            than a leaf, and for a leaf whose shape is no multiple of the block, which is named.

    Cost: O(d).

    >>> scores = jnp.array([[1.0, 2.0], [3.0, 4.0], [-jnp.inf, 5.0], [-jnp.inf, 6.0]])
    >>> group_scores(scores, "columns").tolist()
    [[4.0, 17.0]]
    >>> group_scores(scores, (2, 1)).tolist()
    [[4.0, 6.0], [-inf, 11.0]]
    """
    _checks.floating_leaves("scores", scores)
    return jax.tree.map(_sums, scores, blocks("scores", scores, groups, prunable))


@checked
def spread(mask: Mask, scores: Scores) -> Mask:
    """The mask of weights in which each weight has the entry of its group.

    Args:
        mask: a mask of groups: its leaves have as many axes as those of the scores, and lengths that divide theirs.
        scores: what the groups were made of: weights that are pruned already (−inf) stay so. Of other arrays, such as
            parameters, only shapes count.

    Returns:
        A mask shaped like the scores, in the dtype of the mask of groups.

    Raises:
        ValueError: for a mask of another structure, and for a leaf whose lengths do not divide, which is named.

    Cost: O(d).

    >>> spread(jnp.array([[True, False]]), jnp.array([[1.0, 2.0], [-jnp.inf, 4.0]])).tolist()
    [[True, False], [False, False]]
    """
    _checks.same_structure("mask", mask, "scores", scores)

    def leaf(path: Any, kept: ArrayLike, score: ArrayLike) -> Array:
        kept, score = jnp.asarray(kept), jnp.asarray(score)
        if kept.ndim != score.ndim or not all(map(_divides, kept.shape, score.shape)):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(
                f"{name} has shape {kept.shape}; it takes lengths that divide those of scores, {score.shape}"
            )
        return _spread(kept, score)

    return jax.tree_util.tree_map_with_path(leaf, mask, scores)


def blocks(name: str, tree: PyTree, groups: Groups, prunable: Prunable = None) -> PyTree[Block]:
    """The block of each leaf: of single entries where pruning does not touch it.

    Args:
        name: what messages call the tree.
        tree: arrays, of which only shapes count.
        groups: as for :func:`group_scores`.
        prunable: as for :func:`group_scores`.

    Returns:
        The length of the block along each axis, a tuple in the place of each leaf.

    Raises:
        ValueError: as :func:`group_scores`.
    """
    lengths = _lengths(groups)

    def leaf(path: Any, pruned: bool, values: Any) -> Block:
        shape = jnp.shape(values)
        if not pruned:
            return (1,) * len(shape)
        label = name + jax.tree_util.keystr(path)
        if len(lengths) > len(shape):
            raise ValueError(f"{label} has shape {shape}; it takes {len(lengths)} axes or more for groups {groups!r}")
        # Channels run along all axes but the last; axes that a tuple does not name have blocks of length 1.
        before = (None if groups == "channels" else 1,) * (len(shape) - len(lengths))
        block = tuple(max(n, 1) if b is None else b for n, b in zip(shape, (*before, *lengths), strict=True))
        if any(n % b for n, b in zip(shape, block, strict=True)):
            raise ValueError(f"{label} has shape {shape}; it takes multiples of the block {block}")
        return block

    return jax.tree_util.tree_map_with_path(leaf, parameters.prunable(tree, prunable), tree)


def to_rows(values: Shaped[Array, "..."], block: Block) -> Shaped[Array, "groups _"]:
    """The entries of each group as a row.

    Args:
        values: of a leaf.
        block: the lengths of a group, which divide those of the leaf.

    Returns:
        [groups, entries of a group].

    >>> to_rows(jnp.arange(8).reshape(2, 4), (2, 2)).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    axes = (*range(0, 2 * values.ndim, 2), *range(1, 2 * values.ndim, 2))
    split = values.reshape(_alternating(_grid(values.shape, block), block)).transpose(axes)
    return split.reshape(math.prod(_grid(values.shape, block)), math.prod(block))


def from_rows(rows: Shaped[Array, "groups _"], shape: tuple[int, ...], block: Block) -> Shaped[Array, "..."]:
    """The array whose groups have these rows: the inverse of `to_rows`.

    Args:
        rows: the entries of each group.
        shape: of the array.
        block: the lengths of a group, which divide those of the array.

    Returns:
        The array of that shape.

    >>> from_rows(to_rows(jnp.arange(8).reshape(2, 4), (2, 2)), (2, 4), (2, 2)).tolist()
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    axes = tuple(itertools.chain.from_iterable((axis, axis + len(shape)) for axis in range(len(shape))))
    return rows.reshape(*_grid(shape, block), *block).transpose(axes).reshape(shape)


def _lengths(groups: Groups) -> tuple[int | None, ...]:
    """The lengths of a block along the last axes, None for a whole axis."""
    named: dict[Any, tuple[int | None, ...]] = {"rows": (1, None), "columns": (None, 1), "channels": (None, 1)}
    if isinstance(groups, str) and groups in named:
        return named[groups]
    if not isinstance(groups, tuple) or not groups:
        raise ValueError(f"groups is {groups!r}; it takes {', '.join(map(repr, named))} or a tuple of lengths")
    for length in groups:
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            raise ValueError(f"groups is {groups!r}; it takes whole numbers >= 1, or None for a whole axis")
    return groups


@jax.jit  # one program, and not one for each operation
def _spread(kept: Shaped[Array, "..."], score: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The entry of its group for each weight, and zero where the score is −inf."""
    block = [n // max(g, 1) for n, g in zip(score.shape, kept.shape, strict=True)]
    grid = jnp.expand_dims(kept, range(1, 2 * kept.ndim, 2))
    whole = jnp.broadcast_to(grid, _alternating(kept.shape, block)).reshape(score.shape)
    return jnp.where(score == -jnp.inf, jnp.zeros((), whole.dtype), whole)


@functools.partial(jax.jit, static_argnames="block")
def _sums(scores: ArrayLike, block: Block) -> Float[Array, "..."]:
    """The score of each block."""
    scores = jnp.asarray(scores)
    rows = to_rows(scores, block).astype(jnp.promote_types(scores.dtype, jnp.float32))
    largest = jnp.finfo(rows.dtype).max
    total = jnp.clip(jnp.where(jnp.isinf(rows), 0, rows).sum(axis=1), -largest, largest)
    total = jnp.where((rows == -jnp.inf).all(axis=1), -jnp.inf, total)
    total = jnp.where((rows == jnp.inf).any(axis=1) & ~jnp.isnan(total), jnp.inf, total)
    return total.reshape(_grid(scores.shape, block))


def _grid(shape: tuple[int, ...], block: Block) -> tuple[int, ...]:
    """How many blocks there are along each axis."""
    return tuple(n // b for n, b in zip(shape, block, strict=True))


def _alternating(first: Any, second: Any) -> tuple[int, ...]:
    """The entries of two sequences in turns."""
    return tuple(itertools.chain.from_iterable(zip(first, second, strict=True)))


def _divides(part: int, whole: int) -> bool:
    """Whether a length divides another; 0 divides 0 alone."""
    return whole % part == 0 if part else whole == 0
