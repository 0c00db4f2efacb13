"""Training loops: a number of steps, or until the gradient vanishes, of the kept weights only.

They work under jit, and under vmap over masks, keys, parameters and data. What is pruned stays exactly zero: the start
is restricted to the support of the mask (its non-zero entries), and the optimiser is the one of
:func:`sketchprune.train.pruned`, for loops of one's own. The weights of a sketch are the caller's: start from
``masks.apply(params, mask)``.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._leaves import check_params, joined
from sketchprune.train._steps import Recipe, State, Training, check_batches, check_data, floating, restricted
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, StatefulApplyFn


class Progress(NamedTuple):
    """Where training stands, beside the parameters.

    Attributes:
        optimizer: the state of the optimiser.
        order: [n], the order of the samples in the epoch that has begun.
        step: how many steps have been taken.
    """

    optimizer: Any
    order: Int[Array, "n"]
    step: Int[Array, ""]


class Fit(struct.PyTreeNode):
    """A trained model. It unpacks as ``params, losses``.

    Attributes:
        params: the parameters.
        losses: [steps], before each step, on the batch of that step.
        state: where training stands, for :func:`fit` to go on.
        network_state: of the network after the last step; None where it has none.
    """

    params: PyTree
    losses: PyTree
    state: PyTree
    network_state: PyTree = None

    def __iter__(self) -> Iterator[Any]:
        """The parameters and the losses."""
        return iter((self.params, self.losses))

    def __getitem__(self, index: int) -> Any:
        """The parameters (0) or the losses (1)."""
        return (self.params, self.losses)[index]


@checked
def fit(
    apply: ApplyFn | StatefulApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    state: Progress | None = None,
    network_state: Any = None,
) -> Fit:
    """Trains for a number of steps of an optax optimiser on ``loss(apply(params, x), y)``.

    **Batches.** A step sees all data, or with ``batch_size`` the next slice of a permutation that ``key`` draws for
    each epoch. An epoch has ⌊n/batch_size⌋ batches and leaves out the n mod batch_size samples that remain.

    **Continuing.** With ``state`` training goes on where another fit ended: with the same data, key and batch size, 10
    steps and 10 more equal 20 steps bit for bit. The mask may be another one, as in iterative pruning: what the
    optimiser remembers of weights that are pruned since moves nothing. To rewind, pass the parameters and the state of
    an earlier fit.

    **Batch statistics and dropout.** With ``network_state`` the network is ``apply(params, x, state=…, key=…) ->
    (outputs, state)``. Each step takes the state that the step before returned, and a key of its own made from ``key``
    (None without one). Kernels, paths and scores take ``apply(params, x)`` in evaluation mode instead.
    ``docs/guides/networks.md`` has the lines for flax linen, flax nnx and equinox.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start. Leaves that are no floating arrays stay as they are.
        data: inputs and targets of n samples.
        optimizer: an optax optimiser; make it once, because a program is compiled for each optimiser object.
        steps: how many steps are taken.
        mask: whose support is trained; None for all weights.
        key: for the batches, and for the network where ``network_state`` is given.
        batch_size: how many samples a step sees, 1..n; None for all.
        state: of the fit that ``params`` comes from; None for a new start.
        network_state: the state of the network before the first step, any pytree of arrays; ``()`` for dropout alone;
            None for a network without a state.

    Returns:
        A record that unpacks as ``params, losses``: the parameters, and the losses [steps] before each step, on the
        batch of that step. Its attributes ``state`` and ``network_state`` go on from there.

    Raises:
        ValueError: for x and y of different length, a batch size outside 1..n or without a key, a mask that is not
            shaped like the parameters, a state of another optimiser or number of samples, and an ``apply`` that returns
            a state of other shapes or dtypes than ``network_state``.

    Cost: one gradient for each step, and one copy of the state. Compiled once for each apply, loss, optimizer and
        shape. On a CPU ``lax.conv`` is slow inside a loop: five times slower for two layers of 8 and 16 channels on
        28 x 28 images. :func:`sketchprune.models.patch_convolution` is not; ``docs/guides/networks.md`` says how flax
        takes it.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> mask = jnp.array([True, False])
    >>> w, losses = fit(lambda w, x: x @ w, loss, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=mask)
    >>> w.tolist(), losses.tolist()
    ([0.75, 0.0], [1.0, 0.625])
    """
    check_batches(params, data, steps, key, batch_size)
    recipe = Recipe.of(apply, loss, optimizer, batch_size, network_state)
    return _fit(params, data, mask, key, state, network_state, recipe=recipe, steps=steps)


@checked
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
    """Trains on all data until the gradient g of the kept weights vanishes.

    Stops at the first point with ‖g‖ ≤ ``tolerance``, or after ``max_steps``. Under vmap each instance stops by itself
    and stays where it is. A NaN stops at once and shows in the norm.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start.
        data: inputs and targets.
        optimizer: an optax optimiser; make it once.
        max_steps: how many steps are taken at most; may be traced.
        mask: whose support is trained; None for all weights.
        tolerance: None for 100 ε ‖g_0‖, with g_0 the gradient at the start and ε of the parameters' dtype: about the
            rounding error of a well-conditioned gradient.

    Returns:
        The parameters, the number of steps, and ‖g‖ at the end.

    Raises:
        ValueError: as `fit`.

    Cost: one gradient for each step. Compiled as `fit`.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> w, steps, norm = converge(lambda w, x: x @ w, loss, jnp.zeros(2), data, optax.sgd(0.5), 100, tolerance=0.2)
    >>> w.tolist(), int(steps), round(float(norm), 5)
    ([0.875, 0.875], 3, 0.17678)
    """
    _checks.whole("max_steps", max_steps, least=0)
    check_params("params", params)
    check_data(data)
    recipe = Recipe.of(apply, loss, optimizer)
    return _converge(params, data, max_steps, mask, tolerance, recipe=recipe)


@functools.partial(jax.jit, static_argnames=("recipe", "steps"))
def _fit(params, data, mask, key, state, network_state, *, recipe: Recipe, steps: int) -> Fit:
    params, others, mask = floating(params, mask)
    training = Training(recipe.on_floating(others), data, key)
    start = training.start(params, mask, network_state)
    done = jnp.int32(0)
    if state is not None:
        _check_state(state, start)
        start = start._replace(optimizer=state.optimizer, order=state.order)
        done = state.step
    step = functools.partial(training.advance, mask)
    end, losses = lax.scan(step, start, done + jnp.arange(steps, dtype=done.dtype))
    progress = Progress(end.optimizer, end.order, done + steps)
    return Fit(joined(end.params, others), losses, progress, end.network)


def _check_state(state: Progress, start: State) -> None:
    """Refuses a state that does not belong to the optimiser, the parameters or the data."""
    needed = Progress(start.optimizer, start.order, state.step)
    _checks.same_shapes("state", state, "the state of a fit of this optimizer and data", needed, dtypes=True)


@functools.partial(jax.jit, static_argnames="recipe")
def _converge(params, data, max_steps, mask, tolerance, *, recipe: Recipe) -> tuple[Params, Array, Array]:
    params, others, kept = floating(params, mask)
    recipe = recipe.on_floating(others)
    loss = recipe.loss_on(data)

    def slope(params):
        value, gradient = jax.value_and_grad(loss)(params)
        gradient = restricted(gradient, kept)
        return value, gradient, optax.tree.norm(gradient)

    def unfinished(carry):
        *_, norm, steps = carry
        return (norm > enough) & (steps < max_steps)

    def advance(carry):
        params, state, value, gradient, _, steps = carry
        params, state = recipe.update(kept, loss, params, state, value, gradient)
        return params, state, *slope(params), steps + 1

    params = restricted(params, kept)
    value, gradient, norm = slope(params)
    enough = 100 * jnp.finfo(norm.dtype).eps * norm if tolerance is None else tolerance
    state = optax.with_extra_args_support(recipe.optimizer).init(params)
    start = (params, state, value, gradient, norm, jnp.int32(0))
    params, *_, norm, steps = lax.while_loop(unfinished, advance, start)
    return joined(params, others), steps, norm
