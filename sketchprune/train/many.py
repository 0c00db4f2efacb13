"""Many models trained at once: a stack of masks, initial weights and keys, in tiles that fit a core's cache."""

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
from jaxtyping import Array, Float

from sketchprune._static import static
from sketchprune.train import _steps
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
    """:func:`sketchprune.train.fit` for a stack of masks, initial weights and keys, and what is measured on the way.

    ``params`` or ``mask``, or both, have a first axis over the models, and what has none is one for all. Without a
    mask ``params`` is the stack, so that a bare vector is one of models with one weight each. With one, a mask leaf
    with one axis more than the weights is a stack on shared weights, with one less it is shared, and as many axes mean
    that both are stacked. ``key`` is one for all, or one for each model; one start and mask under many keys takes a
    stack of that mask. Grids (seeds x densities) are flattened by the caller. Models with the same key see the same
    batches. ``evaluate(params)`` is taken after each of the ``checkpoints``, ascending numbers of steps, 0 for the
    start, of one model of a tile after another.

    Models run in tiles under one vmapped program, as many at once as take ``memory`` bytes of weights, optimiser
    state and saved activations. On a CPU a thread for each core runs its own tiles; ``memory`` is what all of them
    take together, and by default 1 MiB each, since what leaves a core's cache is slower. On an accelerator the
    default is 1 GiB. A tile has at least one model, and each thread's evaluation of a single one comes on top.
    Results do not depend on it but for rounding. A host function: in a program, vmap :func:`sketchprune.train.fit`.
    ValueError as there, and for stacks of different length and checkpoints that do not ascend within 0..steps. One
    set of gradients a model and step. Compiled once for each apply, loss, optimizer, evaluate and shape: make the
    optimizer once.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> stack = jnp.array([[True, False], [True, True]])
    >>> fits = fit_many(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=stack)
    >>> fits.params
    Array([[0.75, 0.  ],
           [0.75, 0.75]], dtype=float64)
    """
    _steps.check_batches(data, steps, key, batch_size)
    steps_at = [int(step) for step in checkpoints]
    if sorted(set(steps_at)) != steps_at or not all(0 <= step <= steps for step in steps_at):
        raise ValueError(f"checkpoints is {checkpoints}; it takes ascending numbers of steps from 0 to {steps}")
    if (evaluate is None) != (not steps_at):
        raise ValueError(f"checkpoints is {checkpoints} and evaluate is {evaluate}; it takes both or neither")
    stacked, models = _stacks(params, mask, key)
    apply, loss, evaluate = map(static, (apply, loss, evaluate))
    key = None if batch_size is None else key
    run = functools.partial(_fit_tile, apply, loss, data, optimizer, steps, batch_size, evaluate, tuple(steps_at))

    def picked(chosen: Any) -> list[Any]:
        """Parameters and masks of the models chosen."""
        return [
            jax.tree.map(lambda leaf: leaf[chosen], tree) if stack else tree
            for tree, stack in zip((params, mask), stacked, strict=True)
        ]

    tile, workers = _tiling(models, _bytes(apply, loss, optimizer, data, batch_size, *picked(0)), memory)

    def train(start: int) -> Fits:
        # The last tile is filled up with its last model, so that all tiles share one program.
        chosen = np.minimum(np.arange(start, start + tile), models - 1)
        keys = key if key is None or not key.ndim else key[chosen]
        return jax.block_until_ready(run(*picked(chosen), keys, stacked))

    with ThreadPoolExecutor(workers) as threads:
        tiles = list(threads.map(train, range(0, models, tile)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:models], *tiles)


@functools.partial(jax.jit, static_argnums=(0, 1, 3, 4, 5, 6, 7, 11))
def _fit_tile(
    apply, loss, data, optimizer, steps, batch_size, evaluate, checkpoints, params, mask, key, stacked
) -> Fits:
    def model(params, mask, key):
        shuffled = None if key is None else _steps.shuffle(key, len(data[0]))
        start, advance = _steps.training(apply, loss, params, data, optimizer, mask, batch_size, shuffled)

        def step(carry):
            now, inner, losses = carry
            inner, value = advance(inner, now)
            return now + 1, inner, losses.at[now].set(value)

        def run_until(stop, carry):
            return lax.while_loop(lambda carry: carry[0] < stop, step, carry)

        value = jax.eval_shape(lambda: advance(start, 0)[1])
        # One entry at least: without any there is no index.
        carry = jnp.int32(0), start, jnp.zeros(max(steps, 1), value.dtype)
        curve = None
        if evaluate is not None:
            # Under vmap one after another: an evaluation may take many more samples than a batch.
            measured = jax.custom_batching.sequential_vmap(evaluate)

            def onward(carry, stop):
                carry = run_until(stop, carry)
                return carry, measured(carry[1][0])

            carry, curve = lax.scan(onward, carry, jnp.array(checkpoints, jnp.int32))
        _, (params, *_), losses = run_until(steps, carry)
        return Fits(params, losses[:steps], curve)

    axes = [0 if stack else None for stack in stacked]
    return jax.vmap(model, (*axes, 0 if key is not None and key.ndim else None))(params, mask, key)


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
        raise ValueError(
            f"the first axes have the lengths {lengths}; it takes one number of models, and a stack of params or mask"
        )
    models = next(iter(lengths.values()))
    if not models:
        raise ValueError("params and mask are stacks of no models; it takes at least one")
    return stacked, models


def _tiling(models: int, each: int, memory: int | None) -> tuple[int, int]:
    """How many models of so many bytes each a tile has, and how many threads run tiles at once."""
    on_cpu = jax.default_backend() == "cpu"
    threads = (os.cpu_count() or 1) if on_cpu else 1
    if memory is None:
        memory = threads * max(each, 2**20 if on_cpu else 2**30)
    threads = max(1, min(threads, memory // each))
    most = max(1, min(models, memory // threads // each))
    tiles = -(-models // most)
    return -(-models // tiles), threads  # all tiles alike, so that the last has few models to fill up


def _bytes(apply, loss, optimizer, data: Batch, batch_size: int | None, params: Params, mask: Mask | None) -> int:
    """What training holds of one model at a time, by shapes alone."""

    def held(params, mask, batch):
        value, pullback = jax.vjp(functools.partial(_steps.loss_on, apply, loss, batch), params)
        return params, params, optimizer.init(params), mask, value, pullback

    batch = jax.tree.map(lambda values: values[: batch_size or len(values)], data)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(held, params, mask, batch)))
