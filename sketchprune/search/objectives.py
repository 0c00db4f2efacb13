"""What a mask is searched for: functions mask -> number, the less the better, each made for its model and data."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from sketchprune import _checks, kernels, linalg, masks, train
from sketchprune._arithmetic import column_squares, product
from sketchprune._boundary import checked
from sketchprune.types import ApplyFn, Batch, Inputs, LossFn, Mask, Params

Objective = Callable[[Mask], Float[Array, ""]]


@checked
def linear_error(x: Float[Array | np.ndarray, "n d"], w: Float[Array | np.ndarray, "d"]) -> Objective:
    """How far the pruned linear model's predictions are from the dense one's: ‖X(m∘w) − Xw‖².

    For boolean and floating masks.

    Args:
        x: data, [n, d].
        w: weights of the linear model, [d].

    Returns:
        A function mask [d] -> error, in the dtype of w.

    Cost: O(nd) a mask, as one matrix product for all masks evaluated together, at precision "highest".

    Source: sketch/second-moment.

    Example:
        >>> float(linear_error(jnp.eye(2), jnp.array([1.0, 3.0]))(jnp.array([True, False])))
        9.0
    """
    x, w = jnp.asarray(x), jnp.asarray(w)

    def objective(mask: Mask) -> Float[Array, ""]:
        return jnp.sum(product(x, (mask.astype(w.dtype) - 1) * w) ** 2)

    return objective


@checked
def training_error(
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, "n"],
    *,
    start: Float[Array | np.ndarray, "d"] | None = None,
    steps: int | None = None,
    step_size: int | float | None = None,
    keep: int | None = None,
) -> Objective:
    """The squared error ‖Xu − y‖² of a linear model of which only the kept weights are trained.

    u is where gradient descent on ½‖Xu − y‖² goes from ``start``, or where it is after a number of steps. Columns may
    have any rank. A mask's entries only matter by whether they are zero.

    Args:
        x: data, [n, d].
        y: targets, [n].
        start: the weights before training, [d]; zero by default.
        steps: how many steps are made; by default training goes on to convergence.
        step_size: the size of each step; given together with ``steps``.
        keep: a bound on how many weights masks keep. Only that many columns are then gathered, which is faster; a mask
            that keeps more has the error NaN.

    Returns:
        A function mask [d] -> error.

    Raises:
        ValueError: for steps without step_size and the other way round, and for keep < 1.

    Cost: O(nd²) once; then O(d³) a mask, O(d·keep²) with ``keep``, or as many products with the columns as steps.
        It makes no call to LAPACK, whose batches can block one another where several CPU devices run them at once.

    Source: sketch/training-error, sketch/training-error-at-t.

    Example:
        >>> error = training_error(jnp.eye(2), jnp.array([1.0, 3.0]))
        >>> round(float(error(jnp.array([True, False]))), 5)
        9.0
    """
    if (steps is None) != (step_size is None):
        raise ValueError(f"steps is {steps} and step_size is {step_size}; it takes both, or neither for the limit")
    if steps is not None:
        _checks.whole("steps", steps, least=0)
    if keep is not None:
        _checks.whole("keep", keep, least=1)
    rows, targets = jnp.asarray(x), jnp.asarray(y)
    if rows.shape[0] > rows.shape[1] + 1:  # as many rows as columns are enough, whatever the mask
        rows, targets = linalg.compress(rows, targets)
    origin = jnp.zeros_like(rows[0]) if start is None else jnp.asarray(start)

    def objective(mask: Mask) -> Float[Array, ""]:
        columns, begin, defined = _kept_columns(rows, origin, mask != 0, keep)
        residual = targets - product(columns, begin)
        if steps is None or step_size is None:
            residual = _residual_of_projection(columns, residual)
        else:
            descend = functools.partial(_after_step, columns, step_size)
            residual = lax.fori_loop(0, steps, lambda _, left: descend(left), residual)
        return jnp.where(defined, jnp.sum(residual**2), jnp.nan)

    return objective


def _kept_columns(
    rows: Float[Array, "n d"], origin: Float[Array, "d"], kept: Array, keep: int | None
) -> tuple[Float[Array, "n k"], Float[Array, "k"], Array]:
    """The kept columns and their first weights, zeros filling up, and whether no more than ``keep`` are kept."""
    if keep is None or keep >= len(origin):
        return rows * kept, origin * kept, jnp.bool_(True)
    chosen = jnp.nonzero(kept, size=keep, fill_value=len(origin))[0]
    columns = rows.at[:, chosen].get(mode="fill", fill_value=0)
    return columns, origin.at[chosen].get(mode="fill", fill_value=0), jnp.sum(kept) <= keep


def _residual_of_projection(columns: Float[Array, "n k"], vector: Float[Array, "n"]) -> Float[Array, "n"]:
    """The vector less its projection on the span of the columns, by modified Gram-Schmidt."""
    norms = jnp.sqrt(column_squares(columns))
    rounding = max(columns.shape) * jnp.finfo(columns.dtype).eps * norms

    def project_out(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        left, residual = carry
        column = lax.dynamic_index_in_dim(left, j, axis=1, keepdims=False)
        size = jnp.sqrt(jnp.sum(column**2))
        independent = size > rounding[j]
        unit = jnp.where(independent, column / jnp.where(independent, size, 1), 0)
        across = jnp.sum(unit[:, None] * left, axis=0)
        return left - unit[:, None] * across, residual - unit * jnp.sum(unit * residual)

    return lax.fori_loop(0, columns.shape[1], project_out, (columns, vector))[1]


def _after_step(columns: Float[Array, "n k"], step_size: int | float, residual: Float[Array, "n"]) -> Float[Array, "n"]:
    """The residual y − Xu after a step of gradient descent, (I − ηXXᵀ)(y − Xu)."""
    slope = product(columns.T, residual)
    return residual - step_size * product(columns, slope)


@checked
def ntk_error(apply: ApplyFn, params: Params, x: Inputs) -> Objective:
    """How far the sketched tangent kernel is from the dense one: ‖J diag(m) Jᵀ − JJᵀ‖_F².

    J is the Jacobian at the given parameters, whatever the mask.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        params: its parameters.
        x: inputs, [n, …].

    Returns:
        A function mask -> error.

    Cost: that of :func:`sketchprune.kernels.ntk` with a traced mask.

    Source: tangent/sketch-moment.

    Example:
        >>> error = ntk_error(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.eye(2))
        >>> float(error(jnp.array([[1.0], [3.0]])))
        4.0
    """
    dense = kernels.ntk(apply, params, x)

    def objective(mask: Mask) -> Float[Array, ""]:
        return jnp.sum((kernels.ntk(apply, params, x, mask=mask) - dense) ** 2)

    return objective


@checked
def initial_loss(apply: ApplyFn, loss: LossFn, params: Params, data: Batch) -> Objective:
    """The loss of the pruned network before any training.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        loss: ``loss(outputs, targets) -> number``.
        params: the parameters before pruning.
        data: inputs and targets.

    Returns:
        A function mask -> loss.

    Cost: a forward pass on the data.

    Example:
        >>> squared = lambda outputs, y: jnp.sum((outputs - y) ** 2)
        >>> data = (jnp.eye(2), jnp.ones(2))
        >>> float(initial_loss(lambda w, x: x @ w, squared, jnp.ones(2), data)(jnp.array([True, False])))
        1.0
    """
    x, y = data

    def objective(mask: Mask) -> Float[Array, ""]:
        return loss(apply(masks.apply(params, mask), x), y)

    return objective


@checked
def trained_loss(
    apply: ApplyFn, loss: LossFn, params: Params, data: Batch, optimizer: optax.GradientTransformation, steps: int
) -> Objective:
    """The loss of the pruned network after training its kept weights on all data.

    Training starts from m∘θ, as :func:`sketchprune.train.fit` does.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        loss: ``loss(outputs, targets) -> number``.
        params: the parameters θ before pruning.
        data: inputs and targets, all of which each step uses.
        optimizer: makes the steps.
        steps: how many steps are made.

    Returns:
        A function mask -> loss.

    Cost: ``steps`` gradients on the data.

    Example:
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
