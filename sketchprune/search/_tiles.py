"""What a device does with its masks: makes them, evaluates them and sums them up, tile by tile.

Mask i comes from the key ``mask_key(key, i)`` and from nothing else. A device works through its masks in steps of
whole tiles, with one program for any number of them, so that no value depends on how many masks a call covers or on
how many devices share it. What leaves the device: the best few, a histogram, and the sums of each tile.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, UInt
from jaxtyping import Key as KeyArray

from sketchprune.search import _bins
from sketchprune.types import Key

TILE = 256
"""Masks in a tile."""
MAX_TILES_PER_CALL = 4096
"""The most tiles of a device in one call."""
Evaluate = Callable[..., Float[Array, "masks"]]
"""``evaluate(keys, *constants)``: the objective of the mask of each key."""
_Ranked = tuple[Array, Array]
"""Values and the places of their masks."""


class Chunking(NamedTuple):
    """How a device goes through its masks.

    Attributes:
        tiles_per_step: tiles that are summed up together in one step of the device's loop.
        masks_at_once: masks evaluated together; fewer than a step's masks are evaluated in turns.
    """

    tiles_per_step: int
    masks_at_once: int


class BatchSummary(NamedTuple):
    """What one call finds, over all devices.

    ``scales``, ``counts``, ``means`` and ``squares`` are sums over the finite values of each tile: a power of two of
    the size of the largest one, how many there are, their mean divided by the scale, and the sum of their squared
    deviations from the mean divided by the scale's square.

    Attributes:
        values: [devices, best], ascending; NaN where there are fewer values.
        places: [devices, best], the masks of those values, counted from the first mask of the call.
        histogram: [bins], of all values but NaN.
        undefined: how many values are NaN.
        scales: [devices, tiles].
        counts: [devices, tiles].
        means: [devices, tiles].
        squares: [devices, tiles].
        largest: the largest value that is no NaN; −∞ if there is none.
    """

    values: Array | np.ndarray
    places: Array | np.ndarray
    histogram: Array | np.ndarray
    undefined: Array | np.ndarray
    scales: Array | np.ndarray
    counts: Array | np.ndarray
    means: Array | np.ndarray
    squares: Array | np.ndarray
    largest: Array | np.ndarray


def mask_key(key: Key, high: UInt[Array, ""], low: UInt[Array, ""]) -> Key:
    """The key of mask high·2^32 + low."""
    return jax.random.fold_in(jax.random.fold_in(key, high), low)


def over_devices(evaluate: Evaluate, mesh: Mesh, num_best: int, chunking: Chunking) -> Callable[..., BatchSummary]:
    """``run(key, high, low, per_device, num_masks, constants)``: num_masks masks from number high·2^32 + low on.

    Device r takes those from r·per_device on; per_device is a multiple of the tile, at most MAX_TILES_PER_CALL tiles.
    """
    axes = mesh.axis_names
    on_device = functools.partial(_on_device, evaluate, axes, num_best, chunking)
    everywhere = PartitionSpec()
    return jax.shard_map(on_device, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)


def _on_device(evaluate, axes, num_best, chunking, key, high, low, per_device, num_masks, constants) -> BatchSummary:
    """The part of one device, and what all devices find together."""
    first = lax.axis_index(axes) * per_device
    own = jnp.clip(num_masks - first, 0, per_device)
    per_step = chunking.tiles_per_step * TILE
    lanes = jnp.arange(per_step, dtype=jnp.int32)

    def values(offset: Int[Array, ""]) -> Float[Array, "masks"]:
        keys = _mask_keys(key, high, low, first + offset + lanes)
        return _in_parts(lambda some: evaluate(some, *constants), keys, chunking.masks_at_once)

    def step(carry):
        index, best, histogram, undefined, largest, sums = carry
        offset = index * per_step
        inside = offset + lanes < own
        found = jnp.where(inside, values(offset), jnp.nan)
        missing = jnp.isnan(found)
        histogram = histogram.at[_bins.bin_index(found)].add(jnp.where(missing, 0, 1))
        undefined += jnp.sum(inside & missing, dtype=jnp.int32)
        largest = jnp.maximum(largest, jnp.max(jnp.where(missing, -jnp.inf, found)))
        best = _merge_best(num_best, best, (found, first + offset + lanes))
        sums = lax.dynamic_update_slice_in_dim(sums, _tile_sums(found), index * chunking.tiles_per_step, 1)
        return index + 1, best, histogram, undefined, largest, sums

    dtype = jax.eval_shape(values, first).dtype
    start = (
        jnp.zeros((), jnp.int32),
        (jnp.full(num_best, jnp.nan, dtype), jnp.full(num_best, jnp.iinfo(jnp.int32).max, jnp.int32)),
        jnp.zeros(_bins.NUM_BINS, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.full((), -jnp.inf, dtype),
        jnp.zeros((4, MAX_TILES_PER_CALL + chunking.tiles_per_step), dtype),
    )
    _, best, histogram, undefined, largest, sums = lax.while_loop(lambda carry: carry[0] * per_step < own, step, start)
    gather = functools.partial(lax.all_gather, axis_name=axes)
    scales, counts, means, squares = gather(sums).swapaxes(0, 1)
    return BatchSummary(
        *map(gather, best),
        histogram=lax.psum(histogram, axes),
        undefined=lax.psum(undefined, axes),
        scales=scales,
        counts=counts,
        means=means,
        squares=squares,
        largest=lax.pmax(largest, axes),
    )


def _mask_keys(
    key: Key, high: UInt[Array, ""], low: UInt[Array, ""], places: Int[Array, "masks"]
) -> KeyArray[Array, "masks"]:
    """The keys of masks high·2^32 + low + places."""
    place = low + places.astype(jnp.uint32)
    carried = high + (place < low).astype(jnp.uint32)
    return jax.vmap(functools.partial(mask_key, key))(carried, place)


def _in_parts(
    evaluate: Callable[[Array], Array], keys: KeyArray[Array, "masks"], at_once: int
) -> Float[Array, "masks"]:
    """The objectives of masks, no more of them at once than memory allows."""
    if at_once >= len(keys):
        return evaluate(keys)
    return lax.map(evaluate, keys.reshape(-1, at_once)).reshape(-1)


def _merge_best(num_best: int, held: _Ranked, new: _Ranked) -> _Ranked:
    """The best values of both, ascending, equal ones by place; NaN comes last."""

    def merged() -> _Ranked:
        values, places = (jnp.concatenate(pair) for pair in zip(held, new, strict=True))
        values, places = lax.sort((values, places), num_keys=2)
        return values[:num_best], places[:num_best]

    # Most tiles hold none of the best, and sorting each of them would cost more than its masks.
    enters = jnp.any(~jnp.isnan(new[0]) & ~(new[0] >= held[0][-1]))
    return lax.cond(enters, merged, lambda: held)


def _tile_sums(values: Float[Array, "masks"]) -> Float[Array, "4 tiles"]:
    """Scale, count, mean and squares of each tile, as :class:`BatchSummary` has them.

    Divided by the scale, no sum overflows and no square underflows.
    """
    tiles = values.reshape(-1, TILE)
    finite = jnp.isfinite(tiles)
    known = jnp.where(finite, tiles, 0)
    scale = _power_of_two(jnp.max(jnp.abs(known), axis=1))
    known /= scale[:, None]
    count = jnp.sum(finite, axis=1, dtype=values.dtype)
    mean = jnp.sum(known, axis=1) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(finite, known - mean[:, None], 0) ** 2, axis=1)
    return jnp.stack([scale, count, mean, squares])


def _power_of_two(sizes: Float[Array, "n"]) -> Float[Array, "n"]:
    """The largest power of two in each finite size >= 0, clipped to powers whose reciprocals are normal numbers too."""
    # Infinity has all bits of the exponent and none of the mantissa.
    integer = jnp.int32 if sizes.dtype == jnp.float32 else jnp.int64
    infinity = lax.bitcast_convert_type(jnp.full((), jnp.inf, sizes.dtype), integer)
    powers = lax.bitcast_convert_type(lax.bitcast_convert_type(sizes, integer) & infinity, sizes.dtype)
    # A device may divide by multiplying with the reciprocal, and many devices take subnormal numbers for zero.
    tiny = jnp.finfo(sizes.dtype).tiny
    return jnp.clip(powers, tiny, 1 / tiny)
