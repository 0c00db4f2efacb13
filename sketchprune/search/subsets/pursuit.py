"""Orthogonal matching pursuit: add the column that best matches what is left, and refit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune._arithmetic import column_squares, product
from sketchprune._boundary import checked
from sketchprune.search.subsets._columns import columns_of, squared_error


@checked
def orthogonal_matching_pursuit(
    x: Float[Array | np.ndarray, "n d"], w: Float[Array | np.ndarray, "d"], keep: int
) -> tuple[Float[Array, "d"], Float[Array, ""]]:
    """A floating mask built by adding the column that best matches the residual and refitting the kept ones.

    Its entries are those of the least-squares fit of Xw by the kept columns w_i x_i, and some may be negative. Stops
    before ``keep`` columns when nothing is left to match.

    Args:
        x: data, [n, d].
        w: weights of the linear model, [d].
        keep: the most weights that the mask keeps, 0 to d.

    Returns:
        The floating mask [d] and its error ‖X(m∘w) − Xw‖².

    Raises:
        ValueError: for d = 0, and for ``keep`` outside 0 … d.

    Cost: O(keep·nd).

    Example:
        >>> mask, error = orthogonal_matching_pursuit(jnp.array([[1.0, 1.0], [0.0, 1.0]]), jnp.ones(2), 1)
        >>> [round(value, 3) for value in mask.tolist()], round(float(error), 3)
        ([0.0, 1.5], 0.5)
    """
    return _matching_pursuit(columns_of(x, w, keep), keep=keep)


@functools.partial(jax.jit, static_argnames="keep")
def _matching_pursuit(columns: Float[Array, "n d"], *, keep: int) -> tuple[Float[Array, "d"], Float[Array, ""]]:
    n, d = columns.shape
    steps = max(keep, 1)
    # What is left of each column, and of the target, outside the span of the chosen ones.
    target = jnp.sum(columns, axis=1)
    start = jnp.full(steps, d), jnp.zeros((n, steps), columns.dtype), columns, target
    chosen, directions, *_ = lax.fori_loop(0, keep, functools.partial(_add_column, columns), start)
    # The chosen columns are an upper triangle in the basis of directions; a step that found nothing is a row of the
    # identity.
    kept = columns.at[:, chosen].get(mode="fill", fill_value=0)
    empty = (chosen == d).astype(columns.dtype)
    triangle = jnp.triu(product(directions.T, kept)) + jnp.diag(empty)
    fit = jax.scipy.linalg.solve_triangular(triangle, product(directions.T, target))
    mask = jnp.zeros(d, columns.dtype).at[chosen].set(fit, mode="drop")
    return mask, squared_error(columns, mask)


def _add_column(columns: Float[Array, "n d"], step: Int[Array, ""], carry: tuple[Array, ...]) -> tuple[Array, ...]:
    """Chooses the column that best matches the residual, and projects it out of the residual and of all columns."""
    chosen, directions, left, residual = carry
    n, d = columns.shape
    norms = jnp.sqrt(column_squares(columns))
    rounding = max(n, d) * jnp.finfo(columns.dtype).eps
    independent = jnp.sqrt(column_squares(left)) > rounding * norms
    match = jnp.where(independent, abs(product(residual, columns)) / jnp.where(norms > 0, norms, 1), -1)
    item = jnp.argmax(match)
    unit = left[:, item]
    # Rounding leaves parts of the earlier directions in the column, large ones where little else is left of it. Two
    # projections remove them to rounding.
    for _ in range(2):
        unit -= product(directions, product(unit, directions))
    size = jnp.sqrt(jnp.sum(unit**2))
    found = size > rounding * norms[item]
    unit = jnp.where(found, unit / jnp.where(found, size, 1), 0)
    chosen = chosen.at[step].set(jnp.where(found, item, d))
    left = (left - unit[:, None] * product(unit, left)).at[:, item].set(0)
    return chosen, directions.at[:, step].set(unit), left, residual - unit * product(unit, residual)
