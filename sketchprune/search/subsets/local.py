"""Local search: swap a kept weight for a pruned one as long as that helps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float
from jaxtyping import Key as Keys

from sketchprune import _checks
from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.search.subsets._columns import columns_of, squared_error
from sketchprune.types import Key


@checked
def local_search(
    x: Float[Array | np.ndarray, "n d"], w: Float[Array | np.ndarray, "d"], keep: int, *, key: Key, starts: int = 64
) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    """The best 0/1 mask that swaps of single weights reach from many random starts.

    Minimises ‖X(m∘w) − Xw‖². No swap, removal or (below ``keep`` weights) addition of one weight improves the mask by
    more than rounding.

    Args:
        x: data, [n, d].
        w: weights of the linear model, [d].
        keep: the most weights that the mask keeps, 0 to d.
        key: a random key, from which the starts derive.
        starts: how many random subsets of ``keep`` weights the search starts from, all at once.

    Returns:
        The boolean mask [d] and its error.

    Raises:
        ValueError: for d = 0, ``keep`` outside 0 … d, and starts < 1.

    Cost: O(nd²) once, then O(d) for each weight tried and each start.

    Example:
        >>> mask, error = local_search(jnp.eye(3), jnp.array([1.0, -3.0, 2.0]), 1, key=jax.random.key(0), starts=2)
        >>> mask.tolist(), float(error)
        ([False, True, False], 5.0)
    """
    columns = columns_of(x, w, keep)
    _checks.whole("starts", starts, least=1)
    return _local_search(columns, jax.random.split(key, starts), keep=keep)


@functools.partial(jax.jit, static_argnames="keep")
def _local_search(
    columns: Float[Array, "n d"], keys: Keys[Array, "starts"], *, keep: int
) -> tuple[Bool[Array, "d"], Float[Array, ""]]:
    d = columns.shape[1]
    # ``keep`` more items of size zero: to keep one of them is to keep nothing, so that removals and additions are
    # swaps too.
    gram = jnp.pad(product(columns.T, columns), (0, keep))

    def descend(key: Key) -> tuple[Array, Array]:
        start = jnp.pad(jax.random.permutation(key, d) < keep, (0, keep))
        kept = _without_improving_swap(gram, start)[:d]
        return kept, squared_error(columns, kept)

    kept, errors = jax.vmap(descend)(keys)
    best = jnp.argmin(errors)
    return kept[best], errors[best]


def _without_improving_swap(gram: Float[Array, "e e"], start: Bool[Array, "e"]) -> Bool[Array, "e"]:
    """Takes the items in turn and makes the best swap of each, until a whole round has improved nothing."""
    count = len(gram)
    norms = jnp.diagonal(gram)
    rounding = 16 * jnp.finfo(gram.dtype).eps * jnp.sum(norms)

    def unsettled(carry) -> Bool[Array, ""]:
        *_, unimproved = carry
        return unimproved < count

    def try_item(carry):
        kept, slope, item, unimproved = carry
        sign = jnp.where(kept[item], -1, 1).astype(gram.dtype)
        change = 2 * sign * (slope[item] - slope) + norms[item] + norms - 2 * gram[item]
        change = jnp.where(kept == kept[item], jnp.inf, change)
        partner = jnp.argmin(change)
        better = change[partner] < -rounding
        swapped = kept.at[item].set(~kept[item]).at[partner].set(kept[item])
        moved = slope + sign * (gram[item] - gram[partner])
        return (
            jnp.where(better, swapped, kept),
            jnp.where(better, moved, slope),
            (item + 1) % count,
            jnp.where(better, 0, unimproved + 1),
        )

    slope = product(gram, start.astype(gram.dtype) - 1)  # G(m − 1), kept up to date
    kept, *_ = lax.while_loop(unsettled, try_item, (start, slope, jnp.int32(0), jnp.int32(0)))
    return kept
