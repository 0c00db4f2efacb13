"""How many weights to keep: over all layers together, and layer by layer."""

import re
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from sketchprune import _checks, laws, masks
from sketchprune.laws.densities import Rule
from sketchprune.types import Params


def size(params: Params) -> int:
    """How many weights may be pruned.

    Raises:
        ValueError: for an empty leaf.

    >>> import jax.numpy as jnp
    >>> size({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    6
    """
    check_leaves(params)
    prunable = jax.tree.leaves(masks.prunable(params))
    return sum(leaf.size for leaf, pruned in zip(jax.tree.leaves(params), prunable, strict=True) if pruned)


def count(params: Params, density: float) -> int:
    """How many weights are kept at a density: the nearest whole number.

    Args:
        params: the parameters.
        density: the fraction of prunable weights that is kept, in (0, 1].

    Raises:
        ValueError: for a density out of range, and for one that keeps no weight.

    >>> import jax.numpy as jnp
    >>> count(jnp.ones(10), 0.25)
    2
    """
    _checks.interval("density", density, closed=True)
    kept = round(density * size(params))
    if not kept:
        raise ValueError(f"density is {density}, none of {size(params)} weights; it takes one that keeps a weight")
    return kept


def layer_counts(params: Params, density: float, rule: Rule = "uniform") -> PyTree[int]:
    """How many weights each layer keeps, by a rule for layer densities; together as many as :func:`count`.

    Densities become whole numbers by largest remainders. Layers are in the order of their names, with the numbers in
    names compared as numbers; the order matters to "pyramidal" alone.

    Args:
        params: the parameters.
        density: the fraction of all prunable weights that is kept, in (0, 1].
        rule: "uniform", "erk", "balanced" or "pyramidal"; see :func:`sketchprune.laws.layer_densities`.

    Returns:
        One count for each leaf, 0 for those that are never pruned.

    Raises:
        ValueError: as :func:`count`, for another rule, and, naming it, for a layer that would keep nothing.

    >>> import jax.numpy as jnp
    >>> layer_counts({"first": jnp.ones((2, 4)), "second": jnp.ones((4, 1))}, 0.5)
    {'first': 4, 'second': 2}
    """
    total = count(params, density)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    prunable = jax.tree.leaves(masks.prunable(params))
    layers = sorted((i for i, pruned in enumerate(prunable) if pruned), key=lambda i: _natural(names[i]))
    shapes = [paths[i][1].shape for i in layers]
    exact = laws.layer_densities(rule, shapes, density) * [paths[i][1].size for i in layers]
    counts = np.floor(exact + 1e-9).astype(int)
    for layer in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[layer] += 1
    if not counts.all():
        empty = names[layers[int(np.argmin(counts))]]
        raise ValueError(f"density is {density}, which leaves params{empty} without weights; it takes a larger one")
    each = dict(zip(layers, counts.tolist(), strict=True))
    return jax.tree.unflatten(structure, [each.get(i, 0) for i in range(len(paths))])


def check_leaves(params: Params) -> None:
    """Refuses parameters that are not floating, and empty leaves."""
    names, leaves, _ = _checks.floating_leaves("params", params)
    for name, leaf in zip(names, leaves, strict=True):
        if not leaf.size:
            raise ValueError(f"{name} is empty, of shape {leaf.shape}; it takes layers with at least one weight")


def _natural(name: str) -> list[Any]:
    """A sorting key in which the numbers of a name are numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
