"""Sums of all subsets of a few numbers, sorting and merging them, and finding neighbours among them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks

MAX_ITEMS = 20
"""Most items of one instance: they have 2^20 subsets."""


def checked_items(items: Float[Array | np.ndarray, "*instances n"]) -> Float[Array, "*instances n"]:
    """The items as an array of at least float32."""
    items = jnp.asarray(items)
    if not 1 <= items.shape[-1] <= MAX_ITEMS:
        raise ValueError(f"items has {items.shape[-1]} numbers for each instance; it takes 1 to {MAX_ITEMS}")
    _checks.finite("items", items)
    return items.astype(jnp.promote_types(items.dtype, jnp.float32))


def all_sums(values: Float[Array, "n"]) -> Float[Array, "2**n"]:
    """The sums of all subsets, in the order of Σ 2^i over their items i."""
    sums, codes = jnp.zeros(2 ** len(values), values.dtype), np.arange(2 ** len(values))
    for i, value in enumerate(values):
        sums = sums + jnp.where(codes >> i & 1, value, 0)
    return sums


def sort(sums: Float[Array, "s"]) -> Float[Array, "s"]:
    """The sums in ascending order.

    They are sorted as integers of the same order, for which XLA's CPU sort takes a fifth of the time.
    """
    integer = getattr(jnp, f"int{jnp.finfo(sums.dtype).bits}")
    lowest = jnp.iinfo(integer).min
    bits = lax.bitcast_convert_type(sums, integer)
    ordered = lax.sort(jnp.where(bits < 0, lowest - bits, bits))
    return lax.bitcast_convert_type(jnp.where(ordered < 0, lowest - ordered, ordered), sums.dtype)


def with_item(ordered: Float[Array, "s"], item: Float[Array, ""]) -> Float[Array, "2*s"]:
    """The sorted sums of one item more: those without it and those with it, merged.

    The one list and the other one backwards rise and then fall, and log₂ 2s rounds of smaller and larger sort that. On
    many instances at once it takes a quarter of the time of sorting.
    """
    with_it = (ordered + item)[::-1]
    merged = jnp.stack([jnp.minimum(ordered, with_it), jnp.maximum(ordered, with_it)])
    distance = len(ordered) // 2
    while distance:
        pairs = merged.reshape(-1, 2, distance)
        smaller, larger = jnp.minimum(pairs[:, 0], pairs[:, 1]), jnp.maximum(pairs[:, 0], pairs[:, 1])
        merged = jnp.stack([smaller, larger], axis=1)
        distance //= 2
    return merged.reshape(-1)


def neighbours(ordered: Float[Array, "s"], points: Float[Array, "*p"]) -> tuple[Array, Array]:
    """For each point the largest entry that is at most it, or −inf, and the smallest entry above it, or inf.

    ``ordered`` has a power of two entries, so that halving steps find the place; indices are always in bounds.
    """
    entries = ordered.at
    count = jnp.zeros(points.shape, jnp.int32)

    def halve(step: Array, count: Array) -> Array:
        half = jnp.int32(len(ordered) // 2) >> step.astype(jnp.int32)
        return count + jnp.where(entries[count + half - 1].get(mode="promise_in_bounds") <= points, half, 0)

    count = lax.fori_loop(0, len(ordered).bit_length() - 1, halve, count)
    count = count + (entries[count].get(mode="promise_in_bounds") <= points)
    below = entries[jnp.maximum(count - 1, 0)].get(mode="promise_in_bounds")
    above = entries[jnp.minimum(count, len(ordered) - 1)].get(mode="promise_in_bounds")
    return jnp.where(count > 0, below, -jnp.inf), jnp.where(count < len(ordered), above, jnp.inf)


class Halves(NamedTuple):
    """The sums of the first and of the last items, from which every sum is made; those of the first sorted as well."""

    first: Float[Array, "s"]
    first_sorted: Float[Array, "s"]
    last: Float[Array, "t"]

    def first_near(
        self, target: Float[Array, ""], tolerance: Float[Array, ""]
    ) -> tuple[Bool[Array, "n"], Float[Array, ""], Float[Array, ""]]:
        """The first subset whose error is at most the larger of the tolerance and the least: items, sum, error."""
        below, above = neighbours(self.first_sorted, target - self.last)
        errors = jnp.minimum(abs((self.last + below) - target), abs((self.last + above) - target))
        near_enough = jnp.maximum(tolerance, errors.min())
        high = jnp.argmax(errors <= near_enough)
        sums = self.last[high] + self.first
        low = jnp.argmax(abs(sums - target) <= near_enough)
        subset = jnp.concatenate([_members(low, len(self.first)), _members(high, len(self.last))])
        return subset, sums[low], abs(sums[low] - target)


def halves(items: Float[Array, "n"]) -> Halves:
    """The sums of the two halves of the items."""
    first = all_sums(items[: len(items) // 2])
    return Halves(first, sort(first), all_sums(items[len(items) // 2 :]))


def search_bytes(n: int, dtype: jnp.dtype) -> int:
    """Working memory of the search for one target."""
    return 6 * 2 ** (n - n // 2) * jnp.dtype(dtype).itemsize


def _members(code: Int[Array, ""], num_sums: int) -> Bool[Array, "_"]:
    """The items whose bits are set in the place that a subset has in :func:`all_sums`."""
    return (code >> jnp.arange(num_sums.bit_length() - 1)) & 1 != 0
