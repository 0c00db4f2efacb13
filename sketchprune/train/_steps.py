"""A step of training, restricted to the kept weights: what training one model, many and to convergence share."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from sketchprune import _checks, masks
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params


def check_batches(data: Batch, steps: int, key: Key | None, batch_size: int | None) -> None:
    _checks.whole("steps", steps, least=0)
    samples = check_data(data)
    if batch_size is not None:
        if not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size is {batch_size}; it takes 1 to {samples}, the number of samples")
        _checks.needed(key, "since batch_size asks for random batches")


def check_data(data: Batch) -> int:
    x, y = data
    if len(x) != len(y) or not len(x):
        raise ValueError(f"data has {len(x)} inputs and {len(y)} targets; it takes as many of each, at least one")
    return len(x)


def training(apply, loss, params, data, optimizer, mask, batch_size, shuffled):
    """The state before the first step, and the step: (state, number of the step) -> (state, loss before it).

    ``shuffled(epoch)`` is the order of the samples in that epoch.
    """
    restrict = restriction(mask)
    optimizer = optax.with_extra_args_support(optimizer)
    samples = len(data[0])
    per_epoch = 1 if batch_size is None else samples // batch_size

    def batch(step, order):
        if batch_size is None:
            return data, order
        epoch, position = step // per_epoch, step % per_epoch
        order = lax.cond(position == 0, shuffled, lambda _: order, epoch)
        chosen = lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        return jax.tree.map(lambda values: values[chosen], data), order

    def advance(carry, step):
        params, state, order = carry
        now, order = batch(step, order)
        objective = functools.partial(loss_on, apply, loss, now)
        value, gradient = jax.value_and_grad(objective)(params)
        params, state = update(optimizer, restrict, objective, params, state, value, restrict(gradient))
        return (params, state, order), value

    params = restrict(params)
    return (params, optimizer.init(params), jnp.arange(samples)), advance


def shuffle(key: Any, samples: int) -> Callable[[Array], Array]:
    def shuffled(epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, epoch), samples)

    return shuffled


def loss_on(apply: ApplyFn, loss: LossFn, data: Batch, params: Params) -> Float[Array, ""]:
    x, y = data
    return loss(apply(params, x), y)


def update(optimizer, restrict, objective, params, state, value, gradient) -> tuple[Params, Any]:
    """One update. Line searches and L-BFGS ask for the value and for the objective; others ignore them."""
    updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=objective)
    return restrict(optax.apply_updates(params, updates)), state


def restriction(mask: Mask | None) -> Callable[[Params], Params]:
    """The projection on the support of a mask."""
    if mask is None:
        return lambda tree: tree
    support = jax.tree.map(lambda leaf: leaf != 0, mask)
    return lambda tree: masks.apply(tree, support)
