"""Deterministic search for the best mask of a linear model that keeps at most s weights.

The error of a mask is ‖X(m∘w) − Xw‖² = (m − 1)ᵀG(m − 1) with the Gram matrix G of the columns w_i x_i. Heuristics
that run anywhere under jit, and the exact optimum of small models with a proof; see also
:func:`sketchprune.search.best` for random masks.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks
from sketchprune._arithmetic import product
from sketchprune.search.branch_and_bound import MOST_ITEMS as MOST_ITEMS
from sketchprune.search.branch_and_bound import Optimum as Optimum
from sketchprune.search.branch_and_bound import optimum as optimum
from sketchprune.types import Key


def greedy(x: Float[Array, "n d"], w: Float[Array, "d"], keep: int) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    """Add the weight that lowers the error most, ``keep`` times or until none does: a 0/1 mask and its error.

    Ties by index. ValueError for ``keep`` below 0 or above d, and d = 0. O(nd² + keep·d), memory d².

    >>> greedy(jnp.eye(3), jnp.array([1.0, -3.0, 2.0]), 2)
    (Array([False,  True,  True], dtype=bool), Array(1., dtype=float64))
    """
    _check(w, keep)
    return _greedy(_columns(x, w), keep)


def local_search(
    x: Float[Array, "n d"], w: Float[Array, "d"], keep: int, key: Key, *, starts: int = 64
) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    """Swap a kept weight for a pruned one while that helps, from many starts at once: the best mask and its error.

    A 0/1 mask that keeps at most ``keep`` weights and that no swap, removal or (below ``keep``) addition of one
    weight improves by more than rounding. Starts are random subsets of that size. ValueError for ``keep`` below
    0 or above d, d = 0 and starts < 1. O(nd²) once, then O(d) a tried weight and start.

    >>> local_search(jnp.eye(3), jnp.array([1.0, -3.0, 2.0]), 1, jax.random.key(0), starts=2)
    (Array([False,  True, False], dtype=bool), Array(5., dtype=float64))
    """
    _check(w, keep)
    _checks.whole("starts", starts, least=1)
    return _local_search(_columns(x, w), keep, jax.random.split(key, starts))


def orthogonal_matching_pursuit(
    x: Float[Array, "n d"], w: Float[Array, "d"], keep: int
) -> tuple[Float[Array, "d"], Float[Array, ""]]:
    """Add the column that best matches the residual, refit the kept ones, ``keep`` times: a mask and its error.

    The mask has the weights of the least-squares fit, some of which may be negative. Stops early when nothing
    is left to match. ValueError for ``keep`` below 0 or above d, and d = 0. O(keep·nd).

    >>> mask, error = orthogonal_matching_pursuit(jnp.array([[1.0, 1.0], [0.0, 1.0]]), jnp.ones(2), 1)
    >>> mask.round(3), error.round(3)
    (Array([0. , 1.5], dtype=float64), Array(0.5, dtype=float64))
    """
    _check(w, keep)
    return _matching_pursuit(_columns(x, w), keep)


def _check(w: Array, keep: int):
    if not len(w):
        raise ValueError("w has 0 weights; it takes at least 1")
    _checks.whole("keep", keep, least=0)
    if keep > len(w):
        raise ValueError(f"keep is {keep}; it takes at most {len(w)}, the number of weights")


def _columns(x: Float[Array, "n d"], w: Float[Array, "d"]) -> Float[Array, "n d"]:
    return x * w


def _error(columns: Float[Array, "n d"], mask: Array) -> Float[Array, ""]:
    return jnp.sum(product(columns, mask.astype(columns.dtype) - 1) ** 2)


@jax.jit
def _greedy(columns: Float[Array, "n d"], keep: Int[Array, ""]) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    gram = product(columns.T, columns)
    own = jnp.diagonal(gram)

    def add(_, carry):
        kept, slope = carry
        change = jnp.where(kept, jnp.inf, 2 * slope + own)
        item = jnp.argmin(change)
        better = change[item] < 0
        return kept.at[item].set(kept[item] | better), slope + better * gram[item]

    kept, _ = lax.fori_loop(0, keep, add, (jnp.zeros(len(gram), bool), -jnp.sum(gram, axis=1)))
    return kept, _error(columns, kept)


@functools.partial(jax.jit, static_argnums=1)
def _local_search(columns: Float[Array, "n d"], keep: int, keys: Key) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    d = columns.shape[1]
    # As many items of size zero more as may be kept: keeping one of those is keeping nothing.
    gram = jnp.pad(product(columns.T, columns), (0, keep))

    def settle(key: Key) -> tuple[Array, Array]:
        start = jnp.pad(jax.random.permutation(key, d) < keep, (0, keep))
        kept = _settled(gram, start)[:d]
        return kept, _error(columns, kept)

    kept, errors = jax.vmap(settle)(keys)
    best = jnp.argmin(errors)
    return kept[best], errors[best]


def _settled(gram: Float[Array, "e e"], start: Bool[Array, "e"]) -> Bool[Array, "e"]:
    """Swaps until every item in turn has found no partner; the slope G(m − 1) is kept up to date."""
    count, own = len(gram), jnp.diagonal(gram)
    enough = 16 * jnp.finfo(gram.dtype).eps * jnp.sum(own)

    def unsettled(carry) -> Bool[Array, ""]:
        *_, stalled = carry
        return stalled < count

    def turn(carry):
        kept, slope, item, stalled = carry
        sign = jnp.where(kept[item], -1, 1).astype(gram.dtype)
        change = 2 * sign * (slope[item] - slope) + own[item] + own - 2 * gram[item]
        change = jnp.where(kept == kept[item], jnp.inf, change)
        partner = jnp.argmin(change)
        better = change[partner] < -enough
        swapped = kept.at[item].set(~kept[item]).at[partner].set(kept[item])
        moved = slope + sign * (gram[item] - gram[partner])
        return (
            jnp.where(better, swapped, kept),
            jnp.where(better, moved, slope),
            (item + 1) % count,
            jnp.where(better, 0, stalled + 1),
        )

    slope = product(gram, start.astype(gram.dtype) - 1)
    return lax.while_loop(unsettled, turn, (start, slope, jnp.int32(0), jnp.int32(0)))[0]


@functools.partial(jax.jit, static_argnums=1)
def _matching_pursuit(columns: Float[Array, "n d"], keep: int) -> tuple[Float[Array, "d"], Float[Array, ""]]:
    n, d = columns.shape
    target = jnp.sum(columns, axis=1)
    norms = jnp.sqrt(jnp.sum(columns**2, axis=0))
    enough = max(n, d) * jnp.finfo(columns.dtype).eps

    def add(step: Int[Array, ""], carry):
        chosen, directions, left, rest = carry
        free = jnp.sqrt(jnp.sum(left**2, axis=0)) > enough * norms
        match = jnp.where(free, abs(product(rest, columns)) / jnp.where(norms > 0, norms, 1), -1)
        item = jnp.argmax(match)
        unit = left[:, item]
        # Rounding left some of the earlier directions in it, much where little else is left; twice, to rounding.
        for _ in range(2):
            unit -= product(directions, product(unit, directions))
        size = jnp.sqrt(jnp.sum(unit**2))
        found = size > enough * norms[item]
        unit = jnp.where(found, unit / jnp.where(found, size, 1), 0)
        chosen = chosen.at[step].set(jnp.where(found, item, d))
        left = (left - unit[:, None] * product(unit, left)).at[:, item].set(0)
        return chosen, directions.at[:, step].set(unit), left, rest - unit * product(unit, rest)

    most = max(keep, 1)
    # What is left of each column, and of the target, outside the span of the chosen ones.
    start = jnp.full(most, d), jnp.zeros((n, most), columns.dtype), columns, target
    chosen, directions, *_ = lax.fori_loop(0, keep, add, start)
    # The chosen columns are a triangle in the directions; steps that found nothing are rows of the identity.
    kept = columns.at[:, chosen].get(mode="fill", fill_value=0)
    empty = (chosen == d).astype(columns.dtype)
    triangle = jnp.triu(product(directions.T, kept)) + jnp.diag(empty)
    weights = jax.scipy.linalg.solve_triangular(triangle, product(directions.T, target))
    mask = jnp.zeros(d, columns.dtype).at[chosen].set(weights, mode="drop")
    return mask, _error(columns, mask)
