"""Which leaves of a parameter pytree have derivatives, and how to take them out and put others in their place.

A leaf is differentiable when its dtype is floating. Integer counters, random keys, functions and the like stay as they
are, everywhere in the library.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sketchprune.types import Params


def is_floating(leaf: Any) -> bool:
    """Whether the leaf is an array of floating numbers, complex ones included, or such a number.

    >>> [is_floating(leaf) for leaf in (0.5, jnp.ones(2), 1, True, jax.random.key(0), jax.nn.relu)]
    [True, True, False, False, False, False]
    """
    return jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact)


def at_floating(params: Params, tree: PyTree[Any]) -> list[Any]:
    """The leaves of ``tree``, which is structured like ``params``, where those of ``params`` are floating.

    >>> at_floating({"n": 1, "w": 0.5}, {"n": 2, "w": 3})
    [3]
    """
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(tree), strict=True)
    return [leaf for own, leaf in pairs if is_floating(own)]


def differentiable_leaves(
    params: Params,
) -> tuple[list[Float[Array, "..."]], Callable[[Sequence[Any]], PyTree[Any]]]:
    """The floating leaves as arrays, and a function that rebuilds ``params`` with other values in their place.

    >>> leaves, rebuild = differentiable_leaves({"n": 1, "w": jnp.zeros(())})
    >>> [leaf.item() for leaf in leaves], rebuild([2.0])
    ([0.0], {'n': 1, 'w': 2.0})
    """
    leaves, tree = jax.tree.flatten(params)

    def rebuild(values: Sequence[Any]) -> PyTree[Any]:
        remaining = iter(values)
        return tree.unflatten([next(remaining) if is_floating(leaf) else leaf for leaf in leaves])

    return [jnp.asarray(leaf) for leaf in at_floating(params, params)], rebuild
