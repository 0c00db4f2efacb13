"""Training by gradient descent of any kind, of the kept weights only.

Works under jit and under vmap over masks, keys, parameters and data. What is pruned stays exactly zero: the
start, each gradient and each updated point are restricted to the support of the mask (its non-zero entries),
so momentum, weight decay and noise cannot revive a weight. The weights of a sketch are the caller's: start
from masks.apply(params, mask).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune import _checks, masks
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params


def fit(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
) -> tuple[Params, Float[Array, "steps"]]:
    """``steps`` steps of an optax optimiser on ``loss(apply(params, x), y)``: the parameters and the losses.

    ``losses[t]`` is the loss before step t, on the batch of that step. The batch is all the data, or with
    ``batch_size`` the next slice of a permutation drawn from ``key`` anew for each epoch; an epoch has
    ⌊n/batch_size⌋ batches, so it leaves n mod batch_size samples out, others each time. Compiled once for
    each apply, loss, optimizer and shape. ValueError for x and y of different length, a batch size outside
    1..n or without a key, and a mask not shaped like the parameters. O(steps) gradients; one copy of the
    state.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> mask = jnp.array([True, False])
    >>> fit(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=mask)
    (Array([0.75, 0.  ], dtype=float64), Array([1.   , 0.625], dtype=float64))
    """
    _checks.whole("steps", steps, least=0)
    samples = _samples(data)
    if batch_size is not None:
        if not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size is {batch_size}; it takes 1 to {samples}, the number of samples")
        if key is None:
            raise ValueError("key is None; it takes a key, since batch_size asks for random batches")
    return _fit(apply, loss, params, data, optimizer, steps, mask, key, batch_size)


def converge(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    max_steps: int | Int[Array, ""],
    *,
    mask: Mask | None = None,
    tolerance: float | Float[Array, ""] | None = None,
) -> tuple[Params, Int[Array, ""], Float[Array, ""]]:
    """Full-batch training until the gradient vanishes: the parameters, the steps taken, the gradient's norm.

    Stops at the first point with ‖g‖ ≤ ``tolerance``·‖g at the start‖ (by default 100 eps of the parameters'
    dtype, about the rounding level of a well-conditioned gradient) or after ``max_steps``. The gradient is
    that of the kept weights. Under vmap each instance stops by itself and stays where it is. A NaN stops at
    once and shows in the norm. Raises as :func:`fit` does. O(steps) gradients.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> converge(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 100, tolerance=0.2)
    (Array([0.875, 0.875], dtype=float64), Array(3, dtype=int32), Array(0.1767767, dtype=float64))
    """
    _checks.whole("max_steps", max_steps, least=0)
    _samples(data)
    if tolerance is None:
        tolerance = 100 * float(jnp.finfo(jnp.result_type(*jax.tree.leaves(params))).eps)
    return _converge(apply, loss, params, data, optimizer, max_steps, mask, tolerance)


def _samples(data: Batch) -> int:
    x, y = data
    if len(x) != len(y) or not len(x):
        raise ValueError(
            f"data has {len(x)} inputs and {len(y)} targets; it takes as many of each, at least one"
        )
    return len(x)


@functools.partial(jax.jit, static_argnames=("apply", "loss", "optimizer", "steps", "batch_size"))
def _fit(apply, loss, params, data, optimizer, steps, mask, key, batch_size):
    restrict = _restriction(mask)
    optimizer = optax.with_extra_args_support(optimizer)
    samples = len(data[0])
    per_epoch = 1 if batch_size is None else samples // batch_size

    def batch(step, order):
        if batch_size is None:
            return data, order
        epoch, position = step // per_epoch, step % per_epoch

        def reshuffled():
            return jax.random.permutation(jax.random.fold_in(key, epoch), samples)

        order = lax.cond(position == 0, reshuffled, lambda: order)
        chosen = lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        return jax.tree.map(lambda values: values[chosen], data), order

    def advance(carry, step):
        params, state, order = carry
        now, order = batch(step, order)
        objective = functools.partial(_objective, apply, loss, now)
        value, gradient = jax.value_and_grad(objective)(params)
        params, state = _step(optimizer, restrict, objective, params, state, value, restrict(gradient))
        return (params, state, order), value

    params = restrict(params)
    start = (params, optimizer.init(params), jnp.arange(samples))
    (params, *_), losses = lax.scan(advance, start, jnp.arange(steps))
    return params, losses


@functools.partial(jax.jit, static_argnames=("apply", "loss", "optimizer"))
def _converge(apply, loss, params, data, optimizer, max_steps, mask, tolerance):
    restrict = _restriction(mask)
    optimizer = optax.with_extra_args_support(optimizer)
    objective = functools.partial(_objective, apply, loss, data)

    def slope(params):
        value, gradient = jax.value_and_grad(objective)(params)
        gradient = restrict(gradient)
        return value, gradient, optax.tree.norm(gradient)

    def unfinished(carry):
        *_, norm, steps = carry
        return (norm > enough) & (steps < max_steps)

    def advance(carry):
        params, state, value, gradient, _, steps = carry
        params, state = _step(optimizer, restrict, objective, params, state, value, gradient)
        return params, state, *slope(params), steps + 1

    params = restrict(params)
    value, gradient, norm = slope(params)
    enough = tolerance * norm
    start = (params, optimizer.init(params), value, gradient, norm, jnp.int32(0))
    params, *_, norm, steps = lax.while_loop(unfinished, advance, start)
    return params, steps, norm


def _objective(apply: ApplyFn, loss: LossFn, data: Batch, params: Params) -> Float[Array, ""]:
    x, y = data
    return loss(apply(params, x), y)


def _step(optimizer, restrict, objective, params, state, value, gradient) -> tuple[Params, Any]:
    """One update. Line searches and L-BFGS ask for the value and for the objective; others ignore them."""
    updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=objective)
    return restrict(optax.apply_updates(params, updates)), state


def _restriction(mask: Mask | None) -> Callable[[Params], Params]:
    """The projection on the support of a mask."""
    if mask is None:
        return lambda tree: tree
    support = jax.tree.map(lambda leaf: leaf != 0, mask)
    return lambda tree: masks.apply(tree, support)
