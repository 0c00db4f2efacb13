"""What a mask is searched for: functions mask -> number, the less the better, each made for its model and data."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from sketchprune import _checks, kernels, masks, train
from sketchprune import linalg
from sketchprune._arithmetic import product
from sketchprune.types import ApplyFn, Batch, Inputs, LossFn, Mask, Params

Objective = Callable[[Mask], Float[Array, ""]]


def linear_error(x: Float[Array, "n d"], w: Float[Array, "d"]) -> Objective:
    """How far the pruned linear model's predictions are from the dense one's: ‖X(m∘w) − Xw‖².

    Boolean and floating masks. O(nd), one matrix product for all masks of a tile, at precision "highest".
    Source: sketch/second-moment.

    >>> float(linear_error(jnp.eye(2), jnp.array([1.0, 3.0]))(jnp.array([True, False])))
    9.0
    """

    def objective(mask: Mask) -> Float[Array, ""]:
        return jnp.sum(product(x, (mask.astype(w.dtype) - 1) * w) ** 2)

    return objective


def training_error(
    x: Float[Array, "n d"],
    y: Float[Array, "n"],
    *,
    start: Float[Array, "d"] | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    keep: int | None = None,
) -> Objective:
    """The squared error ‖Xu − y‖² of a linear model of which only the kept weights are trained.

    u is where gradient descent on ½‖Xu − y‖² goes from ``start`` (zero by default), for columns of any rank, or
    where it is after ``steps`` of ``step_size``. With
    ``keep``, a bound on what masks keep, only so many columns are gathered; a mask that keeps more has error NaN.
    ValueError for steps without step_size and the other way round, and for keep < 1. O(nd²) once; then O(d³) a
    mask, O(d·keep²) with ``keep``, or as many products with the columns as steps. No call to LAPACK, whose
    batches wait for one another for ever where several CPU devices run them at once. Source:
    sketch/training-error, sketch/training-error-at-t.

    >>> round(float(training_error(jnp.eye(2), jnp.array([1.0, 3.0]))(jnp.array([True, False]))), 12)
    9.0
    """
    if (steps is None) != (step_size is None):
        raise ValueError(f"steps is {steps} and step_size is {step_size}; it takes both, or neither for the limit")
    if steps is not None:
        _checks.whole("steps", steps, least=0)
    if keep is not None:
        _checks.whole("keep", keep, least=1)
    # As many rows as columns are enough, whatever the mask.
    rows, targets = linalg.compress(x, y) if x.shape[0] > x.shape[1] + 1 else (x, y)
    origin = jnp.zeros_like(rows[0]) if start is None else start

    def objective(mask: Mask) -> Float[Array, ""]:
        kept = mask != 0
        columns, begin, defined = rows * kept, origin * kept, jnp.bool_(True)
        if keep is not None and keep < len(origin):
            chosen = jnp.nonzero(kept, size=keep, fill_value=len(origin))[0]
            columns = rows.at[:, chosen].get(mode="fill", fill_value=0)
            begin = origin.at[chosen].get(mode="fill", fill_value=0)
            defined = jnp.sum(kept) <= keep
        residual = targets - product(columns, begin)
        if steps is None or step_size is None:
            residual = _outside(columns, residual)
        else:
            descend = functools.partial(_descended, columns, step_size)
            residual = lax.fori_loop(0, steps, lambda _, rest: descend(rest), residual)
        return jnp.where(defined, jnp.sum(residual**2), jnp.nan)

    return objective


def _outside(columns: Float[Array, "n k"], vector: Float[Array, "n"]) -> Float[Array, "n"]:
    """The vector less its projection on the span of the columns, by modified Gram-Schmidt."""
    norms = jnp.sqrt(jnp.sum(columns**2, axis=0))
    enough = max(columns.shape) * jnp.finfo(columns.dtype).eps * norms

    def without(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        left, rest = carry
        column = lax.dynamic_index_in_dim(left, j, axis=1, keepdims=False)
        size = jnp.sqrt(jnp.sum(column**2))
        free = size > enough[j]
        unit = jnp.where(free, column / jnp.where(free, size, 1), 0)
        across = jnp.sum(unit[:, None] * left, axis=0)
        return left - unit[:, None] * across, rest - unit * jnp.sum(unit * rest)

    return lax.fori_loop(0, columns.shape[1], without, (columns, vector))[1]


def _descended(columns: Float[Array, "n k"], step_size: float, residual: Float[Array, "n"]) -> Float[Array, "n"]:
    """The residual y − Xu after a step of gradient descent, (I − ηXXᵀ)(y − Xu)."""
    slope = product(columns.T, residual)
    return residual - step_size * product(columns, slope)


def ntk_error(apply: ApplyFn, params: Params, x: Inputs) -> Objective:
    """How far the sketched tangent kernel is from the dense one: ‖J diag(m) Jᵀ − JJᵀ‖_F², J fixed.

    Cost: that of :func:`sketchprune.kernels.ntk` with a traced mask. Source: tangent/sketch-moment.

    >>> float(ntk_error(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.eye(2))(jnp.array([[1.0], [3.0]])))
    4.0
    """
    dense = kernels.ntk(apply, params, x)

    def objective(mask: Mask) -> Float[Array, ""]:
        return jnp.sum((kernels.ntk(apply, params, x, mask=mask) - dense) ** 2)

    return objective


def initial_loss(apply: ApplyFn, loss: LossFn, params: Params, data: Batch) -> Objective:
    """The loss of the pruned network before any training.

    Cost: a forward pass on the data.

    >>> squared = lambda outputs, y: jnp.sum((outputs - y) ** 2)
    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> float(initial_loss(lambda w, x: x @ w, squared, jnp.ones(2), data)(jnp.array([True, False])))
    1.0
    """
    x, y = data

    def objective(mask: Mask) -> Float[Array, ""]:
        return loss(apply(masks.apply(params, mask), x), y)

    return objective


def trained_loss(
    apply: ApplyFn, loss: LossFn, params: Params, data: Batch, optimizer: optax.GradientTransformation, steps: int
) -> Objective:
    """The loss of the pruned network after so many steps of full-batch training of its kept weights.

    Starts from m∘θ, as :func:`sketchprune.train.fit` does. Cost: ``steps`` gradients on the data.

    >>> halved = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> data = (jnp.eye(2), jnp.ones(2))
    >>> objective = trained_loss(lambda w, x: x @ w, halved, jnp.zeros(2), data, optax.sgd(0.5), 1)
    >>> float(objective(jnp.array([True, False])))
    0.625
    """
    x, y = data

    def objective(mask: Mask) -> Float[Array, ""]:
        trained, _ = train.fit(apply, loss, masks.apply(params, mask), data, optimizer, steps, mask=mask)
        return loss(apply(trained, x), y)

    return objective
