"""Pruning by magnitude between, or during, training: the smallest weights go, and training goes on without them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.laws.counts import Keeps, check_rounds
from sketchprune.train._sources import (
    Chosen,
    Keep,
    available,
    chosen_leaves,
    largest,
    on_floating_leaves,
    sizes,
    support,
)
from sketchprune.train._steps import Recipe, State, Training, check_batches
from sketchprune.train.tickets import Ticket
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, Prunable


@checked
def iterative_magnitude(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    keeps: Keeps,
    rewind: int | None = 0,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    prunable: Prunable = None,
) -> Ticket:
    """Trains, keeps the ``keeps[r]`` weights of the largest |w|, and trains again from an earlier point, R times over.

    ``rewind=k`` goes back to the weights and the optimiser's state after step k of the first training, and the next
    training takes the remaining steps; k = 0 is the lottery ticket procedure. ``rewind=None`` continues from the
    weights as they are. In both cases the optimiser forgets what it knew of weights that are pruned.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start.
        data: inputs and targets.
        optimizer: an optax optimiser; make it once.
        steps: how many steps a training from the start takes.
        keeps: how many prunable weights are left after each of R rounds, in all or by leaf, such as
            ``prune.exponential_schedule``; may be traced.
        rewind: the step k that is rewound to, from 0 to ``steps``; None for no rewinding.
        mask: the source, whose support may be used; None for all weights.
        key: for the batches, which are those of :func:`sketchprune.train.fit` with this key.
        batch_size: how many samples a step sees; None for all.
        prunable: which leaves may be pruned, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The ticket after the last training, with k + (R + 1)(steps − k) losses; without rewinding k is 0 here. If a
        weight is ever NaN, so are the network and its losses from then on, whatever is rewound.

    Raises:
        ValueError: as :func:`sketchprune.train.fit`; for ``rewind`` out of range; and for counts that grow or start
            above what the source keeps. Where that is traced, all of it is kept.

    Cost: one gradient for each step, one selection for each round.
    Source: frankle2019lottery, lottery/sparse-to-sparse-imp.

    >>> data = (jnp.eye(3), jnp.array([1.0, 2.0, 4.0]))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> mask = jnp.array([True, True, False])
    >>> options = {"keeps": [1], "mask": mask}
    >>> ticket = iterative_magnitude(lambda w, x: x @ w, loss, jnp.zeros(3), data, optax.sgd(0.5), 1, **options)
    >>> ticket.params.tolist(), ticket.losses.tolist()
    ([0.0, 1.0, 0.0], [10.5, 10.5])
    """
    check_batches(params, data, steps, key, batch_size)
    if rewind is not None:
        _checks.whole("rewind", rewind, least=0)
        if rewind > steps:
            raise ValueError(
                f"rewind is {rewind}; it takes a whole number from 0 to {steps}, the number of steps, or None"
            )
    keeps = check_rounds(keeps, available(params, mask, prunable))
    recipe = Recipe.of(apply, loss, optimizer, batch_size)
    chosen = chosen_leaves(params, prunable)
    return _iterative(params, data, keeps, mask, key, recipe=recipe, steps=steps, rewind=rewind, chosen=chosen)


@checked
def gradual_magnitude(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    keeps: Keeps,
    every: int,
    begin: int = 0,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    prunable: Prunable = None,
) -> Ticket:
    """Trains, and every few steps keeps the weights of the largest |w|: ``keeps[r]`` after begin + (r + 1)·every steps.

    With ``prune.cubic_schedule`` this is the gradual pruning that ramps from the source to the last count between steps
    ``begin`` and begin + R·every. What is pruned stays pruned, and the optimiser forgets it.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start.
        data: inputs and targets.
        optimizer: an optax optimiser; make it once.
        steps: how many steps are taken, at least begin + R·every.
        keeps: how many prunable weights are left after each of R rounds, in all or by leaf; may be traced.
        every: how many steps lie between two rounds.
        begin: how many steps are taken before the ramp begins.
        mask: the source, whose support may be used; None for all weights.
        key: for the batches, which are those of :func:`sketchprune.train.fit` with this key.
        batch_size: how many samples a step sees; None for all.
        prunable: which leaves may be pruned, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The ticket.

    Raises:
        ValueError: as :func:`sketchprune.train.fit`; for rounds that do not fit into the steps; and for counts that
            grow or start above what the source keeps. Where that is traced, all of it is kept.

    Cost: one gradient for each step, one selection for each round.
    Source: zhu2018prune, lottery/sparse-to-sparse-gradual.

    >>> data = (jnp.eye(3), jnp.array([1.0, 2.0, 4.0]))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> options = {"keeps": [2, 1], "every": 1}
    >>> ticket = gradual_magnitude(lambda w, x: x @ w, loss, jnp.zeros(3), data, optax.sgd(0.5), 2, **options)
    >>> ticket.params.tolist(), ticket.losses.tolist()
    ([0.0, 0.0, 3.0], [10.5, 3.0])
    """
    check_batches(params, data, steps, key, batch_size)
    _checks.whole("every", every, least=1)
    _checks.whole("begin", begin, least=0)
    keeps = check_rounds(keeps, available(params, mask, prunable))
    rounds = len(jax.tree.leaves(keeps)[0])
    if begin + rounds * every > steps:
        raise ValueError(
            f"steps is {steps}; it takes at least {begin + rounds * every}, where the last round of keeps is"
        )
    recipe = Recipe.of(apply, loss, optimizer, batch_size)
    ramp = {"begin": begin, "every": every}
    chosen = chosen_leaves(params, prunable)
    return _gradual(params, data, keeps, mask, key, recipe=recipe, steps=steps, chosen=chosen, **ramp)


@functools.partial(jax.jit, static_argnames=("recipe", "steps", "rewind", "chosen"))
@on_floating_leaves
def _iterative(
    params, data, keeps, mask, key, *, recipe: Recipe, steps: int, rewind: int | None, chosen: Chosen
) -> Ticket:
    source = support(params, mask)
    training = Training(recipe, data, key)
    early = jnp.arange(rewind or 0)
    rest = jnp.arange(rewind or 0, steps)
    start, first_losses = lax.scan(functools.partial(training.advance, source), training.start(params, source), early)

    def train(number: Array, state: State, mask: Mask) -> tuple[State, Array]:
        """A training, of which the steps go on counting where nothing is rewound."""
        offset = number * steps if rewind is None else 0
        return lax.scan(functools.partial(training.advance, mask), state, offset + rest)

    def level(carry: tuple[State, Mask], number: Array) -> tuple[tuple[State, Mask], Array]:
        """A round of pruning, and the training after it. Before the first training nothing is pruned."""
        state, mask = carry
        smaller = functools.partial(largest, sizes(state.params), _at(keeps, number - 1), mask, chosen)
        mask = lax.cond(number == 0, lambda: mask, smaller)
        begin = state if rewind is None else start._replace(params=_nan_where_broken(start.params, state.params))
        state, losses = train(number, training.restricted(begin, mask), mask)
        return (state, mask), losses

    levels = jnp.arange(len(jax.tree.leaves(keeps)[0]) + 1)
    (end, left), losses = lax.scan(level, (start, source), levels)
    return Ticket(end.params, left, jnp.concatenate([first_losses, losses.ravel()]))


@functools.partial(jax.jit, static_argnames=("recipe", "steps", "begin", "every", "chosen"))
@on_floating_leaves
def _gradual(
    params, data, keeps, mask, key, *, recipe: Recipe, steps: int, begin: int, every: int, chosen: Chosen
) -> Ticket:
    source = support(params, mask)
    training = Training(recipe, data, key)
    rounds = len(jax.tree.leaves(keeps)[0])

    def prune(round: Array) -> Callable[[State, Mask], tuple[State, Mask]]:
        def pruned(state: State, mask: Mask) -> tuple[State, Mask]:
            mask = largest(sizes(state.params), _at(keeps, round), mask, chosen)
            return training.restricted(state, mask), mask

        return pruned

    def step(carry: tuple[State, Mask], number: Array) -> tuple[tuple[State, Mask], Array]:
        state, mask = carry
        state, value = training.advance(mask, state, number)
        round, rest = jnp.divmod(number + 1 - begin, every)
        due = (rest == 0) & (round >= 1) & (round <= rounds)
        return lax.cond(due, prune(round - 1), lambda *carry: carry, state, mask), value

    (end, left), losses = lax.scan(step, (training.start(params, source), source), jnp.arange(steps))
    return Ticket(end.params, left, losses)


def _at(keeps: Keeps, round: Array) -> Keep:
    """The counts of a round."""
    return jax.tree.map(lambda counts: counts[round], keeps)


def _nan_where_broken(params: Params, trained: Params) -> Params:
    """The parameters; NaN where a trained one is, for what is rewound must not hide that training failed."""
    broken = jnp.array([jnp.isnan(leaf).any() for leaf in jax.tree.leaves(trained)]).any()
    return jax.tree.map(lambda leaf: jnp.where(broken, jnp.nan, leaf), params)
