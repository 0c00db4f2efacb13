"""Runs over all pairs of samples in blocks that fit memory.

Samples are cut into blocks of one size; the last block overlaps the one before it where the size does not divide
their number. A pass over a block stores the parts of its samples' Jacobians, and each pair of blocks is contracted
to a block of the kernel.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from sketchprune.kernels import _plan
from sketchprune.kernels._contraction import Parts, contract, stored_parts
from sketchprune.kernels._network import Network
from sketchprune.kernels._plan import Plan, choose_plan
from sketchprune.kernels.sensitivities import sensitivities

_WORTHWHILE_WORK = 2.5e7
"""Multiply-adds for a pair of blocks that hide the overhead of one step of the loop."""
_MAX_UNROLLED_PASSES = 4
"""Passes that are written out: convolutions are many times slower inside a loop on a CPU."""
_MAX_UNROLLED_PAIRS = 10
"""Pairs of blocks that are written out, as many as four blocks have: a third faster for dense layers than a loop."""


class Spans(NamedTuple):
    """Samples cut into blocks of one size.

    Attributes:
        size: The number of samples in a block.
        starts: Where each block starts.
        new: Where the samples of each block start that no earlier block had.
    """

    size: int
    starts: np.ndarray
    new: np.ndarray


Index = Int[Array, ""] | np.integer
"""A number of a sample, traced inside the loop over pairs."""


class Pair(NamedTuple):
    """Two blocks of samples.

    Attributes:
        first: Where the first block starts.
        second: Where the second block starts.
        first_new: Where the samples of the first block start that no earlier block had.
        second_new: The same for the second block.
        is_first_changed: 1 where the first block differs from that of the pair before, else 0.
    """

    first: Index
    second: Index
    first_new: Index
    second_new: Index
    is_first_changed: Index


Update = Callable[[Any, Array, Pair], Any]
"""From a state, the values of a kernel block and its pair to the next state."""


class _Blocking(NamedTuple):
    """How much is done at once.

    Attributes:
        store_all: Whether the parts of all samples are computed once and stored, or those of a block when needed.
        block: The most samples in a block.
        passed: The most samples in one pass.
    """

    store_all: bool
    block: int
    passed: int


class _Side(NamedTuple):
    """The samples of one argument of the kernel, in blocks.

    Attributes:
        spans: How they are cut.
        parts: From where a block starts to the parts of its samples.
    """

    spans: Spans
    parts: Callable[[Any], Parts]


def cut(samples: int, most: int) -> Spans:
    """The samples in as few blocks of at most ``most`` as possible."""
    size = math.ceil(samples / math.ceil(samples / most))
    new = np.arange(0, samples, size, dtype=np.int32)
    return Spans(size, np.minimum(new, samples - size), new)


def fold_pairs(
    update: Update,
    start: Any,
    net: Network,
    x1: Array,
    x2: Array | None,
    *,
    trace: bool,
    block_size: int | None,
) -> Any:
    """Run ``update(state, values, pair)`` over all pairs of blocks; without ``x2`` over half of them."""
    if not (net.structure.layers or net.structure.plain):  # outputs that depend on no parameter
        return start
    symmetric = x2 is None
    samples = len(x1) if x2 is None else max(len(x1), len(x2))
    plan = choose_plan(net, samples=samples, trace=trace)
    blocking = _blocking(plan, samples, symmetric=symmetric, block_size=block_size)
    left = _side(net, plan, x1, blocking)
    right = left if x2 is None else _side(net, plan, x2, blocking)
    pairs = block_pairs(left.spans, right.spans, symmetric=symmetric)

    def values(first: Parts, second: Parts) -> Array:
        return contract(net.structure, plan, first, second, trace=trace)

    few = blocking.store_all and len(pairs) <= _MAX_UNROLLED_PAIRS
    if len(pairs) == 1 or (few and "hadamard" not in plan.orders):  # Hadamard products take longer outside a loop
        return _fold_unrolled(update, start, values, left, right, pairs)
    return _fold_in_loop(update, start, values, left, right, pairs)


def _blocking(plan: Plan, samples: int, *, symmetric: bool, block_size: int | None) -> _Blocking:
    """The largest blocks that fit into memory; smaller ones where cutting a symmetric kernel saves work."""
    store_all = samples * plan.stored <= _plan.MAX_STORED
    passed = max(_plan.MAX_STORED // plan.passing, 1)
    if block_size is not None:
        return _Blocking(store_all, block_size, min(passed, block_size))
    block = math.isqrt(_plan.MAX_PAIRED // plan.paired)
    if not store_all:
        block = min(block, _plan.MAX_STORED // (2 * plan.stored))
    if symmetric:
        # With four blocks ten of sixteen pairs are computed. Smaller blocks are not worth their overhead.
        worthwhile = math.ceil(math.sqrt(_WORTHWHILE_WORK / (plan.work + 1)))
        block = min(block, max(math.ceil(samples / 4), worthwhile))
    return _Blocking(store_all, max(block, 1), passed)


def _side(net: Network, plan: Plan, x: Array, blocking: _Blocking) -> _Side:
    """The samples in blocks, with their parts stored or computed when needed."""
    spans = cut(len(x), blocking.block)

    def parts_of(sample: Array) -> Parts:
        return stored_parts(plan, sensitivities(net.structure, net.leaves, sample[None]))

    if blocking.store_all:
        every = _pass_over(parts_of, x, blocking.passed)
        return _Side(
            spans, lambda start: jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part, start, spans.size), every)
        )
    at_once = min(blocking.passed, spans.size)
    return _Side(
        spans,
        lambda start: lax.map(parts_of, lax.dynamic_slice_in_dim(x, start, spans.size), batch_size=at_once),
    )


def _pass_over(parts_of: Callable[[Array], Parts], x: Array, most: int) -> Parts:
    """The parts of every sample, from passes over at most ``most`` samples."""
    if len(x) > _MAX_UNROLLED_PASSES * most:
        return lax.map(parts_of, x, batch_size=most)
    every: list[Parts] = []
    for start in range(0, len(x), most):
        chunk = x[start : start + most]
        if every:  # the barrier lets a pass begin only after the one before has ended, so that memory holds one
            chunk, every = lax.optimization_barrier((chunk, every))
        every.append(jax.vmap(parts_of)(chunk))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *every)


def block_pairs(left: Spans, right: Spans, *, symmetric: bool) -> list[Pair]:
    """All pairs of blocks, those of one first block after another; only those with first <= second if symmetric."""
    pairs = []
    for i in range(len(left.starts)):
        first_second = i if symmetric else 0
        for j in range(first_second, len(right.starts)):
            changed = np.int32(j == first_second)
            pairs.append(Pair(left.starts[i], right.starts[j], left.new[i], right.new[j], changed))
    return pairs


def _fold_unrolled(
    update: Update, state: Any, values: Callable[[Parts, Parts], Array], left: _Side, right: _Side, pairs: list[Pair]
) -> Any:
    """One pair after another, written out."""
    for pair in pairs:
        state = update(state, values(left.parts(pair.first), right.parts(pair.second)), pair)
    return state


def _fold_in_loop(
    update: Update, start: Any, values: Callable[[Parts, Parts], Array], left: _Side, right: _Side, pairs: list[Pair]
) -> Any:
    """One pair after another, in a loop that keeps the parts of the first block while it stays the same."""

    def step(carry: tuple[Any, Parts], pair: Pair) -> tuple[tuple[Any, Parts], None]:
        state, first = carry
        first = lax.cond(pair.is_first_changed == 1, lambda: left.parts(pair.first), lambda: first)
        return (update(state, values(first, right.parts(pair.second)), pair), first), None

    stacked = Pair(*(jnp.asarray(numbers) for numbers in np.array(pairs, np.int32).T))
    empty = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(left.parts, 0))
    return lax.scan(step, (start, empty), stacked)[0][0]
