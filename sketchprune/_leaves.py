"""Which leaves of a parameter pytree have derivatives, and how to take them out and put others in their place.

A leaf is differentiable when its dtype is floating. Other arrays (integer counters, random keys, booleans) are left
alone by the whole library: they are never pruned or differentiated, and masks are all ones there. What is no array at
all, such as the activations in an equinox module, cannot enter a compiled program: `check_params` refuses it and says
how to take it out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks
from sketchprune._boundary import shown
from sketchprune.types import Mask, Params, Prunable


def is_floating(leaf: Any) -> bool:
    """Whether the leaf is an array of floating numbers, complex ones included, or such a number.

    >>> [is_floating(leaf) for leaf in (0.5, jnp.ones(2), 1, True, jax.random.key(0), jax.nn.relu)]
    [True, True, False, False, False, False]
    """
    return jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact)


def is_array(leaf: Any) -> bool:
    """Whether the leaf is an array, a number, or the shape of an array.

    >>> [is_array(leaf) for leaf in (0.5, jnp.ones(2), jax.random.key(0), jax.nn.relu, "relu")]
    [True, True, True, False, False]
    """
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return isinstance(leaf, int | float | complex)
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool_, jax.dtypes.prng_key))


def check_params(name: str, params: Any) -> None:
    """Refuses parameters with leaves that are no arrays, and those without a floating one.

    >>> check_params("params", {"kernel": jnp.ones(2), "activation": "relu"})
    Traceback (most recent call last):
    ValueError: params['activation'] is 'relu'; it takes arrays. Of an equinox module take them with
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    apply = lambda params, x: jax.vmap(eqx.combine(params, rest))(x)
    and of a flax nnx module with
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    apply = lambda params, x: nnx.merge(graphdef, params, rest)(x)
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not is_array(leaf):
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} is {shown(leaf)}; it takes arrays. {_HOW_TO_SPLIT}")
    if not any(map(is_floating, jax.tree.leaves(params))):
        raise ValueError(f"{name} has no floating leaf; it takes at least one")


def check_real(name: str, params: Any) -> None:
    """Refuses what `check_params` refuses, and complex numbers.

    >>> check_real("params", {"a": 1j})
    Traceback (most recent call last):
    ValueError: params['a'] is complex; it takes real numbers
    """
    check_params(name, params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if is_floating(leaf) and jnp.iscomplexobj(leaf):
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} is complex; it takes real numbers")


_MAX_PATHS_SHOWN = 3
_HOW_TO_SPLIT = """Of an equinox module take them with
params, rest = eqx.partition(model, eqx.is_inexact_array)
apply = lambda params, x: jax.vmap(eqx.combine(params, rest))(x)
and of a flax nnx module with
graphdef, params, rest = nnx.split(model, nnx.Param, ...)
apply = lambda params, x: nnx.merge(graphdef, params, rest)(x)"""


def split(params: Params) -> tuple[Params, Params]:
    """The floating leaves and all others, each with None in the place of what the other one has.

    >>> split({"n": 1, "w": 0.5})
    ({'n': None, 'w': 0.5}, {'n': 1, 'w': None})
    """
    floating = jax.tree.map(lambda leaf: leaf if is_floating(leaf) else None, params)
    return floating, jax.tree.map(lambda leaf: None if is_floating(leaf) else leaf, params)


def joined(floating: Params, others: Params) -> Params:
    """What `split` took apart.

    >>> joined({"n": None, "w": 2.0}, {"n": 1, "w": None})
    {'n': 1, 'w': 2.0}
    """
    if not jax.tree.leaves(others):
        return floating
    return jax.tree.map(lambda own, other: other if own is None else own, floating, others, is_leaf=_is_none)


def with_ones(mask: Mask, others: Params) -> Mask:
    """The mask of all leaves, from that of the floating ones: the others are kept whole.

    >>> with_ones({"n": None, "w": True}, {"n": 1, "w": None})
    {'n': Array(True, dtype=bool), 'w': True}
    """
    return joined(mask, jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), bool), others))


def beside(floating: Params, tree: PyTree[Any]) -> PyTree[Any]:
    """What ``tree``, which is structured like the parameters, has beside their floating leaves; None elsewhere.

    >>> beside({"n": None, "w": 0.5}, {"n": True, "w": False})
    {'n': None, 'w': False}
    """
    return jax.tree.map(lambda own, leaf: None if own is None else leaf, floating, tree, is_leaf=_is_none)


def on_floating(apply: Any, others: Params) -> Any:
    """The network as a function of its floating leaves, in a program that has the others."""
    if not jax.tree.leaves(others):
        return apply
    return lambda floating, x, **state_and_key: apply(joined(floating, others), x, **state_and_key)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def chosen_among(weights: PyTree[bool], params: Params, which: Prunable) -> PyTree[bool]:
    """What `masks.prunable` returns, for leaves of which it is known whether they hold weights."""
    if which is None:
        only = sum(jax.tree.leaves(weights)) == 1
        return jax.tree.map(lambda weight, leaf: weight and (only or jnp.ndim(leaf) >= 2), weights, params)
    if callable(which):
        chosen = jax.tree_util.tree_map_with_path(lambda path, _: bool(which(jax.tree_util.keystr(path))), params)
    else:
        chosen = which
    _checks.same_structure("prunable", chosen, "params, or a function of a path", params)
    chosen = jax.tree_util.tree_map_with_path(
        lambda path, weight, pruned: weight and _is_true(path, pruned), weights, chosen
    )
    if not any(jax.tree.leaves(chosen)):
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        first = ", ".join(map(repr, paths[:_MAX_PATHS_SHOWN])) + (", …" if len(paths) > _MAX_PATHS_SHOWN else "")
        raise ValueError(f"prunable chooses none of the leaves {first}; it takes one that chooses some")
    return chosen


def _is_true(path: Any, pruned: Any) -> bool:
    """One boolean of what a user says is pruned; refuses what is none, such as a leaf of a mask."""
    known = _checks.concrete(pruned)
    if known is None or known.dtype != bool or known.ndim:
        raise ValueError(f"prunable{jax.tree_util.keystr(path)} is {shown(pruned)}; it takes True or False")
    return bool(known)


def chosen_of_mask(mask: Mask, which: Prunable) -> PyTree[bool]:
    """What `masks.prunable` says of the parameters of a mask, all of which are taken for weights."""
    return chosen_among(jax.tree.map(lambda _: True, mask), mask, which)


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
