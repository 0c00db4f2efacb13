"""How many weights to keep: in all, layer by layer, and round by round."""

import operator
import re
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import PyTree

from sketchprune import _checks, laws, masks
from sketchprune.types import Params


def size(params: Params) -> int:
    """How many weights may be pruned. ValueError for an empty leaf.

    >>> import jax.numpy as jnp
    >>> size({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    6
    """
    check_leaves(params)
    prunable = jax.tree.leaves(masks.prunable(params))
    return sum(leaf.size for leaf, pruned in zip(jax.tree.leaves(params), prunable, strict=True) if pruned)


def count(params: Params, density: float) -> int:
    """``keep`` at a density: the nearest whole number of weights.

    ValueError for a density outside (0, 1] and one that keeps none.

    >>> import jax.numpy as jnp
    >>> count(jnp.ones(10), 0.25)
    2
    """
    _checks.interval("density", density, closed=True)
    kept = round(density * size(params))
    if not kept:
        raise ValueError(f"density is {density}, none of {size(params)} weights; it takes one that keeps a weight")
    return kept


def layer_counts(
    params: Params,
    density: float,
    rule: Literal["uniform", "erk", "balanced", "pyramidal"] = "uniform",
) -> PyTree[int]:
    """``keep`` layer by layer, by a rule of :func:`sketchprune.laws.layer_densities`; together as :func:`count`.

    Whole numbers by largest remainders. Layers are in the order of their names, numbers in them as numbers; the
    order matters to "pyramidal" alone. ValueError as :func:`count`, for another rule, and, naming it, for a layer
    that would keep nothing.

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


def exponential(start: int | PyTree[int], keep: int | PyTree[int], rounds: int) -> Any:
    """Counts after each round that shrink by one factor: start (keep/start)^{r/R}. Pytrees leaf by leaf.

    ValueError unless 1 ≤ keep ≤ start (0 = start is allowed, for leaves that are never pruned) and rounds ≥ 1.

    >>> exponential(100, 1, 2)
    array([10,  1])
    """
    return _schedule(lambda start, keep, part: start * (keep / start) ** part, start, keep, rounds)


def linear(start: int | PyTree[int], keep: int | PyTree[int], rounds: int) -> Any:
    """Counts after each round that shrink by one amount: start − (start − keep) r/R. As :func:`exponential`.

    >>> linear(100, 10, 3)
    array([70, 40, 10])
    """
    return _schedule(lambda start, keep, part: start - (start - keep) * part, start, keep, rounds)


def one_at_a_time(start: int | PyTree[int], keep: int | PyTree[int]) -> Any:
    """One weight less each round; of a pytree one less in each leaf, until it has its count. As :func:`exponential`.

    >>> one_at_a_time(5, 2)
    array([4, 3, 2])
    """
    rounds = max(1, *jax.tree.leaves(jax.tree.map(operator.sub, start, keep)))
    return _schedule(lambda start, keep, part: np.maximum(start - rounds * part, keep), start, keep, rounds)


def _schedule(law: Callable[..., Any], start: Any, keep: Any, rounds: int) -> Any:
    _checks.whole("rounds", rounds, least=1)

    def leaf(start: int, keep: int) -> np.ndarray:
        if start == 0 == keep:
            return np.zeros(rounds, int)
        if not 1 <= keep <= start:
            raise ValueError(f"keep is {keep}; it takes 1 to {start}, the number of weights")
        return np.rint(law(start, keep, np.arange(1, rounds + 1) / rounds)).astype(int)

    return jax.tree.map(leaf, start, keep)


def check_leaves(params: Params) -> None:
    names, leaves, _ = _checks.floating_leaves("params", params)
    for name, leaf in zip(names, leaves, strict=True):
        if not leaf.size:
            raise ValueError(f"{name} is empty, of shape {leaf.shape}; it takes layers with at least one weight")


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
