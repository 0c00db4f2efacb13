"""One step of training, restricted to the kept weights: what training one model, many and to convergence share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float
from jaxtyping import Key as KeyArray

from sketchprune import _checks, masks
from sketchprune.types import Batch, Key, Mask, Params

Keys = KeyArray[Array, "..."]
"""One key, or one for each model."""
Loss = Callable[[Params], Float[Array, ""]]
"""The loss on some data, as a function of the parameters."""


class Recipe(NamedTuple):
    """How a model is trained, as a static argument of compiled programs.

    Attributes:
        apply: the network.
        loss: ``loss(outputs, targets)``.
        optimizer: an optax optimiser.
        batch_size: how many samples a step sees; None for all.
    """

    apply: Any
    loss: Any
    optimizer: Any
    batch_size: int | None = None

    def loss_on(self, data: Batch) -> Loss:
        """The loss on some data, as a function of the parameters."""
        return functools.partial(_loss_on, self.apply, self.loss, data)

    def update(
        self,
        restrict: Callable[[Params], Params],
        loss: Loss,
        params: Params,
        state: Any,
        value: Array,
        gradient: Params,
    ) -> tuple[Params, Any]:
        """One update; line searches and L-BFGS ask for the value and for the loss, others ignore them."""
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        return restrict(optax.apply_updates(params, updates)), state


class State(NamedTuple):
    """The state of training between two steps.

    Attributes:
        params: the parameters.
        optimizer: the state of the optimiser.
        order: the order of the samples in this epoch.
    """

    params: Params
    optimizer: Any
    order: Array


Step = Callable[[State, Array], tuple[State, Float[Array, ""]]]
"""From the state before a step and its number to the state after it and the loss before it."""


def training(recipe: Recipe, params: Params, data: Batch, mask: Mask | None, key: Key | None) -> tuple[State, Step]:
    """The state before the first step, and the step."""
    restrict = restriction(mask)
    samples = len(data[0])

    def batch(step: Array, order: Array) -> tuple[Batch, Array]:
        """The batch of a step, and the order of the samples, drawn anew at the start of an epoch."""
        if recipe.batch_size is None:
            return data, order
        per_epoch = samples // recipe.batch_size
        epoch, position = step // per_epoch, step % per_epoch
        order = lax.cond(position == 0, lambda epoch: _permutation(key, epoch, samples), lambda _: order, epoch)
        chosen = lax.dynamic_slice_in_dim(order, position * recipe.batch_size, recipe.batch_size)
        return jax.tree.map(lambda values: values[chosen], data), order

    def advance(state: State, step: Array) -> tuple[State, Array]:
        now, order = batch(step, state.order)
        loss = recipe.loss_on(now)
        value, gradient = jax.value_and_grad(loss)(state.params)
        params, inner = recipe.update(restrict, loss, state.params, state.optimizer, value, restrict(gradient))
        return State(params, inner, order), value

    params = restrict(params)
    start = State(params, optax.with_extra_args_support(recipe.optimizer).init(params), jnp.arange(samples))
    return start, advance


def restriction(mask: Mask | None) -> Callable[[Params], Params]:
    """The projection on the support of a mask."""
    if mask is None:
        return lambda tree: tree
    support = jax.tree.map(lambda leaf: leaf != 0, mask)
    return lambda tree: masks.apply(tree, support)


def check_data(data: Batch) -> int:
    """The number of samples; refuses inputs and targets of different length."""
    x, y = data
    if len(x) != len(y) or not len(x):
        raise ValueError(f"data has {len(x)} inputs and {len(y)} targets; it takes as many of each, at least one")
    return len(x)


def check_batches(data: Batch, steps: int, key: Keys | None, batch_size: int | None) -> None:
    """Refuses data, steps and batch sizes that do not go together."""
    _checks.whole("steps", steps, least=0)
    samples = check_data(data)
    if batch_size is not None:
        if not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size is {batch_size}; it takes 1 to {samples}, the number of samples")
        _checks.needed(key, "since batch_size asks for random batches")


def _loss_on(apply: Any, loss: Any, data: Batch, params: Params) -> Float[Array, ""]:
    x, y = data
    return loss(apply(params, x), y)


def _permutation(key: Any, epoch: Array, samples: int) -> Array:
    """The order of the samples in an epoch."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), samples)
