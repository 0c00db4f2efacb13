"""What a device does with its share of a search: masks made, evaluated and summed up, tile by tile.

Mask i comes from the key ``mask_key(key, i)`` and from nothing else. A device works through its masks in groups of
whole tiles, one program for any number of them, so that no value depends on how many masks a call covers or on how
many devices share it. What leaves the device: the best few, a histogram, and per tile a scale, how many values are
finite, their mean and the sum of squared deviations from it, in units of the scale.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, UInt

from sketchprune.search import _bins
from sketchprune.types import Key

TILE = 256
"""Masks of a tile."""
CAPACITY = 4096
"""Tiles of a device in one call, at most."""
Evaluate = Callable[..., Float[Array, "masks"]]
"""``evaluate(keys, *constants)``: the objective of the mask of each key."""


class Shape(NamedTuple):
    """How a device goes through its masks.

    Attributes:
        tiles: tiles of a group.
        lanes: masks evaluated at once; below a group they take turns.
    """

    tiles: int
    lanes: int


class Share(NamedTuple):
    """What a call finds, over all devices.

    Attributes:
        values: [devices, best], ascending; NaN where there are fewer.
        places: [devices, best], of those values, from the first mask of the call.
        histogram: [bins]; a NaN is in none.
        undefined: how many values are NaN.
        scales, counts, means, squares: [devices, tiles], of the finite values of a tile; see ``_tile_sums``.
        largest: of the values that are no NaN; −∞ if there are none.
    """

    values: Array
    places: Array
    histogram: Array
    undefined: Array
    scales: Array
    counts: Array
    means: Array
    squares: Array
    largest: Array


def mask_key(key: Key, high: UInt[Array, ""], low: UInt[Array, ""]) -> Key:
    """The key of mask high·2^32 + low."""
    return jax.random.fold_in(jax.random.fold_in(key, high), low)


def program(evaluate: Evaluate, mesh: Mesh, best: int, shape: Shape) -> Callable[..., Share]:
    """``run(key, high, low, per_device, num_masks, constants)``: so many masks from high·2^32 + low on.

    Device r takes those from r·per_device on; per_device is a multiple of the tile and at most CAPACITY tiles.
    """
    axes = mesh.axis_names
    shared = functools.partial(_device, evaluate, axes, best, shape)
    everywhere = PartitionSpec()
    return jax.shard_map(shared, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)


def _device(evaluate, axes, best, shape, key, high, low, per_device, num_masks, constants) -> Share:
    first = lax.axis_index(axes) * per_device
    own = jnp.clip(num_masks - first, 0, per_device)
    group = shape.tiles * TILE
    lanes = jnp.arange(group, dtype=jnp.int32)

    def values(offset: Int[Array, ""]) -> Float[Array, "group"]:
        place = low + (first + offset + lanes).astype(jnp.uint32)
        carried = high + (place < low).astype(jnp.uint32)
        keys = jax.vmap(functools.partial(mask_key, key))(carried, place)
        if shape.lanes >= group:
            return evaluate(keys, *constants)
        parts = keys.reshape(-1, shape.lanes)
        return lax.map(lambda some: evaluate(some, *constants), parts).reshape(-1)

    def step(carry):
        index, found, places, histogram, undefined, largest, sums = carry
        offset = index * group
        inside = offset + lanes < own
        found_now = jnp.where(inside, values(offset), jnp.nan)
        missing = jnp.isnan(found_now)
        weight = jnp.where(missing, 0, 1)
        histogram = histogram.at[_bins.bins(found_now)].add(weight)
        undefined += jnp.sum(inside & missing, dtype=jnp.int32)
        largest = jnp.maximum(largest, jnp.max(jnp.where(missing, -jnp.inf, found_now)))
        found, places = _least(best, (found, places), (found_now, first + offset + lanes))
        sums = lax.dynamic_update_slice_in_dim(sums, _tile_sums(found_now), index * shape.tiles, 1)
        return index + 1, found, places, histogram, undefined, largest, sums

    dtype = jax.eval_shape(values, first).dtype
    start = (
        jnp.zeros((), jnp.int32),
        jnp.full(best, jnp.nan, dtype),
        jnp.full(best, jnp.iinfo(jnp.int32).max, jnp.int32),
        jnp.zeros(_bins.COUNT, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.full((), -jnp.inf, dtype),
        jnp.zeros((4, CAPACITY + shape.tiles), dtype),
    )
    _, found, places, histogram, undefined, largest, sums = lax.while_loop(
        lambda carry: carry[0] * group < own, step, start
    )
    gather = functools.partial(lax.all_gather, axis_name=axes)
    scales, counts, means, squares = gather(sums).swapaxes(0, 1)
    return Share(
        gather(found),
        gather(places),
        lax.psum(histogram, axes),
        lax.psum(undefined, axes),
        scales,
        counts,
        means,
        squares,
        lax.pmax(largest, axes),
    )


def _least(best: int, held: tuple[Array, Array], new: tuple[Array, Array]) -> tuple[Array, Array]:
    """The best values of both, ascending, ties by place; NaN comes last."""

    def merged() -> tuple[Array, Array]:
        values, places = (jnp.concatenate(pair) for pair in zip(held, new, strict=True))
        values, places = lax.sort((values, places), num_keys=2)
        return values[:best], places[:best]

    # Most tiles hold none of the best: sorting each would cost more than its share.
    enters = jnp.any(~jnp.isnan(new[0]) & ~(new[0] >= held[0][-1]))
    return lax.cond(enters, merged, lambda: held)


def _tile_sums(values: Float[Array, "group"]) -> Float[Array, "4 tiles"]:
    """Per tile: a scale, how many values are finite, their mean over the scale, Σ (deviation from it / scale)².

    The scale is a power of two, of the size of the largest finite value, so that no sum overflows.
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
    """The largest power of two in each finite size >= 0, but within those whose reciprocal is normal too."""
    # All bits of the exponent, which are those of infinity, and none of the mantissa.
    whole = jnp.int32 if sizes.dtype == jnp.float32 else jnp.int64
    infinity = lax.bitcast_convert_type(jnp.full((), jnp.inf, sizes.dtype), whole)
    powers = lax.bitcast_convert_type(lax.bitcast_convert_type(sizes, whole) & infinity, sizes.dtype)
    # Divisions may be made by the reciprocal, and subnormal numbers are zero on many devices.
    tiny = jnp.finfo(sizes.dtype).tiny
    return jnp.clip(powers, tiny, 1 / tiny)
