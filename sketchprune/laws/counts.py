"""How many weights to keep: over all layers together, and layer by layer."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from sketchprune import _checks, masks
from sketchprune._boundary import checked
from sketchprune._leaves import check_real, is_floating
from sketchprune.laws.densities import Rule, layer_densities
from sketchprune.types import Params, Prunable

Keeps = Sequence[int] | Int[Array | np.ndarray, "rounds"] | PyTree[Int[Array | np.ndarray, "rounds"]]
"""How many weights are left after each round, in all; or a pytree like the parameters, by leaf."""


@checked
def size(params: Params, prunable: Prunable = None) -> int:
    """How many weights may be pruned.

    Args:
        params: the parameters.
        prunable: which leaves may be pruned, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The number of prunable weights.

    Raises:
        ValueError: for an empty leaf.

    >>> import jax.numpy as jnp
    >>> size({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    6
    """
    check_leaves(params)
    chosen = jax.tree.leaves(masks.prunable(params, prunable))
    return sum(leaf.size for leaf, pruned in zip(jax.tree.leaves(params), chosen, strict=True) if pruned)


@checked
def count(params: Params, density: float, prunable: Prunable = None) -> int:
    """How many weights are kept at a density: the nearest whole number.

    Args:
        params: the parameters.
        density: the fraction of prunable weights that is kept, in (0, 1].
        prunable: as for :func:`size`.

    Returns:
        round(density · size), at least 1.

    Raises:
        ValueError: for a density out of range, and for one that keeps no weight.

    >>> import jax.numpy as jnp
    >>> count(jnp.ones(10), 0.25)
    2
    """
    _checks.interval("density", density, closed=True)
    kept = round(density * size(params, prunable))
    if not kept:
        raise ValueError(
            f"density is {density}, none of {size(params, prunable)} weights; it takes one that keeps a weight"
        )
    return kept


@checked
def layer_counts(
    params: Params,
    density: float,
    rule: Rule = "uniform",
    *,
    redistribute: bool = True,
    least: int | None = None,
    order: Sequence[str] | None = None,
    prunable: Prunable = None,
) -> PyTree[int]:
    """How many weights each layer keeps, by a rule for layer densities; together as many as :func:`count`.

    Densities become whole numbers by largest remainders. With ``redistribute=False`` full layers are clipped, and the
    counts add up to what the clipped densities keep, which is fewer.

    Args:
        params: the parameters.
        density: the fraction of all prunable weights that is kept, in (0, 1].
        rule: "uniform", "erk", "balanced" or "pyramidal"; see :func:`sketchprune.laws.layer_densities`.
        redistribute: whether what a full layer cannot take goes to the others.
        least: how many weights a layer keeps at least, or all of a smaller layer; the layers above it give up the
            difference in proportion to their counts. By default a layer that would keep nothing is refused.
        order: for "pyramidal", as :func:`layer_order`.
        prunable: as for :func:`size`.

    Returns:
        One count for each leaf, 0 for those that are never pruned.

    Raises:
        ValueError: as :func:`count` and :func:`layer_order`; for another rule; naming it, for a layer that would keep
            nothing; and for a density that is too low for ``least``.

    >>> import jax.numpy as jnp
    >>> layer_counts({"first": jnp.ones((2, 4)), "second": jnp.ones((4, 1))}, 0.5)
    {'first': 4, 'second': 2}
    >>> layer_counts({"first": jnp.ones((20, 20)), "second": jnp.ones((20, 1))}, 0.01, least=2)
    {'first': 2, 'second': 2}
    """
    total = count(params, density, prunable)
    names, leaves = _named_leaves(params)
    layers = layer_order(params, rule, order, prunable)
    sizes = np.array([leaves[i].size for i in layers])
    shapes = [leaves[i].shape for i in layers]
    exact = layer_densities(rule, shapes, density, redistribute=redistribute) * sizes
    if not redistribute:
        total = round(exact.sum())
    if least is not None:
        _checks.whole("least", least, least=0)
        exact = _raised_to_least(exact, sizes, least, total, density)
    counts = np.floor(exact + 1e-9).astype(int)
    for layer in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[layer] += 1
    if least is None and not counts.all():
        empty = names[layers[int(np.argmin(counts))]]
        raise ValueError(f"density is {density}, which leaves params{empty} without weights; it takes a larger one")
    each = dict(zip(layers, counts.tolist(), strict=True))
    return jax.tree.unflatten(jax.tree.structure(params), [each.get(i, 0) for i in range(len(leaves))])


@checked
def layer_order(params: Params, rule: Rule, order: Sequence[str] | None = None, prunable: Prunable = None) -> list[int]:
    """The numbers of the leaves that pruning touches, first layer first.

    The order matters to "pyramidal" alone. Parameters tell it where their names differ in numbers only, such as the
    entries of a list, or "layer_0" to "layer_11". Other names do not: jax sorts them.

    Args:
        params: the parameters.
        rule: a rule for layer densities.
        order: the paths of the layers' leaves as jax.tree_util.keystr writes them, first layer first; leaves that are
            never pruned may be among them. :func:`sketchprune.prune.order_of_use` finds it.
        prunable: as for :func:`size`.

    Returns:
        Indices into jax.tree.leaves(params).

    Raises:
        ValueError: for "pyramidal" without an order where names do not tell it, and for an order that repeats a path
            or leaves out a layer.

    >>> import jax.numpy as jnp
    >>> params = {"body": jnp.ones((2, 2)), "stem": jnp.ones((2, 2))}
    >>> layer_order(params, "pyramidal", ["['stem']", "['body']"])
    [1, 0]
    """
    names, _ = _named_leaves(params)
    layers = [i for i, pruned in enumerate(jax.tree.leaves(masks.prunable(params, prunable))) if pruned]
    if order is not None:
        ranks = {name: rank for rank, name in enumerate(order)}
        missing = [names[i] for i in layers if names[i] not in ranks]
        if missing or len(ranks) < len(order):
            fault = f"without {missing[0]}" if missing else "with a path twice"
            raise ValueError(f"order is {list(order)}, {fault}; it takes the path of each layer once")
        return sorted(layers, key=lambda i: ranks[names[i]])
    if rule == "pyramidal" and len({re.sub(r"\d+", "", names[i]) for i in layers}) > 1:
        raise ValueError(
            f"order is None, and the names {[names[i] for i in layers]} do not tell which layer comes first; "
            "'pyramidal' takes the paths in order, such as prune.order_of_use(apply, params, x)"
        )
    return sorted(layers, key=lambda i: _natural(names[i]))


def _raised_to_least(exact: np.ndarray, sizes: np.ndarray, least: int, total: int, density: float) -> np.ndarray:
    """Counts of at least ``least`` (or all of a smaller layer) that sum to the total; the others stay in proportion."""
    floor = np.minimum(least, sizes)
    if total < floor.sum():
        raise ValueError(
            f"density is {density}, {total} weights; it takes one that keeps {floor.sum()}, "
            f"at least {least} in each layer"
        )
    low = np.zeros(len(exact), bool)
    raised = exact
    while (raised < floor).any():
        low |= raised < floor
        rest = exact * (total - floor[low].sum()) / max(exact[~low].sum(), np.finfo(float).tiny)
        raised = np.where(low, floor, np.minimum(rest, sizes))
    return raised


def _named_leaves(params: Params) -> tuple[list[str], list[Any]]:
    """The path of each leaf as text, and the leaves."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path) for path, _ in paths], [leaf for _, leaf in paths]


@checked
def check_leaves(params: Params) -> None:
    """Refuses parameters without floating leaves, and floating leaves that are empty.

    Args:
        params: the parameters.

    Raises:
        ValueError: naming the leaf.
    """
    check_real("params", params)
    for name, leaf in zip(*_named_leaves(params), strict=True):
        if is_floating(leaf) and not leaf.size:
            raise ValueError(f"params{name} is empty, of shape {leaf.shape}; it takes layers with at least one weight")


def check_rounds(keeps: Any, available: PyTree[int]) -> Any:
    """The counts of all rounds as arrays; refuses those that grow, or start above what is available of each leaf.

    Args:
        keeps: as a caller gave them: one array of counts, or a pytree of arrays, one for each leaf.
        available: the prunable weights of each leaf; 0 for leaves that are never pruned.

    Returns:
        The same structure, with arrays of JAX.

    Raises:
        ValueError: for counts that grow, are negative or start above what is available, for leaves of different length,
            and for a pytree of another structure.
    """
    by_layer = jax.tree.structure(keeps) == jax.tree.structure(available) and all(map(np.ndim, jax.tree.leaves(keeps)))
    if not by_layer and isinstance(keeps, Sequence):
        keeps = np.asarray(keeps)
    if not by_layer and jax.tree.structure(keeps) != jax.tree.structure(0):
        raise ValueError("keeps is a pytree of another structure than params; it takes one array, or one a leaf")
    if len(lengths := {np.shape(counts)[:1] for counts in jax.tree.leaves(keeps)}) > 1:
        raise ValueError(f"keeps has leaves of the lengths {sorted(lengths)}; it takes one number of rounds")

    def check(counts: Any, most: int) -> None:
        known = _checks.whole("keeps", counts, least=0)
        if known is not None and (known.ndim != 1 or not known.size or (np.diff(known) > 0).any() or known[0] > most):
            raise ValueError(f"keeps is {known}; it takes counts that do not grow, one a round, none above {most}")

    jax.tree.map(check, keeps, available if by_layer else sum(jax.tree.leaves(available)))
    return jax.tree.map(jnp.asarray, keeps)


def _natural(name: str) -> list[Any]:
    """A sorting key in which the numbers of a name are numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
