"""Continuous optimisation of the rates of a random mask: the trained error that a poisson law guarantees, minimised."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks, laws, linalg, masks
from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.laws._regression import unit_columns
from sketchprune.search.objectives import training_error


class RelaxedMask(NamedTuple):
    """The rates of a poisson law with a small training bound, and the mask that they end at.

    Attributes:
        rates: π, [d], each in [0, 1]; they sum to at most ``keep``.
        bound: the training bound of the law, :meth:`sketchprune.laws.Poisson.training_bound`.
        mask: [d], boolean; keeps the largest rates.
        error: the least ‖Xu − y‖² over weights u on what the mask keeps.
    """

    rates: Float[Array, "d"]
    bound: Float[Array, ""]
    mask: Bool[Array, "d"]
    error: Float[Array, ""]


@checked
def relaxed(
    x: Float[Array | np.ndarray, "n d"], y: Float[Array | np.ndarray, "n"], keep: int, *, steps: int = 200
) -> RelaxedMask:
    """A mask for a linear model that is trained after pruning, by minimising the training bound of random masks.

    min over Σπ_i ≤ keep of min_v ‖Xv − y‖² + Σ(1/π_i − 1)‖x_i‖²v_i², the bound on the trained error of a mask that
    keeps weight i with probability π_i.

    Each step takes the best weights v for the rates, by ridge regression, and then the best rates for the weights,
    min(1, λ‖x_i‖|v_i|), so the bound never rises. The problem is not convex: the rates move towards 0 and 1, to a local
    minimum. Where they are 0 and 1 the bound is the error of their mask, in float32 unless columns are nearly equal
    (10⁻⁴ of their length apart).

    The rates start equal, at 0 for zero columns; equal columns keep equal rates. Where fewer than ``keep`` columns
    help, the rates sum to less.

    Args:
        x: data, [n, d].
        y: targets, [n].
        keep: how many weights the mask keeps, 0 to d.
        steps: how many steps are made.

    Returns:
        The rates, their bound, the mask and its error, in the dtype of the data.

    Raises:
        ValueError: for d = 0, ``keep`` outside 0 … d, steps < 0, and numbers that are not finite.

    Cost: O(nd²) once; a Cholesky decomposition of [d, d] in each step. One compiled program serves every ``keep`` and
        every number of steps.

    Source: sketch/training-error-ridge, sketch/poisson, moka2022combss.

    Example:
        >>> found = relaxed(jnp.eye(3), jnp.array([1.0, -3.0, 2.0]), 2)
        >>> found.mask.tolist(), round(float(found.error), 4), round(float(found.bound), 4)
        ([False, True, True], 1.0, 1.0)
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if not x.shape[1]:
        raise ValueError("x has 0 columns; it takes at least 1")
    _checks.whole("keep", keep, least=0)
    if keep > x.shape[1]:
        raise ValueError(f"keep is {keep}; it takes at most {x.shape[1]}, the number of columns")
    _checks.whole("steps", steps, least=0)
    _checks.finite("x", x)
    _checks.finite("y", y)
    return _relaxed(x, y, keep, steps)


@jax.jit
def _relaxed(x: Float[Array, "n d"], y: Float[Array, "n"], keep: Int[Array, ""], steps: Int[Array, ""]) -> RelaxedMask:
    if x.shape[0] > x.shape[1] + 1:  # as many rows as columns are enough, whatever the rates
        x, y = linalg.compress(x, y)
    unit = unit_columns(x)
    gram, matches = product(unit.T, unit), product(unit.T, y)

    def step(_, rates: Float[Array, "d"]) -> Float[Array, "d"]:
        return laws.poisson_rates(_ridge_sizes(gram, matches, rates), keep)

    present = jnp.any(x != 0, axis=0).astype(x.dtype)
    rates = lax.fori_loop(0, steps, step, present * jnp.minimum(keep / jnp.maximum(present.sum(), 1), 1))
    mask = masks.keep_top(rates, keep)
    bound = laws.Poisson(rates).training_bound(x, y)
    return RelaxedMask(rates, bound, mask, training_error(x, y)(mask))


def _ridge_sizes(gram: Float[Array, "d d"], matches: Float[Array, "d"], rates: Float[Array, "d"]) -> Float[Array, "d"]:
    """‖x_i‖|v_i| of the best weights v for the rates, from the inner products of the unit columns, and with y.

    With z_i = ‖x_i‖v_i/√π_i the problem is min_z ‖U√π z − y‖² + Σ(1 − π_i)z_i²: its matrix has ones on the diagonal.
    """
    root = jnp.sqrt(rates)
    count = len(rates)
    # Where kept columns depend on one another the matrix is singular: the diagonal is raised by rounding.
    ones = 1 + count * jnp.finfo(rates.dtype).eps
    matrix = jnp.where(jnp.eye(count, dtype=bool), ones, root[:, None] * gram * root)
    factor = jax.scipy.linalg.cho_factor(matrix)
    return abs(root * jax.scipy.linalg.cho_solve(factor, root * matches))
