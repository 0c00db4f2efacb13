"""Subset sums of up to 20 numbers, exactly: the subset whose sum is nearest to a target.

Items are split in two halves. The sums of one half are sorted, and those of the other are searched for among them, so
2^n sums never exist at once. Results are exact up to the rounding of the sums, in the dtype of the items.

Instances lie on leading axes and are worked through in chunks of about 32 MiB. Give leading axes in place of
``jax.vmap``, under which each function uses that memory many times over.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs, _sums
from sketchprune.lottery._chunks import CHUNK_BYTES, map_in_chunks
from sketchprune.lottery._sums import MAX_ITEMS as MAX_ITEMS

_TARGETS_AT_ONCE = 256
"""Targets of one instance that are treated together."""


class NearestSubset(NamedTuple):
    """Subsets whose sums approximate targets.

    Attributes:
        subset: [*instances, targets, n], boolean: which items are summed.
        sum: [*instances, targets], their sum.
        error: [*instances, targets], |sum − target|.
    """

    subset: Bool[Array, "*instances targets n"]
    sum: Float[Array, "*instances targets"]
    error: Float[Array, "*instances targets"]


@checked
def nearest_subset(
    items: Float[Array | np.ndarray, "*instances n"],
    targets: Float[Array | np.ndarray, "... targets"],
    *,
    tolerance: Float[ArrayLike, ""] = 0.0,
) -> NearestSubset:
    """For each target the subset whose sum is nearest to it, or the first one that is near enough.

    Subsets are ordered by Σ 2^i over their items i. The first one is taken whose error is at most the larger of the
    tolerance and the least error. With tolerance 0 this is the nearest subset, the first of equally near ones; items
    that are 0 are then never taken, and the target 0 gets the empty subset.

    Args:
        items: [*instances, n], 1 to 20 numbers of either sign for each instance.
        targets: [*instances, targets], any number of them for each instance.
        tolerance: an error that is near enough, in the unit of the targets; may be traced.

    Returns:
        The subsets, their sums and their errors, in the dtype of the items (at least float32).

    Raises:
        ValueError: no or more than 20 items, leading axes that differ, numbers that are not finite, a tolerance < 0.

    Cost: time O(n 2^{n/2}) and memory O(2^{n/2}) for each target.

    Source: lottery/strong-ticket.

    >>> found = nearest_subset(jnp.array([0.5, -0.25, 1.0]), jnp.array([0.3, 1.4]))
    >>> found.subset.tolist(), found.sum.tolist()
    ([[True, True, False], [True, False, True]], [0.25, 1.5])
    """
    items, targets = _sums.checked_items(items), jnp.asarray(targets)
    if targets.shape[:-1] != items.shape[:-1]:
        raise ValueError(f"targets has shape {targets.shape}; it takes {(*items.shape[:-1], 'targets')}")
    _checks.finite("targets", targets)
    _inputs.at_least_zero("tolerance", tolerance)
    return _nearest_subset(items, targets.astype(items.dtype), jnp.asarray(tolerance, items.dtype))


@jax.jit
def _nearest_subset(items: Array, targets: Array, tolerance: Array) -> NearestSubset:
    def one_instance(values: Array, wanted: Array) -> NearestSubset:
        halves = _sums.halves(values)
        return map_in_chunks(
            lambda target: NearestSubset(*halves.first_near(target, tolerance)), _TARGETS_AT_ONCE, wanted
        )

    (*instances, n), num_targets = items.shape, targets.shape[-1]
    bytes_each = _sums.search_bytes(n, items.dtype) * min(max(num_targets, 1), _TARGETS_AT_ONCE)
    flat = items.reshape(math.prod(instances), n), targets.reshape(math.prod(instances), num_targets)
    found = map_in_chunks(one_instance, CHUNK_BYTES // bytes_each, *flat)
    return jax.tree.map(lambda part: part.reshape(*instances, *part.shape[1:]), found)
