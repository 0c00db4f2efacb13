"""An optax optimiser under which pruned weights stay zero, in any training loop: the one mechanism of all training."""

import contextvars
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._leaves import is_floating
from sketchprune.types import Mask, Params

_PROBED = contextvars.ContextVar("probed", default=False)
"""Whether an optimiser is asked for its state of parameters of another shape, to see what follows their shape."""


class PrunedState(NamedTuple):
    """The state of :func:`pruned`.

    Attributes:
        inner: the state of the optimiser.
        mask: booleans, what is kept; another one takes its place by :func:`replace_mask`.
    """

    inner: Any
    mask: Mask


@checked
def pruned(optimizer: optax.GradientTransformation, mask: Mask) -> optax.GradientTransformationExtraArgs:
    """The optimiser restricted to the weights that a mask keeps: the others are exactly zero after each update.

    u = û where m ≠ 0, and −θ elsewhere, where û is the optimiser's update of m∘θ for the gradient m∘g.

    **Pruned weights** become zero at the first update. Momentum, weight decay, schedules, noise and line searches
    revive nothing: the optimiser sees zero weights and zero gradients there, and its state there is that of a new
    start. NaN and infinity cannot be removed by an update; start from ``masks.apply(params, mask)``.

    **Kept weights** move as in a network of these weights alone, unless the optimiser draws random numbers or averages
    over a whole leaf, as Adafactor does.

    **A mask of numbers**, such as a sketch, says which weights are kept and nothing else. Its values enter once, by
    starting from ``masks.apply(params, mask)``.

    **Combining.** Wrap the whole optimiser: what comes after it in an ``optax.chain`` would change its update. It may
    stand inside ``optax.MultiSteps`` (pruned weights then become zero at the first update that is not skipped) and
    ``optax.multi_transform``, and may contain them. If a pruned optimiser is pruned once more, what both masks keep is
    kept.

    **Changing the mask.** The mask is part of the state, so one compiled step serves all masks, checkpoints contain it,
    and :func:`replace_mask` changes it during training, as RigL does.

    Args:
        optimizer: an optax optimiser.
        mask: what is kept, shaped like the parameters; may be traced.

    Returns:
        An optax optimiser whose ``update`` needs the parameters. Extra arguments are passed on, ``grad`` restricted.
        Leaves that are no floating arrays are left alone.

    Raises:
        ValueError: for a mask with negative numbers, NaN or infinity; by ``init`` for one that is not shaped like the
            parameters; by ``update`` without parameters.

    Cost: O(d) an update, beside that of the optimiser.

    >>> optimizer = pruned(optax.sgd(0.5, momentum=0.5), jnp.array([True, False]))
    >>> params = jnp.array([1.0, 2.0])
    >>> state = optimizer.init(params)
    >>> updates, state = optimizer.update(jnp.ones(2), state, params)
    >>> optax.apply_updates(params, updates).tolist()
    [0.5, 0.0]
    """
    _check_values(mask)
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Params) -> PrunedState:
        kept = support(params, jax.tree.map(jnp.ones_like, params) if _PROBED.get() else mask)
        return PrunedState(optimizer.init(restrict(params, kept)), kept)

    def update(updates: Params, state: Any, params: Params | None = None, **extra: Any) -> tuple[Params, PrunedState]:
        if params is None:
            raise ValueError("params is None; it takes the parameters: optimizer.update(gradients, state, params)")
        return update_kept(optimizer, updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, update)


@checked
def replace_mask(state: Any, mask: Mask) -> Any:
    """The state of an optimiser with another mask wherever there is one from :func:`pruned`.

    Weights that are kept from now on start at zero, where the last update put them, and with the optimiser's state as
    at its start. Those that are pruned from now on are forgotten by the optimiser and zero after the next update;
    ``masks.apply(params, mask)`` removes them at once, before the next gradient.

    Args:
        state: of :func:`pruned`, or of any optax optimiser that contains it, such as ``optax.MultiSteps``.
        mask: what is kept, shaped like the parameters; may be traced.

    Returns:
        The state.

    Raises:
        ValueError: for a state without a mask; for a mask of another shape or with numbers that :func:`pruned` refuses.

    Cost: O(d).

    >>> state = pruned(optax.sgd(0.5), jnp.array([True, False])).init(jnp.ones(2))
    >>> replace_mask(state, jnp.array([False, True])).mask.tolist()
    [False, True]
    """
    _check_values(mask)
    found = [part for part in jax.tree.leaves(state, is_leaf=_is_pruned) if _is_pruned(part)]
    if not found:
        raise ValueError("state has no mask; it takes the state of an optimizer made with train.pruned")

    def replaced(part: Any) -> Any:
        if not _is_pruned(part):
            return part
        return PrunedState(jax.tree.map(replaced, part.inner, is_leaf=_is_pruned), support(part.mask, mask))

    return jax.tree.map(replaced, state, is_leaf=_is_pruned)


def update_kept(
    optimizer: optax.GradientTransformationExtraArgs, updates: Params, state: PrunedState, params: Params, **extra: Any
) -> tuple[Params, PrunedState]:
    """The update that `pruned` documents.

    Args:
        optimizer: an optimiser that takes extra arguments.
        updates: the gradient, of pruned weights too.
        state: of :func:`pruned`.
        params: the parameters.
        extra: what the optimiser takes besides, such as ``value``.

    Returns:
        The updates and the next state.
    """
    kept = state.mask
    if "grad" in extra:
        extra["grad"] = restrict(extra["grad"], kept)
    own = restrict(params, kept)
    forget = forgetting(optimizer, own, kept)
    found, inner = optimizer.update(restrict(updates, kept), forget(state.inner), own, **extra)

    def leaf(params: Any, kept: Array, found: Any) -> Any:
        return jnp.where(kept, found, -params) if is_floating(params) else found

    return jax.tree.map(leaf, params, kept, found), PrunedState(forget(inner), kept)


def support(params: Params, mask: Mask) -> Mask:
    """Which weights a mask keeps, as booleans; refuses one that is not shaped like the parameters.

    Args:
        params: the parameters.
        mask: booleans or numbers.

    Returns:
        A pytree of booleans.

    Raises:
        ValueError: for another structure or shape, naming the leaf.
    """
    _checks.same_structure("mask", mask, "params", params, is_leaf=_is_placeholder)

    def leaf(path: Any, own: Any, mask: Any) -> Any:
        if _is_placeholder(own):
            return own
        if jnp.shape(mask) != jnp.shape(own):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has shape {jnp.shape(mask)}; it takes params' {jnp.shape(own)}")
        return jnp.asarray(mask) != 0

    return jax.tree_util.tree_map_with_path(leaf, params, mask, is_leaf=_is_placeholder)


def restrict(tree: Params, kept: Mask) -> Params:
    """The values where booleans keep them and zero elsewhere, a NaN included; leaves that are not floating whole.

    Args:
        tree: parameters, gradients or updates.
        kept: booleans, from :func:`support`.

    Returns:
        A tree like the first.
    """

    def leaf(values: Any, kept: Any) -> Any:
        return jnp.where(kept, values, 0) if is_floating(values) and not _is_placeholder(kept) else values

    return jax.tree.map(leaf, tree, kept)


def forgetting(optimizer: optax.GradientTransformation, params: Params, kept: Mask) -> Callable[[Any], Any]:
    """A function that resets the optimiser's state, for weights that are not kept, to that of a new start.

    The parts that belong to weights are those with the structure of the parameters, and leaves of their shapes, perhaps
    with more axes in front. (optax.tree.map_params does not find those of L-BFGS.) An optimiser of some of the weights
    has placeholders for the others.

    Args:
        optimizer: the optimiser.
        params: the parameters, zero where nothing is kept.
        kept: booleans, from :func:`support`.

    Returns:
        ``forget(state) -> state``.
    """
    structure = jax.tree.structure(kept, is_leaf=_is_placeholder)
    fresh = optimizer.init(params)
    follows = _follows_shapes(optimizer, params, fresh)

    def of_params(part: Any) -> bool:
        return jax.tree.structure(part, is_leaf=_is_placeholder) == structure

    def leaf(now: Any, new: Any, follows: Any, kept: Any) -> Any:
        if _is_placeholder(now) or _is_placeholder(kept):
            return now
        of_weights = is_floating(now) and follows and jnp.shape(now)[jnp.ndim(now) - kept.ndim :] == kept.shape
        return jnp.where(kept, now, new) if of_weights else now

    def part(now: Any, *others: Any) -> Any:
        return jax.tree.map(leaf, now, *others, kept, is_leaf=_is_placeholder) if of_params(now) else now

    return lambda state: jax.tree.map(part, state, fresh, follows, is_leaf=of_params)


def _follows_shapes(optimizer: optax.GradientTransformation, params: Params, fresh: Any) -> Any:
    """Whether each leaf of a fresh state may be shaped by the parameters.

    Where the parameters are one bare array any leaf of the state has their structure, such as the ten numbers of
    L-BFGS beside ten weights. There the state of parameters with more entries tells.
    """
    if not jax.tree_util.treedef_is_leaf(jax.tree.structure(params)):
        return jax.tree.map(lambda _: True, fresh)
    shape = tuple(length + 1 for length in jnp.shape(params)) or (2,)
    larger = jax.ShapeDtypeStruct(shape, jnp.result_type(params))
    token = _PROBED.set(True)
    try:
        # A function of its own, so that JAX does not take this trace for one of the optimiser's init.
        other = jax.eval_shape(lambda params: optimizer.init(params), larger)
    finally:
        _PROBED.reset(token)
    return jax.tree.map(lambda leaf, other: jnp.shape(leaf) != jnp.shape(other), fresh, other)


def _check_values(mask: Mask) -> None:
    """Refuses numbers that are no multiplicities, where they are known."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(mask):
        if jnp.result_type(leaf) == jnp.bool_ or (known := _checks.concrete(leaf)) is None:
            continue
        wrong = known[~((known >= 0) & (known < np.inf))]
        if wrong.size:
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has the entry {wrong[0]}; it takes booleans, or finite numbers >= 0")


def _is_placeholder(part: Any) -> bool:
    """Whether it stands for weights that an optimiser leaves to another one."""
    return isinstance(part, optax.MaskedNode)


def _is_pruned(part: Any) -> bool:
    return isinstance(part, PrunedState)
