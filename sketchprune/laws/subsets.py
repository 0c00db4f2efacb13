"""All subsets of a few items."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sketchprune import _checks
from sketchprune._boundary import checked


@checked
def all_subsets(count: int) -> Bool[Array, "subsets items"]:
    """All 2^d subsets of d items: subset k keeps the items at which k has a bit, the lowest bit first.

    Args:
        count: d, the number of items.

    Returns:
        [2^d, d] booleans.

    Raises:
        ValueError: for a count that is no whole number >= 0.

    >>> all_subsets(2).tolist()
    [[False, False], [True, False], [False, True], [True, True]]
    """
    _checks.whole("count", count, least=0)
    return (jnp.arange(2**count)[:, None] >> jnp.arange(count)) % 2 == 1
