"""Dynamic sparse training: now and then each layer drops its smallest weights and grows as many others."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from sketchprune import _checks
from sketchprune._arithmetic import count_true
from sketchprune._boundary import checked
from sketchprune.train._sources import Chosen, check_inside, chosen_leaves, largest, on_floating_leaves, sizes, support
from sketchprune.train._steps import Recipe, State, Training, check_batches
from sketchprune.train.tickets import Ticket
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, Prunable


class _Rewiring(NamedTuple):
    """When the mask changes, and how; a static argument of compiled programs.

    Attributes:
        every: how many steps lie between two changes.
        until: the step from which the mask stays.
        fraction: of a layer's weights, how many are replaced at first.
        by_gradient: whether the largest gradients grow, and the fraction decays; else what grows is drawn.
    """

    every: int
    until: int
    fraction: float
    by_gradient: bool

    def due(self, step: Array) -> Bool[Array, ""]:
        """Whether the mask changes in a step."""
        return (step > 0) & (step % self.every == 0) & (step < self.until)

    def counts(self, step: Array, kept: Mask) -> PyTree[Int[Array, ""]]:
        """How many weights of each leaf are replaced in a step."""
        until = self.until or 1  # nothing is replaced where it is 0
        fraction = self.fraction * ((1 + jnp.cos(jnp.pi * step / until)) / 2 if self.by_gradient else 1)
        return jax.tree.map(lambda leaf: jnp.rint(fraction * _count(leaf)).astype(jnp.int32), kept)


@checked
def rigl(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    start: Mask,
    every: int,
    until: int | None = None,
    fraction: int | float = 0.3,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    prunable: Prunable = None,
) -> Ticket:
    """RigL: drops the weights of the smallest |w|, and grows those of the largest |gradient|, of the whole source.

    n_l = ½ fraction (1 + cos(πt/until)) k_l, rounded: at each step t that is a multiple of ``every``, 0 < t < until,
    layer l drops n_l of its k_l weights and grows as many of the source that are not in use. Each layer keeps the count
    that ``start`` gives it.

    The gradient is that of the step's batch, and a step that changes the mask does not move weights. New weights start
    at zero, with the optimiser's state as at the start. A weight that is dropped and grown in one step stays as it is.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start.
        data: inputs and targets.
        optimizer: an optax optimiser; make it once.
        steps: how many steps are taken.
        start: the mask that training starts with, inside the source; leaves that are never pruned are as in the source.
            A random one is ``prune.one_shot(scores.random, None, None, params, None, counts, mask=mask, key=key)``.
        every: how many steps lie between two changes of the mask.
        until: the step from which the mask stays; None for three quarters of the steps, rounded down.
        fraction: of a layer's weights, how many are replaced at first, in [0, 1].
        mask: the source, whose support may be used; None for all weights.
        key: for the batches, which are those of :func:`sketchprune.train.fit` with this key.
        batch_size: how many samples a step sees; None for all.
        prunable: which leaves may be rewired, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The ticket.

    Raises:
        ValueError: as :func:`sketchprune.train.fit`; for ``every``, ``until`` and ``fraction`` out of range; and for a
            ``start`` that is not shaped like the parameters or keeps something outside the source. Where these are
            traced, what lies outside is left out.

    Cost: one gradient for each step, two selections for each change of the mask.
    Source: evci2020rigl, lottery/sparse-to-sparse-rigl.

    >>> data = (jnp.eye(3), jnp.array([1.0, 2.0, 4.0]))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> options = {"start": jnp.array([True, False, False]), "every": 1, "until": 3, "fraction": 1.0}
    >>> ticket = rigl(lambda w, x: x @ w, loss, jnp.zeros(3), data, optax.sgd(0.5), 4, **options)
    >>> ticket.params.tolist(), ticket.mask.tolist()
    ([0.0, 0.0, 2.0], [False, False, True])
    """
    recipe = Recipe.of(apply, loss, optimizer, batch_size)
    rewiring = {"every": every, "until": until, "fraction": fraction, "by_gradient": True}
    return _train(recipe, params, data, steps, key, start=start, mask=mask, prunable=prunable, **rewiring)


@checked
def sparse_evolutionary(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    start: Mask,
    every: int,
    until: int | None = None,
    fraction: int | float = 0.3,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    prunable: Prunable = None,
) -> Ticket:
    """SET, sparse evolutionary training: drops the weights of the smallest |w|, and grows others at random.

    As :func:`rigl`, with two differences: the number n_l = fraction·k_l does not decay, and what grows is uniformly
    random among the weights of the source that are not in use.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start.
        data: inputs and targets.
        optimizer: an optax optimiser; make it once.
        steps: how many steps are taken.
        start: the mask that training starts with, inside the source.
        every: how many steps lie between two changes of the mask.
        until: the step from which the mask stays; None for three quarters of the steps, rounded down.
        fraction: of a layer's weights, how many are replaced, in [0, 1].
        mask: the source, whose support may be used; None for all weights.
        key: for what grows, and for the batches, which are those of :func:`sketchprune.train.fit` with this key.
        batch_size: how many samples a step sees; None for all.
        prunable: which leaves may be rewired, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The ticket.

    Raises:
        ValueError: as :func:`rigl`, and without a key.

    Cost: as :func:`rigl`.
    Source: mocanu2018set.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> options = {"start": jnp.array([True, False]), "every": 1, "fraction": 0.5, "key": jax.random.key(0)}
    >>> ticket = sparse_evolutionary(lambda w, x: x @ w, loss, jnp.zeros(2), data, optax.sgd(0.5), 8, **options)
    >>> int(ticket.mask.sum())
    1
    """
    _checks.needed(key, "since what grows is drawn")
    recipe = Recipe.of(apply, loss, optimizer, batch_size)
    rewiring = {"every": every, "until": until, "fraction": fraction, "by_gradient": False}
    return _train(recipe, params, data, steps, key, start=start, mask=mask, prunable=prunable, **rewiring)


def _train(
    recipe: Recipe,
    params: Params,
    data: Batch,
    steps: int,
    key: Key | None,
    *,
    start: Mask,
    mask: Mask | None,
    prunable: Prunable,
    **rewiring: Any,
) -> Ticket:
    """Training with a mask that changes, after all arguments have been checked."""
    check_batches(params, data, steps, key, recipe.batch_size)
    check_inside(params, start, mask)
    return _rewired(
        params,
        data,
        start,
        mask,
        key,
        recipe=recipe,
        steps=steps,
        rewiring=_rewiring(steps, **rewiring),
        chosen=chosen_leaves(params, prunable),
    )


def _rewiring(steps: int, *, every: int, until: int | None, fraction: int | float, by_gradient: bool) -> _Rewiring:
    """When the mask changes, and how; refuses numbers out of range."""
    _checks.whole("every", every, least=1)
    until = 3 * steps // 4 if until is None else until
    _checks.whole("until", until, least=0)
    if until > steps:
        raise ValueError(f"until is {until}; it takes a whole number from 0 to {steps}, the number of steps")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it takes a number in [0, 1]")
    return _Rewiring(every, until, float(fraction), by_gradient)


@functools.partial(jax.jit, static_argnames=("recipe", "steps", "rewiring", "chosen"))
@on_floating_leaves
def _rewired(
    params, data, start, mask, key, *, recipe: Recipe, steps: int, rewiring: _Rewiring, chosen: Chosen
) -> Ticket:
    source = support(params, mask)
    first = jax.tree.map(
        lambda pruned, kept, usable: kept & usable if pruned else usable,
        jax.tree.structure(params).unflatten(chosen),
        support(params, start),
        source,
    )
    training = Training(recipe, data, key)

    def step(carry: tuple[State, Mask], number: Array) -> tuple[tuple[State, Mask], Array]:
        state, kept = carry
        slope = training.slope(state, number)

        def rewire() -> tuple[State, Mask]:
            """Other weights of the same number in each layer; what is dropped may grow again."""
            values = sizes(slope.gradient) if rewiring.by_gradient else _noise(key, number, kept)
            replaced = rewiring.counts(number, kept)
            left = jax.tree.map(lambda leaf, n: _count(leaf) - n, kept, replaced)
            stays = largest(sizes(state.params), left, kept, chosen)
            free = jax.tree.map(lambda source, stays: source & ~stays, source, stays)
            found = jax.tree.map(jnp.logical_or, stays, largest(values, replaced, free, chosen))
            # What is new is 0 already, since it was outside the mask.
            changed = training.restricted(state, jax.tree.map(jnp.logical_and, found, kept))
            return changed._replace(order=slope.order, network=slope.network), found

        return lax.cond(rewiring.due(number), rewire, lambda: (training.descend(state, slope, kept), kept)), slope.value

    (end, kept), losses = lax.scan(step, (training.start(params, first), first), jnp.arange(steps))
    return Ticket(end.params, kept, losses)


def _count(kept: Array) -> Int[Array, ""]:
    """How many weights of a leaf are in use."""
    return count_true(kept)[0]


def _noise(key: Key, step: Array, kept: Mask) -> Params:
    """Uniform numbers for each weight, which differ from step to step."""
    # Epochs draw with the key folded with their numbers, which are far below this one.
    key = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), step)
    leaves, structure = jax.tree.flatten(kept)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.uniform(key, leaf.shape, jnp.float32) for key, leaf in zip(keys, leaves, strict=True)]
    )
