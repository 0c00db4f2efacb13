"""Training of many models at once: a stack of masks, initial weights and keys, in tiles that fit a core's cache."""

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from sketchprune._boundary import checked
from sketchprune._cores import CORES
from sketchprune._leaves import joined
from sketchprune._static import static
from sketchprune.train._steps import Keys, Recipe, Training, check_batches, floating
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, StatefulApplyFn

Evaluation = Any
"""A pytree of arrays: what is measured of a model during training."""


class Fits(NamedTuple):
    """Trained models, the first axis over the models.

    Attributes:
        params: the parameters.
        losses: [models, steps], before each step, on the batch of that step.
        curve: what ``evaluate`` returned, [models, checkpoints, ...]; None without it.
        network_state: of the networks after the last step; None where they have none.
    """

    params: Params
    losses: Float[Array, "models steps"]
    curve: Evaluation
    network_state: Any = None


class _Plan(NamedTuple):
    """What a tile does, as a static argument of its program."""

    recipe: Recipe
    steps: int
    evaluate: Any
    checkpoints: tuple[int, ...]
    stacked: tuple[bool, bool]
    """Whether the parameters and the mask are stacks."""


@checked
def fit_many(
    apply: ApplyFn | StatefulApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    mask: Mask | None = None,
    key: Keys | None = None,
    batch_size: int | None = None,
    evaluate: Callable[..., Evaluation] | None = None,
    checkpoints: Sequence[int] = (),
    memory: int | None = None,
    network_state: Any = None,
) -> Fits:
    """Trains a stack of masks, initial weights and keys, each as :func:`fit` does, and measures them on the way.

    A stack has a first axis over the models. Whether ``params`` and ``mask`` are stacks is read from their axes:

    - a mask with one axis more than the weights: a stack of masks on shared weights;
    - a mask with one axis less: a stack of weights under a shared mask;
    - as many axes, or no mask: all that is given is a stack.

    Flatten grids (seeds x densities) before the call. This is a host function: inside a program, vmap :func:`fit`.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start, one or a stack.
        data: inputs and targets, shared.
        optimizer: an optax optimiser; make it once.
        steps: how many steps are taken.
        mask: what is kept, one or a stack; None for all weights.
        key: one for all, or one for each model; models with the same key see the same batches. To train one start and
            mask under many keys, repeat the mask in a stack.
        batch_size: how many samples a step sees; None for all.
        evaluate: ``evaluate(params)``, what is measured of one model; ``evaluate(params, state)`` with
            ``network_state``.
        checkpoints: after how many steps it is measured, in ascending order; 0 is the start.
        memory: bytes of weights, optimiser state and saved activations that all threads hold together, at least one
            model for each thread. None for 1 MiB a core, since what leaves a core's cache is slower, and 1 GiB on an
            accelerator. Evaluation comes on top, one model a thread.
        network_state: as for :func:`fit`; a stack where ``params`` is one, else shared. Models with the same key have
            the same dropout.

    Returns:
        The trained models.

    Raises:
        ValueError: as :func:`fit`, for stacks of different length, and for checkpoints that do not ascend within
            0..steps.

    Cost: one gradient for each model and step; for convolutions on a CPU see :func:`fit`. Models run in tiles, each one
        vmapped program, on a CPU in a thread for each core; results depend on the tiles by rounding alone. Compiled
        once for each apply, loss, optimizer, evaluate and shape.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> stack = jnp.array([[True, False], [True, True]])
    >>> fits = fit_many(lambda w, x: x @ w, loss, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=stack)
    >>> fits.params.tolist()
    [[0.75, 0.0], [0.75, 0.75]]
    """
    check_batches(params, data, steps, key, batch_size)
    _check_checkpoints(checkpoints, steps, evaluate)
    stacked, models = _stacks(params, mask, key, network_state)
    recipe = Recipe.of(apply, loss, optimizer, batch_size, network_state)
    plan = _Plan(recipe, steps, static(evaluate), tuple(map(int, checkpoints)), stacked)
    key = None if batch_size is None and network_state is None else key

    def chosen(models: Any) -> list[Any]:
        """Parameters, masks and states of some models."""
        return [
            jax.tree.map(lambda leaf: leaf[models], tree) if stack else tree
            for tree, stack in zip((params, mask, network_state), (*stacked, stacked[0]), strict=True)
        ]

    first_key = key if key is None or not key.ndim else key[0]
    tile, workers = _tiling(models, _bytes(recipe, data, chosen(0), first_key), memory)

    def train(start: int) -> Any:
        # The last tile is filled up with its last model, so that all tiles share one program.
        members = np.minimum(np.arange(start, start + tile), models - 1)
        keys = key if key is None or not key.ndim else key[members]
        return jax.block_until_ready(_fit_tile(*chosen(members), keys, data, plan=plan))

    with ThreadPoolExecutor(workers) as threads:
        tiles = list(threads.map(train, range(0, models, tile)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:models], *tiles)


@functools.partial(jax.jit, static_argnames="plan")
def _fit_tile(params, mask, network_state, key, data, *, plan: _Plan) -> Fits:
    """Trains the models of a tile."""
    axes = [0 if stack else None for stack in (*plan.stacked, plan.stacked[0])]
    axes.append(0 if key is not None and key.ndim else None)
    return jax.vmap(functools.partial(_fit_one, plan, data), axes)(params, mask, network_state, key)


def _fit_one(plan: _Plan, data: Batch, params: Params, mask: Mask | None, network_state: Any, key: Key | None) -> Fits:
    """Trains one model, and measures it on the way."""
    params, others, mask = floating(params, mask)
    training = Training(plan.recipe.on_floating(others), data, key)
    start = training.start(params, mask, network_state)

    def step(carry):
        now, state, losses = carry
        state, value = training.advance(mask, state, now)
        return now + 1, state, losses.at[now].set(value)

    def run_until(stop, carry):
        return lax.while_loop(lambda carry: carry[0] < stop, step, carry)

    value = jax.eval_shape(lambda: training.advance(mask, start, jnp.int32(0))[1])
    # At least one entry: an array without any has no index to set.
    carry = jnp.int32(0), start, jnp.zeros(max(plan.steps, 1), value.dtype)
    curve = None
    if plan.evaluate is not None:
        # One model after another under vmap, because an evaluation may take many more samples than a batch.
        @jax.custom_batching.sequential_vmap
        def measured(params, others, network):
            return plan.evaluate(joined(params, others), *([network] if plan.recipe.stateful else []))

        def to_checkpoint(carry, stop):
            carry = run_until(stop, carry)
            return carry, measured(carry[1].params, others, carry[1].network)

        carry, curve = lax.scan(to_checkpoint, carry, jnp.array(plan.checkpoints, jnp.int32))
    _, state, losses = run_until(plan.steps, carry)
    return Fits(joined(state.params, others), losses[: plan.steps], curve, state.network)


def _check_checkpoints(checkpoints: Sequence[int], steps: int, evaluate: Any) -> None:
    """Refuses checkpoints that do not ascend within 0..steps, or that nothing is measured at."""
    numbers = [int(step) for step in checkpoints]
    if sorted(set(numbers)) != numbers or not all(0 <= step <= steps for step in numbers):
        raise ValueError(f"checkpoints is {checkpoints}; it takes ascending numbers of steps from 0 to {steps}")
    if (evaluate is None) != (not numbers):
        raise ValueError(f"checkpoints is {checkpoints} and evaluate is {evaluate}; it takes both or neither")


def _stacks(params: Params, mask: Mask | None, key: Keys | None, network_state: Any) -> tuple[tuple[bool, bool], int]:
    """Whether params and mask are stacks, and how many models they hold."""
    stacked = (True, False)
    if mask is not None:
        ranks = [jnp.ndim(jax.tree.leaves(tree)[0]) for tree in (params, mask)]
        if abs(ranks[0] - ranks[1]) > 1:
            raise ValueError(f"mask has {ranks[1]} axes where params has {ranks[0]}; it takes as many, or one more")
        stacked = (ranks[0] >= ranks[1], ranks[1] >= ranks[0])
    trees = {"params": params, "mask": mask, "key": key, "network_state": network_state}
    several = (*stacked, key is not None and key.ndim > 0, stacked[0])
    lengths = {
        name + jax.tree_util.keystr(path): jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0
        for (name, tree), stack in zip(trees.items(), several, strict=True)
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


def _tiling(models: int, bytes_each: int, memory: int | None) -> tuple[int, int]:
    """How many models a tile has, and how many threads run tiles at once."""
    on_cpu = jax.default_backend() == "cpu"
    threads = CORES if on_cpu else 1
    if memory is None:
        memory = threads * max(bytes_each, 2**20 if on_cpu else 2**30)
    threads = max(1, min(threads, memory // bytes_each))
    largest = max(1, min(models, memory // threads // bytes_each))
    tiles = math.ceil(models / largest)
    return math.ceil(models / tiles), threads  # equal tiles, so that the last has few models to fill up


def _bytes(recipe: Recipe, data: Batch, model: list[Any], key: Any) -> int:
    """What training holds of one model (its parameters, mask and state) at a time, by shapes alone."""
    batch = jax.tree.map(lambda values: values[: recipe.batch_size or len(values)], data)
    found = _held.eval_shape(*model, key, batch, recipe=recipe)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(found))


@functools.partial(jax.jit, static_argnames="recipe")  # so that it is traced once for each recipe and shape
def _held(params, mask, network, key, batch, *, recipe: Recipe):
    """What is in memory at once in a step of one model."""
    params, others, mask = floating(params, mask)
    loss = recipe.on_floating(others).loss_and_state_on(batch, network, key)
    value, pullback, network = jax.vjp(loss, params, has_aux=True)
    return params, params, recipe.optimizer.init(params), mask, network, value, pullback
