"""Source masks, and exact choices of the largest values inside them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sketchprune import _checks, masks
from sketchprune._leaves import beside, joined, split, with_ones
from sketchprune.train import pruned_optimizer
from sketchprune.train.tickets import Ticket
from sketchprune.types import Count, Mask, Params, Prunable

Keep = Count | PyTree[Count]
"""One count for all prunable weights, or one for each leaf."""
Chosen = tuple[bool, ...]
"""For each leaf of the parameters whether it may be pruned, as a static argument of compiled programs."""


def chosen_leaves(params: Params, prunable: Prunable) -> Chosen:
    """Which leaves may be pruned; refuses what :func:`sketchprune.masks.prunable` refuses."""
    return tuple(map(bool, jax.tree.leaves(masks.prunable(params, prunable))))


def support(params: Params, mask: Mask | None) -> Mask:
    """Which weights a source mask leaves for use, as booleans; all of them for None."""
    if mask is None:
        return jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), bool), params)
    return pruned_optimizer.support(params, mask)


def available(params: Params, mask: Mask | None, prunable: Prunable = None) -> PyTree[int]:
    """How many prunable weights of each leaf a source mask leaves for use; their number where it is traced."""
    pruned = masks.prunable(params, prunable)
    if mask is None or any(map(_checks.traced, jax.tree.leaves(mask))):
        return jax.tree.map(lambda leaf, pruned: jnp.size(leaf) if pruned else 0, params, pruned)
    _check_shapes(params, mask)
    return masks.summary(mask, pruned).kept


def _check_shapes(params: Params, mask: Mask) -> None:
    """Refuses a mask that is not shaped like the parameters."""
    jax.eval_shape(masks.apply, params, mask)


def check_keep(keep: Keep, most: PyTree[int]) -> None:
    """Refuses a count above what is available, in all or in a leaf."""
    by_layer = jax.tree.structure(keep) == jax.tree.structure(most)
    if jax.tree.structure(keep) != jax.tree.structure(0):
        _checks.same_structure("keep", keep, "params, or one number", most)

    def check(path: Any, count: Count, most: int) -> None:
        known = _checks.whole("keep", count, least=0)
        if known is not None and known > most:
            name = "keep" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} is {count}; it takes at most {most}, the number of weights that may be used")

    jax.tree_util.tree_map_with_path(check, keep, most if by_layer else sum(jax.tree.leaves(most)))


def check_inside(params: Params, start: Mask, source: Mask | None) -> None:
    """Refuses a mask that is not shaped like the parameters, or keeps weights outside the source."""
    for mask in (start, source):
        if mask is not None:
            _check_shapes(params, mask)
    if source is None or any(map(_checks.traced, jax.tree.leaves((start, source)))):
        return
    pairs = zip(jax.tree.leaves(start), jax.tree.leaves(source), strict=True)
    if total := sum(np.count_nonzero((np.asarray(kept) != 0) & (np.asarray(usable) == 0)) for kept, usable in pairs):
        raise ValueError(f"start keeps {total} weights outside mask; it takes a mask inside it")


def largest(values: Params, keep: Keep, inside: Mask, chosen: Chosen) -> Mask:
    """The ``keep`` largest values inside a boolean mask, in all or of each leaf; leaves that are never pruned whole.

    A NaN, and a value that is infinite, counts as the largest number: what has diverged is kept, where it shows.
    """
    leaves, structure = jax.tree.flatten(inside)
    pruned = [i for i, may_be_pruned in enumerate(chosen) if may_be_pruned]
    numbers = jax.tree.leaves(values)
    ranked = [jnp.where(leaves[i], _finite(numbers[i]), -jnp.inf) for i in pruned]
    if jax.tree.structure(keep) == jax.tree.structure(0):
        kept = masks.keep_top(ranked, keep)
    else:
        counts = jax.tree.leaves(keep)
        kept = [masks.keep_top(leaf, counts[i]) for i, leaf in zip(pruned, ranked, strict=True)]
    for i, leaf in zip(pruned, kept, strict=True):
        leaves[i] = leaf
    return structure.unflatten(leaves)


def on_floating_leaves(procedure: Callable[..., Ticket]) -> Callable[..., Ticket]:
    """The procedure on the floating leaves alone; the other leaves are put back afterwards, with a mask of ones.

    Positional arguments are the parameters, the data, and what may be shaped like the parameters.
    """

    @functools.wraps(procedure)
    def wrapped(params: Params, data: Any, *trees: Any, recipe: Any, chosen: Chosen, **options: Any) -> Ticket:
        own, others = split(params)
        structure = jax.tree.structure(params)
        trees = tuple(beside(own, tree) if jax.tree.structure(tree) == structure else tree for tree in trees)
        chosen = tuple(jax.tree.leaves(beside(own, structure.unflatten(chosen))))
        ticket = procedure(own, data, *trees, recipe=recipe.on_floating(others), chosen=chosen, **options)
        return Ticket(joined(ticket.params, others), with_ones(ticket.mask, others), ticket.losses)

    return wrapped


def sizes(params: Params) -> Params:
    """|w|."""
    return jax.tree.map(jnp.abs, params)


def _finite(values: Any) -> Any:
    """The values, with the largest number for a NaN and for infinity."""
    values = jnp.asarray(values)
    return jnp.nan_to_num(values, nan=jnp.finfo(values.dtype).max)
