"""How subset sums of random numbers cover [−½, ½]: radii, hitting numbers, gaps, and random thinning of the items.

Instances lie on leading axes and are worked through in chunks of about 32 MiB. Give leading axes in place of
``jax.vmap``, under which each function uses that memory many times over. Results are exact up to the rounding of the
sums, in the dtype of the items.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import stats
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs, _sums
from sketchprune.lottery._chunks import CHUNK_BYTES, map_in_chunks

_NUM_SORTED = 10
"""Items whose sums are sorted, at most: about those that [−½, ½] needs to be covered within 0.01."""
_INSTANCES_AT_ONCE = 8
"""Instances whose items are added together: a few, since all wait for the last of them to be covered."""
_FAR = 5.0
"""Distance at which a missing neighbour is put: 0 is always a sum, so that it is never the nearest one."""


class GapStatistics(NamedTuple):
    """How the subset sums of each instance lie in [−½, ½], which they cut into pieces.

    Attributes:
        num_sums: how many subsets have their sum in [−½, ½].
        largest_gap: the length of the largest piece.
        covering_radius: the largest distance of a point of [−½, ½] to the nearest sum, wherever that lies.
        mean_distance: the mean of that distance over [−½, ½].
    """

    num_sums: Int[Array, "*instances"]
    largest_gap: Float[Array, "*instances"]
    covering_radius: Float[Array, "*instances"]
    mean_distance: Float[Array, "*instances"]


@checked
def covering_radii(
    items: Float[Array | np.ndarray, "*instances n"], *, resolution: float = 2**-8
) -> Float[Array, "*instances n+1"]:
    """The largest distance of a point of [−½, ½] to the subset sums of the first k items, for k = 0, …, n.

    max over z ∈ [−½, ½] of min_S |z − Σ_{i∈S} x_i|, so every z is within ε of a sum if and only if this is at most ε.

    It falls with k, from ½ at k = 0. Values above the resolution are exact; a value at or below it says only that the
    radius is at most the resolution. (A gap between sums that is longer than twice the resolution holds a point of the
    grid with that spacing, so only neighbours of grid points are searched for.)

    Args:
        items: [*instances, n], 1 to 20 numbers for each instance.
        resolution: in (0, 1], a Python number.

    Returns:
        [*instances, n + 1], in the dtype of the items (at least float32).

    Raises:
        ValueError: no or more than 20 items, numbers that are not finite, a resolution outside (0, 1].

    Cost: time at most O(n 2^{n/2}/resolution) and memory O(2^{n/2} + 1/resolution) for each instance.

    Source: lueker1998subsetsum, lottery/subset-sum-rate.

    >>> covering_radii(jnp.array([0.5, -0.5])).tolist()
    [0.5, 0.5, 0.25]
    """
    _checks.interval("resolution", resolution, closed=True)
    return _covering_radii(_sums.checked_items(items), _grid(resolution), resolution)


@checked
def covers(items: Float[Array | np.ndarray, "*instances n"], epsilon: float) -> Bool[Array, "*instances"]:
    """Whether every z ∈ [−½, ½] is within ε of a subset sum.

    Args:
        items: [*instances, n], 1 to 20 numbers for each instance.
        epsilon: ε, in (0, 1], a Python number.

    Returns:
        [*instances], boolean.

    Raises:
        ValueError: no or more than 20 items, numbers that are not finite, ε outside (0, 1].

    Cost: time at most O(n 2^{n/2}/ε) for each instance.

    Source: lueker1998subsetsum, lottery/subset-sum-thinning.

    >>> bool(covers(jnp.array([0.5, -0.5]), 0.25)), bool(covers(jnp.array([0.5, -0.5]), 0.2))
    (True, False)
    """
    _checks.interval("epsilon", epsilon, closed=True)
    return _covering_radii(_sums.checked_items(items), _grid(epsilon), epsilon)[..., -1] <= epsilon


@checked
def hitting_numbers(
    items: Float[Array | np.ndarray, "*instances n"], epsilons: Sequence[float]
) -> Int[Array, "*instances epsilons"]:
    """How many items are needed, added one by one in their order, until every z ∈ [−½, ½] is within ε of a sum.

    The least k such that the first k items cover [−½, ½], and n + 1 where all n do not. It is at least
    log₂(1/(2ε)), since k items have 2^k sums.

    Args:
        items: [*instances, n], 1 to 20 numbers for each instance.
        epsilons: one or more ε, in (0, 1], Python numbers; the smallest decides the cost.

    Returns:
        [*instances, epsilons], whole numbers from 0 to n + 1.

    Raises:
        ValueError: no or more than 20 items, numbers that are not finite, no ε, or one outside (0, 1].

    Cost: time at most O(n 2^{n/2}/min ε) for each instance, all ε together.

    Source: lueker1998subsetsum, lottery/subset-sum-rate.

    >>> hitting_numbers(jnp.array([0.5, -0.5]), [0.5, 0.25, 0.125]).tolist()
    [0, 2, 3]
    """
    if not len(epsilons):
        raise ValueError("epsilons has no entries; it takes at least one number in (0, 1]")
    for epsilon in epsilons:
        _checks.interval("epsilons", epsilon, closed=True)
    radii = _covering_radii(_sums.checked_items(items), _grid(min(epsilons)), min(epsilons))
    return jnp.sum(radii[..., None, :] > jnp.asarray(epsilons, radii.dtype)[:, None], axis=-1, dtype=jnp.int32)


def _grid(resolution: float) -> np.ndarray:
    """Points of [−½, ½], ends included, that are less than twice the resolution apart."""
    return np.linspace(-0.5, 0.5, math.ceil(1 / (2 * resolution)) + 2)


@jax.jit
def _covering_radii(
    items: Float[Array, "*instances n"], grid: Float[Array | np.ndarray, "points"], resolution: Float[ArrayLike, ""]
) -> Float[Array, "*instances n+1"]:
    *instances, n = items.shape
    num_sorted = min(n, n // 2 + 2, _NUM_SORTED)
    points, enough = jnp.asarray(grid, items.dtype), jnp.asarray(resolution, items.dtype)

    def one_instance(values: Array) -> Array:
        prefixes = [jnp.zeros(1, values.dtype)]
        for value in values[:num_sorted]:
            prefixes.append(_sums.with_item(prefixes[-1], value))
        radii = jnp.stack([_largest_distance(*_gaps(ordered)) for ordered in prefixes])
        if n == num_sorted:
            return radii
        shifts = _sums.all_sums(values[num_sorted:])
        return jnp.concatenate([radii, _radii_after_shifts(prefixes[-1], shifts, points, enough)])

    bytes_each = (8 * len(grid) + 8 * 2**num_sorted) * items.dtype.itemsize
    at_once = min(_INSTANCES_AT_ONCE, CHUNK_BYTES // bytes_each)
    return map_in_chunks(one_instance, at_once, items.reshape(math.prod(instances), n)).reshape(*instances, n + 1)


def _radii_after_shifts(
    ordered: Float[Array, "s"], shifts: Float[Array, "t"], points: Float[Array, "p"], enough: Float[Array, ""]
) -> Float[Array, "_"]:
    """The radii of the sums ``ordered`` shifted by the subset sums of 1, 2, … more items, from gaps around points.

    Shifts are added one by one until the radius is small enough. The rest of the radii are 0 then.
    """
    num_items = len(shifts).bit_length() - 1
    items_of_shift = jnp.asarray([code.bit_length() for code in range(len(shifts))], jnp.int32)

    def unfinished(state: tuple[Array, ...]) -> Bool[Array, ""]:
        step, radius, *_ = state
        return (step < len(shifts)) & (radius > enough)

    def add_shift(state: tuple[Array, ...]) -> tuple[Array, ...]:
        step, _, below, above, radii = state
        nearest_below, nearest_above = _sums.neighbours(ordered, points - shifts[step])
        below = jnp.maximum(below, shifts[step] + nearest_below)
        above = jnp.minimum(above, shifts[step] + nearest_above)
        radius = _largest_distance(below, above)
        return step + 1, radius, below, above, radii.at[items_of_shift[step]].set(radius)

    none = jnp.full_like(points, -jnp.inf), jnp.full_like(points, jnp.inf)
    start = jnp.int32(0), jnp.asarray(jnp.inf, points.dtype), *none, jnp.zeros(num_items + 1, points.dtype)
    return lax.while_loop(unfinished, add_shift, start)[-1][1:]


@checked
def gap_statistics(items: Float[Array | np.ndarray, "*instances n"]) -> GapStatistics:
    """How the subset sums lie in [−½, ½]: their number, the largest gap, the largest and the mean distance to them.

    From all sums, sorted: the plain form of what :func:`covering_radii` finds without them, exact at every scale.

    Args:
        items: [*instances, n], 1 to 20 numbers for each instance.

    Returns:
        One number of each kind for each instance.

    Raises:
        ValueError: no or more than 20 items, or numbers that are not finite.

    Cost: time O(n 2^n) for each instance, memory 8 · 2^n numbers.

    Source: lottery/subset-sum-rate.

    >>> [part.tolist() for part in gap_statistics(jnp.array([0.5, -0.5]))]
    [4, 0.5, 0.25, 0.125]
    """
    return _gap_statistics(_sums.checked_items(items))


@jax.jit
def _gap_statistics(items: Array) -> GapStatistics:
    def one_instance(values: Array) -> GapStatistics:
        below, above = _gaps(_sums.sort(_sums.all_sums(values)))
        start, end = jnp.maximum(below, -0.5), jnp.minimum(above, 0.5)
        inside = end > start
        middle = jnp.clip((below + above) / 2, start, end)
        # The integral of the distance over a gap: z − below up to the middle, above − z from there on.
        rising = (middle - start) * ((start + middle) / 2 - below)
        falling = (end - middle) * (above - (middle + end) / 2)
        return GapStatistics(
            num_sums=jnp.sum(abs(below[1:]) <= 0.5, dtype=jnp.int32),
            largest_gap=jnp.max(jnp.where(inside, end - start, 0)),
            covering_radius=_largest_distance(below, above),
            mean_distance=jnp.sum(jnp.where(inside, rising + falling, 0)),
        )

    *instances, n = items.shape
    flat = items.reshape(math.prod(instances), n)
    found = map_in_chunks(one_instance, CHUNK_BYTES // (8 * 2**n * items.dtype.itemsize), flat)
    return jax.tree.map(lambda part: part.reshape(instances), found)


@checked
def thinned_probability(
    dense: Float[Array | np.ndarray, "*batch counts"], items: Int[ArrayLike, ""], density: Float[ArrayLike, ""]
) -> Float[Array, "*batch"]:
    """The probability that a random part of n items covers [−½, ½], from the probabilities that k items do.

    Σ_k Bin(k; n, p) P(k items cover), for items that are independent, alike and kept independently.

    Args:
        dense: [*batch, m + 1], P(k items cover) for k = 0, …, m.
        items: n, from 1 to m.
        density: p, in [0, 1], the probability that an item is kept.

    Returns:
        [*batch], in the dtype of ``dense``.

    Raises:
        ValueError: n below 1 or above m, or a density outside [0, 1].

    Cost: O(m).

    Source: lottery/subset-sum-thinning.

    >>> round(float(thinned_probability(jnp.array([0.0, 0.5, 1.0]), 2, 0.5)), 4)
    0.5
    """
    dense = jnp.asarray(dense)
    known = _checks.whole("items", items, least=1)
    if known is not None and known >= dense.shape[-1]:
        raise ValueError(f"items is {items}; it takes at most {dense.shape[-1] - 1}, the most that dense speaks of")
    _inputs.probability("density", density)
    counts = jnp.arange(dense.shape[-1])
    weights = stats.binom.pmf(counts, jnp.asarray(items), jnp.asarray(density, dense.dtype))
    return jnp.sum(jnp.where(counts <= items, weights, 0).astype(dense.dtype) * dense, axis=-1)


@checked
def thinned_items(items: int, density: float, delta: float) -> int:
    """How many items are enough once they are kept at random, if k items are enough with probability 1 − δ/2.

    The least n ≥ max(2k, 8 log(2/δ))/p: by Chernoff's bound at least k of them are kept with probability 1 − δ/2,
    and together they are enough with probability 1 − δ. Works on the host.

    Args:
        items: k, at least 1.
        density: p, in (0, 1].
        delta: δ, in (0, 1).

    Returns:
        n.

    Raises:
        ValueError: numbers outside their ranges.

    Cost: O(1).

    Source: lottery/subset-sum-thinning.

    >>> thinned_items(16, 0.5, 0.1)
    64
    """
    _checks.whole("items", items, least=1)
    _checks.interval("density", density, closed=True)
    _checks.interval("delta", delta, closed=False)
    return math.ceil(max(2 * items, 8 * math.log(2 / delta)) / density)


def _gaps(ordered: Float[Array, "s"]) -> tuple[Float[Array, "s+1"], Float[Array, "s+1"]]:
    """The ends of the gaps between sorted sums, and of the two outside of them."""
    far = jnp.full(1, _FAR, ordered.dtype)
    return jnp.concatenate([ordered[:1] - far, ordered]), jnp.concatenate([ordered, ordered[-1:] + far])


def _largest_distance(below: Float[Array, "*k gaps"], above: Float[Array, "*k gaps"]) -> Float[Array, "*k"]:
    """The largest distance that a point of [−½, ½] within one of the gaps has to the nearest end of the gap."""
    middle = jnp.clip((below + above) / 2, -0.5, 0.5)
    return jnp.max(jnp.minimum(middle - below, above - middle), axis=-1)
