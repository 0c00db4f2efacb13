"""Training by gradient descent of any kind, of the kept weights only.

Works under jit and under vmap over masks, keys, parameters and data. What is pruned stays exactly zero: the
start, each gradient and each updated point are restricted to the support of the mask (its non-zero entries),
so momentum, weight decay and noise cannot revive a weight. The weights of a sketch are the caller's: start
from masks.apply(params, mask).
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune import _checks, masks
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params

Evaluation = Any
"""A pytree of arrays: what is measured of a model on the way."""


class Fits(NamedTuple):
    """Trained models, the first axis over the models."""

    params: Params
    losses: Float[Array, "models steps"]
    """Before each step, on the batch of that step."""
    curve: Evaluation
    """What ``evaluate`` returned, [models, checkpoints, ...]; None without it."""


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
    _check_batches(data, steps, key, batch_size)
    return _fit(apply, loss, params, data, optimizer, steps, mask, key, batch_size)


def fit_many(
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
    evaluate: Callable[[Params], Evaluation] | None = None,
    checkpoints: Sequence[int] = (),
    memory: int | None = None,
) -> Fits:
    """:func:`fit` for a stack of masks, initial weights and keys, and what is measured on the way.

    ``params``, ``mask`` and ``key`` have a first axis over the models, or are one for all: a mask leaf with one
    axis more than the weights is a stack on shared weights, and as many axes mean that both are stacked. Grids
    (seeds x densities) are flattened by the caller. Models with the same key see the same batches.
    ``evaluate(params)`` is taken after each of the ``checkpoints``, ascending numbers of steps, 0 for the start.

    Models run in tiles under one vmapped program, as many at once as take ``memory`` bytes of weights, optimiser
    state and saved activations: by default 1 MiB on a CPU, where what leaves a core's cache is slower, and a
    thread for each core runs its own tiles; 1 GiB on an accelerator. Results do not depend on it but for
    rounding. A host function: in a program, vmap :func:`fit`. ValueError as :func:`fit`, and for stacks of
    different length and checkpoints that do not ascend within 0..steps. One set of gradients a model and step,
    and the table of batches, 4 bytes a sample and epoch for each different key.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> stack = jnp.array([[True, False], [True, True]])
    >>> fits = fit_many(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=stack)
    >>> fits.params
    Array([[0.75, 0.  ],
           [0.75, 0.75]], dtype=float64)
    """
    samples = _check_batches(data, steps, key, batch_size)
    steps_at = [int(step) for step in checkpoints]
    if sorted(set(steps_at)) != steps_at or not all(0 <= step <= steps for step in steps_at):
        raise ValueError(f"checkpoints is {checkpoints}; it takes ascending numbers of steps from 0 to {steps}")
    if (evaluate is None) != (not steps_at):
        raise ValueError(f"checkpoints is {checkpoints} and evaluate is {evaluate}; it takes both or neither")
    stacked, models = _stacks(params, mask, key)
    orders, rows = None, np.zeros(models, int)
    if batch_size is not None and key is not None:
        orders, which = _orders(key, samples, -(-steps // (samples // batch_size)))
        rows += which
    run = functools.partial(_fit_tile, apply, loss, data, optimizer, steps, batch_size, evaluate, tuple(steps_at))

    def picked(chosen: Any) -> list[Any]:
        """Parameters and masks of the models chosen."""
        return [
            jax.tree.map(lambda leaf: leaf[chosen], tree) if stack else tree
            for tree, stack in zip((params, mask), stacked, strict=True)
        ]

    on_cpu = jax.default_backend() == "cpu"
    if memory is None:
        memory = 2**20 if on_cpu else 2**30
    each = _bytes(apply, loss, optimizer, data, batch_size, *picked(0))
    tile = max(1, min(models, memory // each))

    def train(start: int) -> Fits:
        # The last tile is filled up with its last model, so that all tiles share one program.
        chosen = np.minimum(np.arange(start, start + tile), models - 1)
        order = None if orders is None else orders[rows[chosen]]
        return jax.block_until_ready(run(*picked(chosen), order, stacked))

    with ThreadPoolExecutor((os.cpu_count() or 1) if on_cpu else 1) as threads:
        tiles = list(threads.map(train, range(0, models, tile)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:models], *tiles)


def converge(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    max_steps: int | Int[Array, ""],
    *,
    mask: Mask | None = None,
    tolerance: int | float | Float[Array, ""] | None = None,
) -> tuple[Params, Int[Array, ""], Float[Array, ""]]:
    """Full-batch training until the gradient vanishes: the parameters, the steps taken, the gradient's norm.

    Stops at the first point with ‖g‖ ≤ ``tolerance`` (by default 100 eps of the parameters' dtype times ‖g‖ at
    the start, about the rounding level of a well-conditioned gradient) or after ``max_steps``. The gradient is
    that of the kept weights. Under vmap each instance stops by itself and stays where it is. A NaN stops at
    once and shows in the norm. Raises as :func:`fit` does. O(steps) gradients.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> converge(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 100, tolerance=0.2)
    (Array([0.875, 0.875], dtype=float64), Array(3, dtype=int32), Array(0.1767767, dtype=float64))
    """
    _checks.whole("max_steps", max_steps, least=0)
    _samples(data)
    return _converge(apply, loss, params, data, optimizer, max_steps, mask, tolerance)


def _check_batches(data: Batch, steps: int, key: Key | None, batch_size: int | None) -> int:
    """The number of samples, when steps, key and batch size suit them."""
    _checks.whole("steps", steps, least=0)
    samples = _samples(data)
    if batch_size is not None:
        if not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size is {batch_size}; it takes 1 to {samples}, the number of samples")
        if key is None:
            raise ValueError("key is None; it takes a key, since batch_size asks for random batches")
    return samples


def _samples(data: Batch) -> int:
    x, y = data
    if len(x) != len(y) or not len(x):
        raise ValueError(f"data has {len(x)} inputs and {len(y)} targets; it takes as many of each, at least one")
    return len(x)


@functools.partial(jax.jit, static_argnames=("apply", "loss", "optimizer", "steps", "batch_size"))
def _fit(apply, loss, params, data, optimizer, steps, mask, key, batch_size):
    start, advance = _training(apply, loss, params, data, optimizer, mask, batch_size, _shuffle(key, len(data[0])))
    (params, *_), losses = lax.scan(advance, start, jnp.arange(steps))
    return params, losses


@functools.partial(jax.jit, static_argnums=(0, 1, 3, 4, 5, 6, 7, 11))
def _fit_tile(
    apply, loss, data, optimizer, steps, batch_size, evaluate, checkpoints, params, mask, orders, stacked
) -> Fits:
    def model(params, mask, orders):
        shuffled = None if orders is None else (lambda epoch: orders[epoch])
        start, advance = _training(apply, loss, params, data, optimizer, mask, batch_size, shuffled)
        if evaluate is None:
            (params, *_), losses = lax.scan(advance, start, jnp.arange(steps))
            return Fits(params, losses, None)

        def onward(carry, stop):
            """To the next checkpoint."""

            def step(carry):
                now, inner, losses = carry
                inner, value = advance(inner, now)
                return now + 1, inner, losses.at[now].set(value)

            carry = lax.while_loop(lambda carry: carry[0] < stop, step, carry)
            return carry, evaluate(carry[1][0])

        value = jax.eval_shape(lambda: advance(start, 0)[1])
        carry = jnp.int32(0), start, jnp.zeros(steps, value.dtype)
        carry, curve = lax.scan(onward, carry, jnp.array(checkpoints, jnp.int32))
        # What is left after the last checkpoint.
        (_, (params, *_), losses), _ = lax.scan(onward, carry, jnp.array([steps], jnp.int32))
        return Fits(params, losses, curve)

    axes = [0 if stack else None for stack in stacked]
    return jax.vmap(model, (*axes, None if orders is None else 0))(params, mask, orders)


def _training(apply, loss, params, data, optimizer, mask, batch_size, shuffled):
    """The state before the first step, and the step: (state, number of the step) -> (state, loss before it).

    ``shuffled(epoch)`` is the order of the samples in that epoch.
    """
    restrict = _restriction(mask)
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
        objective = functools.partial(_objective, apply, loss, now)
        value, gradient = jax.value_and_grad(objective)(params)
        params, state = _step(optimizer, restrict, objective, params, state, value, restrict(gradient))
        return (params, state, order), value

    params = restrict(params)
    return (params, optimizer.init(params), jnp.arange(samples)), advance


def _shuffle(key: Any, samples: int) -> Callable[[Array], Array]:
    def shuffled(epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, epoch), samples)

    return shuffled


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
    enough = 100 * jnp.finfo(norm.dtype).eps * norm if tolerance is None else tolerance
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


def _stacks(params: Params, mask: Mask | None, key: Key | None) -> tuple[tuple[bool, bool], int]:
    """Whether params and mask are stacks, and of how many models."""
    stacked = (True, False)
    if mask is not None:
        ranks = [jnp.ndim(jax.tree.leaves(tree)[0]) for tree in (params, mask)]
        if abs(ranks[0] - ranks[1]) > 1:
            raise ValueError(f"mask has {ranks[1]} axes where params has {ranks[0]}; it takes as many, or one more")
        stacked = (ranks[0] >= ranks[1], ranks[1] >= ranks[0])
    several = (*stacked, key is not None and key.ndim > 0)
    lengths = {
        name + jax.tree_util.keystr(path): len(leaf)
        for name, tree, stack in zip(("params", "mask", "key"), (params, mask, key), several, strict=True)
        if stack
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the first axes have the lengths {lengths}; it takes one number of models")
    models = next(iter(lengths.values()))
    if not models:
        raise ValueError("params and mask are stacks of no models; it takes at least one")
    return stacked, models


@functools.partial(jax.jit, static_argnums=(1, 2))
def _tables(keys: Key, samples: int, epochs: int) -> Int[Array, "keys epochs samples"]:
    return jax.vmap(lambda key: jax.vmap(_shuffle(key, samples))(jnp.arange(epochs)))(keys)


def _orders(keys: Key, samples: int, epochs: int) -> tuple[Int[Array, "keys epochs samples"], np.ndarray]:
    """The order of the samples in each epoch, for each different key, and which key each model has."""
    data = np.asarray(jax.random.key_data(keys)).reshape(-1, *jax.random.key_data(keys).shape[keys.ndim :])
    _, first, rows = np.unique(data, axis=0, return_index=True, return_inverse=True)
    return _tables(keys.reshape(-1)[first], samples, epochs), rows.reshape(-1)


def _bytes(apply, loss, optimizer, data: Batch, batch_size: int | None, params: Params, mask: Mask | None) -> int:
    """What training holds of one model at a time, by shapes alone."""

    def held(params, mask, batch):
        value, pullback = jax.vjp(functools.partial(_objective, apply, loss, batch), params)
        return params, params, optimizer.init(params), mask, value, pullback

    batch = jax.tree.map(lambda values: values[: batch_size or len(values)], data)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(held, params, mask, batch)))
