"""Subset sums of up to 20 numbers, exactly: nearest subsets, coverage of [−½, ½], hitting numbers and gaps.

Items are split in two parts. The sums of one part are sorted, those of the other are searched for among them, so that
nothing but :func:`gap_statistics` holds all 2^n sums. Instances lie on leading axes and are worked through in chunks
of about 32 MiB, however many they are (under ``jax.vmap`` each function does that many times over: rather give
leading axes). Results are exact up to the rounding of the sums, in the dtype of the items.
"""

import functools
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
from sketchprune.lottery import _inputs
from sketchprune.lottery._chunks import CHUNK_BYTES, map_in_chunks

MAX_ITEMS = 20
"""Most items of one instance: they have 2^20 subsets."""
_TARGETS_AT_ONCE = 256
"""Targets of one instance that are treated together."""
_FAR = 5.0
"""Distance at which a missing neighbour is put: 0 is always a sum, so that it is never the nearest one."""


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


def nearest_subset(
    items: Float[Array | np.ndarray, "*instances n"],
    targets: Float[Array | np.ndarray, "... targets"],
    *,
    tolerance: Float[ArrayLike, ""] = 0.0,
) -> NearestSubset:
    """For each target the subset whose sum is nearest to it, or the first one that is near enough.

    Subsets are ordered by Σ 2^i over their items i. The first one is taken whose error is at most the larger of the
    tolerance and the least error: with tolerance 0 the nearest one, and of equally near ones the first. Items that
    are 0 are then never taken, and the target 0 gets the empty subset.

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
    items, targets = _checked(items), jnp.asarray(targets)
    if targets.shape[:-1] != items.shape[:-1]:
        raise ValueError(f"targets has shape {targets.shape}; it takes {(*items.shape[:-1], 'targets')}")
    _inputs.finite("targets", targets)
    known = _checks.concrete(tolerance)
    if known is not None and not known >= 0:
        raise ValueError(f"tolerance is {tolerance}; it takes a number >= 0")
    return _nearest_subset(items, targets.astype(items.dtype), jnp.asarray(tolerance, items.dtype))


@jax.jit
def _nearest_subset(items: Array, targets: Array, tolerance: Array) -> NearestSubset:
    def one_instance(values: Array, wanted: Array) -> NearestSubset:
        low, ordered, high = _halves(values, len(values) // 2)
        nearest = functools.partial(_first_near, low, ordered, high, tolerance)
        return map_in_chunks(nearest, _TARGETS_AT_ONCE, wanted)

    (*instances, n), num_targets = items.shape, targets.shape[-1]
    bytes_each = subset_bytes(n, items.dtype) * min(max(num_targets, 1), _TARGETS_AT_ONCE)
    flat = items.reshape(math.prod(instances), n), targets.reshape(math.prod(instances), num_targets)
    found = map_in_chunks(one_instance, CHUNK_BYTES // bytes_each, *flat)
    return jax.tree.map(lambda part: part.reshape(*instances, *part.shape[1:]), found)


def subset_bytes(n: int, dtype: jnp.dtype) -> int:
    """Working memory of one target's nearest subset."""
    return 6 * 2 ** (n - n // 2) * jnp.dtype(dtype).itemsize


def nearest_unchecked(items: Float[Array, "n"], target: Float[Array, ""], tolerance: Float[Array, ""]) -> NearestSubset:
    """:func:`nearest_subset` of one instance and one target, for programs that check their own inputs."""
    low, ordered, high = _halves(items, len(items) // 2)
    return _first_near(low, ordered, high, tolerance, target)


def _first_near(low: Array, ordered: Array, high: Array, tolerance: Array, target: Array) -> NearestSubset:
    """``low`` and ``high`` are the sums of the first and the last items, ``ordered`` is ``low`` sorted."""
    below, above = _neighbours(ordered, target - high)
    errors = jnp.minimum(abs((high + below) - target), abs((high + above) - target))
    near_enough = jnp.maximum(tolerance, errors.min())
    last = jnp.argmax(errors <= near_enough)
    sums = high[last] + low
    first = jnp.argmax(abs(sums - target) <= near_enough)
    subset = jnp.concatenate([_members(first, len(low)), _members(last, len(high))])
    return NearestSubset(subset, sums[first], abs(sums[first] - target))


def _members(code: Int[Array, ""], num_sums: int) -> Bool[Array, "n"]:
    """The items whose bits are set in the place that a subset has in :func:`_sums`."""
    return (code >> jnp.arange(num_sums.bit_length() - 1)) & 1 != 0


def covering_radii(
    items: Float[Array | np.ndarray, "*instances n"], *, resolution: float = 2**-8
) -> Float[Array, "*instances n+1"]:
    """How far [−½, ½] reaches from the subset sums of the first k items, for k = 0, …, n.

    max over z ∈ [−½, ½] of min_S |z − Σ_{i∈S} x_i|: every z is within ε of a sum just when this is at most ε. It
    falls with k, from ½ at k = 0. Values above the resolution are exact; where a value is at most the resolution the
    true radius is too, and the value is a lower bound of it.

    A gap between sums that is longer than twice the resolution holds a point of the grid with that spacing, so only
    the neighbours of grid points are searched for.

    Args:
        items: [*instances, n], 1 to 20 numbers for each instance.
        resolution: in (0, 1], a Python number.

    Returns:
        [*instances, n + 1], in the dtype of the items (at least float32).

    Raises:
        ValueError: no or more than 20 items, numbers that are not finite, a resolution outside (0, 1].

    Cost: time O(n 2^{n/2}/resolution) and memory O(2^{n/2} + 1/resolution) for each instance.

    Source: lueker1998subsetsum, lottery/subset-sum-rate.

    >>> covering_radii(jnp.array([0.5, -0.5])).tolist()
    [0.5, 0.5, 0.25]
    """
    _checks.interval("resolution", resolution, closed=True)
    return _covering_radii(_checked(items), _grid(resolution))


def covers(items: Float[Array | np.ndarray, "*instances n"], epsilon: float) -> Bool[Array, "*instances"]:
    """Whether every z ∈ [−½, ½] is within ε of a subset sum.

    Args:
        items: [*instances, n], 1 to 20 numbers for each instance.
        epsilon: ε, in (0, 1], a Python number.

    Returns:
        [*instances], boolean.

    Raises:
        ValueError: no or more than 20 items, numbers that are not finite, ε outside (0, 1].

    Cost: time O(n 2^{n/2}/ε) for each instance.

    Source: lueker1998subsetsum, lottery/subset-sum-thinning.

    >>> bool(covers(jnp.array([0.5, -0.5]), 0.25)), bool(covers(jnp.array([0.5, -0.5]), 0.2))
    (True, False)
    """
    _checks.interval("epsilon", epsilon, closed=True)
    return _covering_radii(_checked(items), _grid(epsilon))[..., -1] <= epsilon


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

    Cost: time O(n 2^{n/2}/min ε) for each instance, for all its prefixes together.

    Source: lueker1998subsetsum, lottery/subset-sum-rate.

    >>> hitting_numbers(jnp.array([0.5, -0.5]), [0.5, 0.25, 0.125]).tolist()
    [0, 2, 3]
    """
    if not len(epsilons):
        raise ValueError("epsilons has no entries; it takes at least one number in (0, 1]")
    for epsilon in epsilons:
        _checks.interval("epsilons", epsilon, closed=True)
    radii = _covering_radii(_checked(items), _grid(min(epsilons)))
    return jnp.sum(radii[..., None, :] > jnp.asarray(epsilons, radii.dtype)[:, None], axis=-1, dtype=jnp.int32)


def _grid(resolution: float) -> np.ndarray:
    """Points of [−½, ½], ends included, that are less than twice the resolution apart."""
    return np.linspace(-0.5, 0.5, math.ceil(1 / (2 * resolution)) + 2)


@jax.jit
def _covering_radii(
    items: Float[Array, "*instances n"], grid: Float[Array | np.ndarray, "points"]
) -> Float[Array, "*instances n+1"]:
    *instances, n = items.shape
    num_sorted = min(n, n // 2 + 2)
    points = jnp.asarray(grid, items.dtype)

    def one_instance(values: Array) -> Array:
        prefixes = [_sorted(_sums(values[:k])) for k in range(num_sorted + 1)]
        radii = jnp.stack([_largest_distance(*_gaps(ordered)) for ordered in prefixes])
        if n == num_sorted:
            return radii
        shifts = _sums(values[num_sorted:])
        return jnp.concatenate([radii, _radii_after_shifts(prefixes[-1], shifts, points)])

    bytes_each = (8 * len(grid) + 8 * 2**num_sorted) * items.dtype.itemsize
    flat = items.reshape(math.prod(instances), n)
    return map_in_chunks(one_instance, CHUNK_BYTES // bytes_each, flat).reshape(*instances, n + 1)


def _radii_after_shifts(
    ordered: Float[Array, "s"], shifts: Float[Array, "t"], points: Float[Array, "p"]
) -> Float[Array, "_"]:
    """The radii of the sums ``ordered`` shifted by the subset sums of 1, …, k more items, from gaps around points."""

    def add_shift(nearest: tuple[Array, Array], shift: Array) -> tuple[tuple[Array, Array], Array]:
        below, above = _neighbours(ordered, points - shift)
        nearest = jnp.maximum(nearest[0], shift + below), jnp.minimum(nearest[1], shift + above)
        return nearest, _largest_distance(*nearest)

    none = jnp.full_like(points, -jnp.inf), jnp.full_like(points, jnp.inf)
    _, radii = lax.scan(add_shift, none, shifts)
    # The first i items make the first 2^i shifts.
    return radii[2 ** np.arange(1, len(shifts).bit_length()) - 1]


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
    return _gap_statistics(_checked(items))


@jax.jit
def _gap_statistics(items: Array) -> GapStatistics:
    def one_instance(values: Array) -> GapStatistics:
        below, above = _gaps(_sorted(_sums(values)))
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


def _checked(items: Float[Array | np.ndarray, "*instances n"]) -> Float[Array, "*instances n"]:
    """The items as an array of at least float32."""
    items = jnp.asarray(items)
    if not 1 <= items.shape[-1] <= MAX_ITEMS:
        raise ValueError(f"items has {items.shape[-1]} numbers for each instance; it takes 1 to {MAX_ITEMS}")
    _inputs.finite("items", items)
    return items.astype(jnp.promote_types(items.dtype, jnp.float32))


def _sums(values: Float[Array, "n"]) -> Float[Array, "2**n"]:
    """The sums of all subsets, in the order of Σ 2^i over their items i."""
    sums, codes = jnp.zeros(2 ** len(values), values.dtype), np.arange(2 ** len(values))
    for i, value in enumerate(values):
        sums = sums + jnp.where(codes >> i & 1, value, 0)
    return sums


def _halves(values: Float[Array, "n"], num_low: int) -> tuple[Array, Array, Array]:
    """The sums of the first items, the same sorted, and the sums of the others."""
    low = _sums(values[:num_low])
    return low, _sorted(low), _sums(values[num_low:])


def _sorted(sums: Float[Array, "s"]) -> Float[Array, "s"]:
    """Ascending. XLA's CPU sort takes a fifth of the time for integers: the bits of the floats, ordered as they are."""
    integer = getattr(jnp, f"int{jnp.finfo(sums.dtype).bits}")
    lowest = jnp.iinfo(integer).min
    bits = lax.bitcast_convert_type(sums, integer)
    ordered = lax.sort(jnp.where(bits < 0, lowest - bits, bits))
    return lax.bitcast_convert_type(jnp.where(ordered < 0, lowest - ordered, ordered), sums.dtype)


def _neighbours(ordered: Float[Array, "s"], points: Float[Array, "*p"]) -> tuple[Array, Array]:
    """For each point the largest entry at most it and the smallest entry above it, far away where there is none.

    ``ordered`` has a power of two entries, so that halving steps find the place; indices are always in bounds.
    """
    entries = ordered.at
    count = jnp.zeros(points.shape, jnp.int32)
    for_each = len(ordered).bit_length() - 1

    def halve(step: Array, count: Array) -> Array:
        half = jnp.int32(len(ordered) // 2) >> step.astype(jnp.int32)
        return count + jnp.where(entries[count + half - 1].get(mode="promise_in_bounds") <= points, half, 0)

    count = lax.fori_loop(0, for_each, halve, count)
    count = count + (entries[count].get(mode="promise_in_bounds") <= points)
    below = entries[jnp.maximum(count - 1, 0)].get(mode="promise_in_bounds")
    above = entries[jnp.minimum(count, len(ordered) - 1)].get(mode="promise_in_bounds")
    return jnp.where(count > 0, below, -jnp.inf), jnp.where(count < len(ordered), above, jnp.inf)


def _gaps(ordered: Float[Array, "s"]) -> tuple[Float[Array, "s+1"], Float[Array, "s+1"]]:
    """The ends of the gaps between sorted sums, and of the two outside of them."""
    far = jnp.full(1, _FAR, ordered.dtype)
    return jnp.concatenate([ordered[:1] - far, ordered]), jnp.concatenate([ordered, ordered[-1:] + far])


def _largest_distance(below: Float[Array, "*k gaps"], above: Float[Array, "*k gaps"]) -> Float[Array, "*k"]:
    """The largest distance that a point of [−½, ½] within one of the gaps has to the nearest end of the gap."""
    middle = jnp.clip((below + above) / 2, -0.5, 0.5)
    return jnp.max(jnp.minimum(middle - below, above - middle), axis=-1)
