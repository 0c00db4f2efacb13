"""Masks that keep the same number of weights in each group: N:M sparsity."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sketchprune import _checks, masks
from sketchprune._boundary import checked
from sketchprune.masks import groups as grouping
from sketchprune.prune.samplers import Sampler, top
from sketchprune.types import Count, Groups, Key, Mask, Prunable, Scores


@checked
def select_within(
    scores: Scores,
    keep: Count,
    groups: Groups,
    *,
    key: Key | None = None,
    sampler: Sampler | None = None,
    prunable: Prunable = None,
) -> Mask:
    """A mask that keeps ``keep`` weights of each group, as hardware for sparse matrices takes them.

    Two of each four inputs of a unit (2:4) are ``keep=2, groups=(4, 1)``. A group with fewer weights that are not
    pruned already keeps these.

    Args:
        scores: a pytree of floats.
        keep: N, how many weights are kept of each group.
        groups: what a group is, as for :func:`sketchprune.masks.group_scores`.
        key: for the sampler, which gets another part of it for each group.
        sampler: `top` by default. It works on all groups of a leaf at once, under vmap.
        prunable: which leaves have groups, as for :func:`sketchprune.masks.prunable`; the others are kept whole.

    Returns:
        A mask, as the sampler makes it.

    Raises:
        ValueError: for NaN scores, a ``keep`` below 0 or above the size of a group, and as
            :func:`sketchprune.masks.group_scores`.

    Cost: that of the sampler.

    >>> select_within(jnp.array([[4.0], [1.0], [2.0], [3.0]]), 1, (2, 1)).tolist()
    [[True], [False], [False], [True]]
    """
    names, leaves, structure = _checks.floating_leaves("scores", scores)
    chosen = jax.tree.leaves(masks.prunable(scores, prunable))
    blocks = structure.flatten_up_to(grouping.blocks("scores", scores, groups, prunable))
    _check_numbers(names, leaves)
    wanted = _checks.whole("keep", keep, least=0)
    keys = [None] * len(leaves) if key is None else list(jax.random.split(key, len(leaves)))

    def leaf(name: str, values: Any, pruned: bool, block: grouping.Block, key: Key | None) -> Array:
        if not pruned:
            return jnp.ones(jnp.shape(values), bool)
        rows = grouping.to_rows(jnp.asarray(values), block)
        if wanted is not None and wanted > rows.shape[1]:
            raise ValueError(f"keep is {keep}; it takes at most {rows.shape[1]}, the size of a group of {name}")
        each = None if key is None else jax.random.split(key, len(rows))
        kept = jax.vmap(lambda key, row: (sampler or top)(key, row, keep))(each, rows)
        return grouping.from_rows(kept, jnp.shape(values), block)

    return structure.unflatten(list(map(leaf, names, leaves, chosen, blocks, keys)))


def _check_numbers(names: list[str], leaves: list[Any]) -> None:
    """Refuses NaN scores, of those that are known."""
    for name, leaf in zip(names, leaves, strict=True):
        if not _checks.traced(leaf) and jnp.isnan(leaf).any():
            raise ValueError(f"{name} has NaN entries; it takes numbers")
