"""Training loops: a number of steps, or until the gradient vanishes, of the kept weights only.

They work under jit, and under vmap over masks, keys, parameters and data. What is pruned stays exactly zero, because
the start, each gradient and each updated point are restricted to the support of the mask (its non-zero entries):
momentum, weight decay and noise cannot revive a weight. The weights of a sketch are the caller's: start from
``masks.apply(params, mask)``.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune import _checks
from sketchprune._static import static
from sketchprune.train._steps import Recipe, check_batches, check_data, restriction, training
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
    """Trains for a number of steps of an optax optimiser on ``loss(apply(params, x), y)``.

    A step sees all data, or with ``batch_size`` the next slice of a permutation that is drawn from ``key`` for each
    epoch. An epoch has ⌊n/batch_size⌋ batches, so it leaves n mod batch_size samples out, others each time.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the start.
        data: inputs and targets of n samples.
        optimizer: an optax optimiser. Optax makes a new object at each call, and a program is compiled for each object,
            so make it once.
        steps: how many steps are taken.
        mask: whose support is trained; None for all weights.
        key: for the batches.
        batch_size: how many samples a step sees; None for all.

    Returns:
        The parameters, and the losses [steps] before each step, on the batch of that step.

    Raises:
        ValueError: for x and y of different length, a batch size outside 1..n or without a key, and a mask that is not
            shaped like the parameters.

    Cost: one gradient a step, and one copy of the state. Compiled once for each apply, loss, optimizer and shape.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> mask = jnp.array([True, False])
    >>> w, losses = fit(lambda w, x: x @ w, loss, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=mask)
    >>> w.tolist(), losses.tolist()
    ([0.75, 0.0], [1.0, 0.625])
    """
    check_batches(data, steps, key, batch_size)
    recipe = Recipe(static(apply), static(loss), optimizer, batch_size)
    return _fit(params, data, mask, key, recipe=recipe, steps=steps)


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
        tolerance: by default 100 eps of the parameters' dtype times ‖g‖ at the start, about the rounding level of a
            well-conditioned gradient.

    Returns:
        The parameters, the number of steps, and ‖g‖ at the end.

    Raises:
        ValueError: as `fit`.

    Cost: one gradient a step. Compiled as `fit`.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> w, steps, norm = converge(lambda w, x: x @ w, loss, jnp.zeros(2), data, optax.sgd(0.5), 100, tolerance=0.2)
    >>> w.tolist(), int(steps), round(float(norm), 5)
    ([0.875, 0.875], 3, 0.17678)
    """
    _checks.whole("max_steps", max_steps, least=0)
    check_data(data)
    recipe = Recipe(static(apply), static(loss), optimizer)
    return _converge(params, data, max_steps, mask, tolerance, recipe=recipe)


@functools.partial(jax.jit, static_argnames=("recipe", "steps"))
def _fit(params, data, mask, key, *, recipe: Recipe, steps: int) -> tuple[Params, Array]:
    start, advance = training(recipe, params, data, mask, key)
    end, losses = lax.scan(advance, start, jnp.arange(steps))
    return end.params, losses


@functools.partial(jax.jit, static_argnames="recipe")
def _converge(params, data, max_steps, mask, tolerance, *, recipe: Recipe) -> tuple[Params, Array, Array]:
    restrict = restriction(mask)
    loss = recipe.loss_on(data)

    def slope(params):
        value, gradient = jax.value_and_grad(loss)(params)
        gradient = restrict(gradient)
        return value, gradient, optax.tree.norm(gradient)

    def unfinished(carry):
        *_, norm, steps = carry
        return (norm > enough) & (steps < max_steps)

    def advance(carry):
        params, state, value, gradient, _, steps = carry
        params, state = recipe.update(restrict, loss, params, state, value, gradient)
        return params, state, *slope(params), steps + 1

    params = restrict(params)
    value, gradient, norm = slope(params)
    enough = 100 * jnp.finfo(norm.dtype).eps * norm if tolerance is None else tolerance
    state = optax.with_extra_args_support(recipe.optimizer).init(params)
    start = (params, state, value, gradient, norm, jnp.int32(0))
    params, *_, norm, steps = lax.while_loop(unfinished, advance, start)
    return params, steps, norm
