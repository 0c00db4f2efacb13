"""Training by gradient descent of any kind, of the kept weights only.

Works under jit and under vmap over masks, keys, parameters and data. What is pruned stays exactly zero: the
start, each gradient and each updated point are restricted to the support of the mask (its non-zero entries),
so momentum, weight decay and noise cannot revive a weight. The weights of a sketch are the caller's: start
from masks.apply(params, mask).
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune import _checks
from sketchprune._static import static
from sketchprune.train import _steps
from sketchprune.train.many import Evaluation as Evaluation
from sketchprune.train.many import Fits as Fits
from sketchprune.train.many import fit_many as fit_many
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params


def cross_entropy(outputs: Float[Array, "n k"], labels: Int[Array, "n"]) -> Float[Array, ""]:
    """The mean cross-entropy of class labels, the outputs taken as logits: −(1/n) Σ_j log softmax(f_j)[y_j].

    >>> round(float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]))), 6)  # log 4
    1.386294
    """
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


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
    each apply, loss, optimizer and shape; optax makes another optimizer at each call, so make it once. ValueError
    for x and y of different length, a batch size outside 1..n or without a key, and a mask not shaped like the
    parameters. O(steps) gradients; one copy of the state.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> mask = jnp.array([True, False])
    >>> fit(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 2, mask=mask)
    (Array([0.75, 0.  ], dtype=float64), Array([1.   , 0.625], dtype=float64))
    """
    _steps.check_batches(data, steps, key, batch_size)
    return _fit(static(apply), static(loss), params, data, optimizer, steps, mask, key, batch_size)


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
    once and shows in the norm. Raises, and is compiled, as :func:`fit`. O(steps) gradients.

    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> converge(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 100, tolerance=0.2)
    (Array([0.875, 0.875], dtype=float64), Array(3, dtype=int32), Array(0.1767767, dtype=float64))
    """
    _checks.whole("max_steps", max_steps, least=0)
    _steps.check_data(data)
    return _converge(static(apply), static(loss), params, data, optimizer, max_steps, mask, tolerance)


@functools.partial(jax.jit, static_argnames=("apply", "loss", "optimizer", "steps", "batch_size"))
def _fit(apply, loss, params, data, optimizer, steps, mask, key, batch_size):
    start, advance = _steps.training(
        apply, loss, params, data, optimizer, mask, batch_size, _steps.shuffle(key, len(data[0]))
    )
    (params, *_), losses = lax.scan(advance, start, jnp.arange(steps))
    return params, losses


@functools.partial(jax.jit, static_argnames=("apply", "loss", "optimizer"))
def _converge(apply, loss, params, data, optimizer, max_steps, mask, tolerance):
    restrict = _steps.restriction(mask)
    optimizer = optax.with_extra_args_support(optimizer)
    objective = functools.partial(_steps.loss_on, apply, loss, data)

    def slope(params):
        value, gradient = jax.value_and_grad(objective)(params)
        gradient = restrict(gradient)
        return value, gradient, optax.tree.norm(gradient)

    def unfinished(carry):
        *_, norm, steps = carry
        return (norm > enough) & (steps < max_steps)

    def advance(carry):
        params, state, value, gradient, _, steps = carry
        params, state = _steps.update(optimizer, restrict, objective, params, state, value, gradient)
        return params, state, *slope(params), steps + 1

    params = restrict(params)
    value, gradient, norm = slope(params)
    enough = 100 * jnp.finfo(norm.dtype).eps * norm if tolerance is None else tolerance
    start = (params, optimizer.init(params), value, gradient, norm, jnp.int32(0))
    params, *_, norm, steps = lax.while_loop(unfinished, advance, start)
    return params, steps, norm
