"""Counterexamples made smaller: fewer samples, features, units and layers, more zeros and ones, and rounder numbers.

A counterexample to an identity or a bound is simplified step by step, as long as it still contradicts the statement
beyond rounding and meets the hypotheses. The claim says what may change: its ``free`` fields and its ``axes``.

Steps are tried in a fixed order and many at once, so that the same counterexample always shrinks to the same one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt32

from theory.ascent import MIN_EXCESS, perturbed
from theory.claim import Axis, Claim, Instance
from theory.counterexamples.simplify import SIMPLER, ZERO, Entries, Transform, blocks_of, total_cost, transformed
from theory.engine import Programs
from theory.instances import Group, field_names, top_field, write_down
from theory.kinds.exact import worst_entry
from theory.kinds.kind import STATEMENT, Kind
from theory.measurements import Evaluation, take
from theory.statistics import ROUNDING
from theory.verdict import Replay

MAX_EVALUATIONS = 12_000
"""Instances that are evaluated from one start."""
MAX_SHAPES = 24
"""Shapes of instances for which a program is compiled."""
SIMPLEST = 2
"""Instances, besides the counterexample that was found, from which a smaller one is looked for: the simplest ones."""
ROWS = 64
"""Instances that one call of a program evaluates; a last call is filled up, so that every call has one shape."""
SUFFICIENT_EXCESS = 0.01
"""A shrunk counterexample contradicts its statement by this part of the larger side, or by half of what it did."""


class Shrunk(NamedTuple):
    """A counterexample that nothing tried makes smaller.

    Attributes:
        raw: the instance, as a case would make it.
        key: the data of its key.
        enumerated: whether its sides are expectations over all outcomes.
        replay: the same, written down.
    """

    raw: Instance
    key: UInt32[np.ndarray, " words"]
    enumerated: bool
    replay: Replay


class Remembered(NamedTuple):
    """A counterexample that an earlier run found.

    Attributes:
        raw: the instance, as a case would make it.
        key: the data of its key.
        case: name of its case, with the name of the data set in it.
        enumerated: whether its sides are expectations over all outcomes.
    """

    raw: Instance
    key: UInt32[np.ndarray, " words"]
    case: str
    enumerated: bool


def tried_again(claim: Claim, remembered: Remembered) -> Replay | None:
    """A remembered counterexample, written down, if it contradicts the claim still.

    Args:
        claim: what it contradicted.
        remembered: the counterexample.
    """
    if not claim.kind.is_exact(enumerated=remembered.enumerated):
        return None
    search = _Search(claim, remembered.enumerated)
    start = _Candidate(remembered.raw, remembered.key, remembered.case, 0)
    if not search.excesses([start.raw], start.key)[0] > ROUNDING:
        return None
    return replace(search.written_down(start).replay, found_by="memory")


def shrink(claim: Claim, groups: Sequence[Group], found: Replay) -> Shrunk | None:
    """The smallest counterexample that is reached from the one that was found, and from the simplest of its group.

    What trials found is not shrunk itself, since no single evaluation decides: if the claim has cases whose outcomes
    are enumerated, the simplest of their instances that contradict it is. x64 must be on.

    Args:
        claim: what it contradicts.
        groups: the instances of the verification.
        found: the counterexample.

    Returns:
        The smaller counterexample, or the same where nothing is simpler; None where there is no instance that one
        evaluation shows to contradict the claim, or where it was too large to be written down.

    Cost:
        At most (1 + SIMPLEST) · MAX_EVALUATIONS evaluations, and MAX_SHAPES compilations.
    """
    groups = [group for group in groups if claim.kind.is_exact(enumerated=group.enumerable)]
    own = [group for group in groups if found.case in [case.name for case in group.cases]]
    reached = []
    for group in own or groups:
        search = _Search(claim, group.enumerable)
        reached += [(search, search.smallest(start)) for start in _starts(search, group, found)]
    if not reached:
        return None
    search, smallest = min(reached, key=lambda end: end[0].cost(end[1].raw))
    return search.written_down(smallest)


class _Candidate(NamedTuple):
    """An instance, its key, and where it was shrunk from."""

    raw: Instance
    key: np.ndarray
    case: str
    instance: int


def _starts(search: "_Search", group: Group, found: Replay) -> Iterator[_Candidate]:
    """The counterexample that was found, and the simplest instances of the group that contradict the claim as well."""
    if (start := _found(group, found)) is not None and search.excesses([start.raw], start.key)[0] > 0:
        yield start
    others = []
    for row, key in enumerate(group.keys):
        case = group.case_of(row)
        others.append(_Candidate(take(group.raw, row), key, case.name, row - case.rows.start))
    excess = search.excesses([other.raw for other in others], group.keys)
    clear = [other for other, enough in zip(others, excess >= SUFFICIENT_EXCESS, strict=True) if enough]
    yield from sorted(clear, key=lambda other: search.cost(other.raw))[:SIMPLEST]


def _found(group: Group, found: Replay) -> _Candidate | None:
    """The counterexample that was found; None where it is of another group, or its arrays are not written down."""
    case = next((case for case in group.cases if case.name == found.case), None)
    if case is None:
        return None
    row = case.rows.start + found.instance
    raw = _read(take(group.raw, row), found)
    key = np.asarray(found.key, np.uint32) if found.key else group.keys[row]
    return None if raw is None else _Candidate(raw, key, found.case, found.instance)


def _read(like: Instance, found: Replay) -> Instance | None:
    """The instance that a replay holds, with the dtypes of another one; None where it does not hold all arrays."""
    leaves, tree = jax.tree.flatten(like)
    written = [found.values[name] for name in field_names(like)]
    if any(isinstance(values, str) for values in written):
        return None
    return jax.tree.unflatten(
        tree, [np.asarray(values, leaf.dtype) for values, leaf in zip(written, leaves, strict=True)]
    )


class _Search:
    """The search for a smaller counterexample: what it may change, and what it has spent."""

    def __init__(self, claim: Claim, enumerated: bool):
        self.claim = claim
        self.enumerated = enumerated
        self.evaluations = 0
        self.shapes: set[Any] = set()
        self._programs = Programs(claim)

    def smallest(self, start: _Candidate) -> _Candidate:
        """What is left when nothing more can be cut, set to zero, or rounded."""
        self.evaluations = 0
        excess = self.excesses([start.raw], start.key)[0]
        required = min(excess, max(min(SUFFICIENT_EXCESS, excess / 2), 10 * ROUNDING))

        def contradicts(raws: list[Instance]) -> np.ndarray:
            return np.where((found := self.excesses(raws, start.key)) >= required, found, -np.inf)

        raw = self._simplified(start.raw, (ZERO,), contradicts)
        raw = self._without_idle_entries(raw, contradicts)
        cost = math.inf
        while self.cost(raw) < cost:
            cost = self.cost(raw)
            raw = self._simplified(self._cut(raw, contradicts), SIMPLER, contradicts)
        return start._replace(raw=raw)

    def cost(self, raw: Instance) -> int:
        """How large and how complicated an instance is: its entries, and the digits of those that are free."""
        free = self._free_leaves(raw)
        entries = sum(np.size(leaf) for leaf in jax.tree.leaves(raw))
        return entries + sum(total_cost(leaf.ravel()) for _, leaf in free)

    def excesses(self, raws: list[Instance], keys: np.ndarray) -> np.ndarray:
        """By how much each instance contradicts the claim, relative to its larger side.

        −∞ for those that do not meet the hypotheses, give a number that is not finite, have a shape that is no
        instance's, or come after the last evaluation that may be spent.
        """
        found = []
        keys = np.broadcast_to(keys, (len(raws), keys.shape[-1]))
        for first in range(0, len(raws), ROWS):
            some = raws[first : first + ROWS]
            self.evaluations += len(some)
            sides = self._evaluate(some, keys[first : first + ROWS]) if self.evaluations <= MAX_EVALUATIONS else None
            found.append(np.full(len(some), -np.inf) if sides is None else sides[: len(some)])
        return np.concatenate([[], *found])

    def _evaluate(self, raws: list[Instance], keys: np.ndarray) -> np.ndarray | None:
        """The excesses of instances of one shape, at most ROWS of them; None where they have none."""
        shape = jax.tree.structure(raws[0]), tuple(np.shape(leaf) for leaf in jax.tree.leaves(raws[0]))
        if shape not in self.shapes and len(self.shapes) >= MAX_SHAPES:
            return None
        self.shapes.add(shape)
        try:
            filled, keys = _filled(raws, keys)
            sides, admissible = self._evaluated(filled, keys)
        except (TypeError, ValueError):  # what a trial raises for shapes that do not fit
            return None
        excess = relative_excess(self.claim.kind, sides)
        if np.any(excess[admissible] > 0):
            excess = np.where(self._is_rounding(filled, keys, sides), -np.inf, excess)
        return np.where(admissible, np.max(excess, axis=1, initial=-np.inf), -np.inf)

    def _is_rounding(self, raws: Instance, keys: np.ndarray, sides: Evaluation) -> np.ndarray:
        """Where changes of the inputs in their last place explain measured − theory, [instances, components]."""
        moved = jax.tree.map(partial(perturbed, np.random.default_rng(0)), raws)
        again = self._evaluated(moved, keys)[0].values
        gap = sides.values.measured - sides.values.theory
        with np.errstate(invalid="ignore"):
            change = np.nan_to_num(abs(again.measured - again.theory - gap), nan=0.0)
            return abs(gap) <= MIN_EXCESS * change

    def _evaluated(self, raws: Instance, keys: np.ndarray) -> tuple[Evaluation, np.ndarray]:
        """The claim's sides on ROWS instances, and which of these meet the hypotheses."""
        instances, admissible = self._programs.prepare(raws)
        return self._programs.evaluate(enumerated=self.enumerated)(instances, keys)[STATEMENT], admissible

    def written_down(self, reached: _Candidate) -> Shrunk:
        """The result, with its sides."""
        sides, admissible = self._evaluated(*_filled([reached.raw], reached.key[None]))
        kept = np.arange(ROWS) == 0
        _, component = worst_entry(self.claim.kind.discrepancy(sides), sides.broken, admissible & kept)
        stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], reached.raw)
        pair = sides.pair(0, component)
        replay = write_down(stacked, 0, reached.case, reached.instance, component, pair, "shrinking")
        replay = replace(replay, key=tuple(map(int, reached.key)))
        return Shrunk(reached.raw, reached.key, self.enumerated, replay)

    # --- Cuts

    def _without_idle_entries(self, raw: Instance, contradicts: Callable[[list[Instance]], np.ndarray]) -> Instance:
        """The instance without those entries of its axes with which only zeros go; all at once, for one program."""
        smaller = raw
        for axis in self.claim.axes.values():
            size, non_zero = axis.size(smaller), self._count_non_zero(smaller)
            for index in reversed(range(size)):
                kept = np.delete(np.arange(axis.size(smaller)), index)
                rest = list(_instances(axis, smaller, [kept])) if len(kept) else []
                if rest and self._count_non_zero(rest[0]) == non_zero:
                    smaller = rest[0]
        return smaller if contradicts([smaller])[0] > 0 else raw

    def _count_non_zero(self, raw: Instance) -> int:
        """The free entries that are not 0."""
        return sum(int(np.count_nonzero(leaf)) for _, leaf in self._free_leaves(raw))

    def _cut(self, raw: Instance, contradicts: Callable[[list[Instance]], np.ndarray]) -> Instance:
        """The instance without the entries of its axes that it can do without."""
        for axis in self.claim.axes.values():
            removed = axis.size(raw) // 2
            while removed:
                size = axis.size(raw)
                smaller = list(_instances(axis, raw, _kept_entries(size, removed)))
                excess = contradicts(smaller)
                if np.max(excess, initial=-np.inf) > 0:
                    raw = smaller[int(np.argmax(excess))]
                    removed = min(removed, axis.size(raw) // 2)
                else:
                    removed //= 2
        return raw

    # --- Values

    def _free_leaves(self, raw: Instance) -> list[tuple[int, np.ndarray]]:
        """Number and array of each leaf of floating entries that may change."""
        movable = self.claim.movable_fields
        return [
            (number, np.asarray(leaf))
            for number, (name, leaf) in enumerate(zip(field_names(raw), jax.tree.leaves(raw), strict=True))
            if top_field(name) in movable and np.issubdtype(leaf.dtype, np.floating)
        ]

    def _simplified(
        self, raw: Instance, transforms: tuple[Transform, ...], contradicts: Callable[[list[Instance]], np.ndarray]
    ) -> Instance:
        """The instance with simpler entries: whole fields first, then rows and columns, then single entries."""
        free = self._free_leaves(raw)
        leaves, tree = jax.tree.flatten(raw)
        entries = np.concatenate([[], *(leaf.ravel() for _, leaf in free)])

        def with_entries(values: Entries) -> Instance:
            changed, start = list(leaves), 0
            for number, leaf in free:
                changed[number] = values[start : start + leaf.size].reshape(leaf.shape).astype(leaf.dtype)
                start += leaf.size
            return jax.tree.unflatten(tree, changed)

        def holds(candidates: list[Entries]) -> np.ndarray:
            return contradicts([with_entries(candidate) for candidate in candidates]) > 0

        for transform in transforms:
            for blocks in blocks_of([leaf.shape for _, leaf in free]):
                entries = transformed(entries, blocks, transform, holds)
        return with_entries(entries)


def _filled(raws: list[Instance], keys: np.ndarray) -> tuple[Instance, np.ndarray]:
    """ROWS instances, stacked, and their keys: those given, and the last one again."""
    rows = np.minimum(np.arange(ROWS), len(raws) - 1)
    return jax.tree.map(lambda *leaves: np.stack(leaves)[rows], *raws), keys[rows]


def _instances(axis: Axis, raw: Instance, choices: list[np.ndarray]) -> Iterator[Instance]:
    """The instance cut in each of some ways, without those that leave no instance."""
    for kept in choices:
        try:
            yield axis.keep(raw, kept)
        except ValueError:
            continue


def relative_excess(kind: Kind, sides: Evaluation) -> np.ndarray:
    """By how much each [instance, component] contradicts a statement, relative to the larger side and the scale.

    Args:
        kind: says what contradicts it.
        sides: in float64; where one is not finite the excess is −∞.
    """
    values = sides.values
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        gap = values.measured - values.theory
        size = np.maximum(np.maximum(abs(values.measured), abs(values.theory)), values.scale)
        relative = np.where(gap == 0, 0, gap / np.maximum(size, np.finfo(float).tiny))
        excess = kind.discrepancy(sides._replace(deviation=relative))
    return np.where(sides.broken | ~np.isfinite(excess), -np.inf, excess)


def _kept_entries(size: int, removed: int) -> list[np.ndarray]:
    """Which entries of an axis are kept: every choice where there are few, else all but runs of neighbours."""
    everything = np.arange(size)
    if math.comb(size, removed) <= ROWS:
        return [np.delete(everything, list(gone)) for gone in combinations(range(size), removed)]
    starts = np.unique(np.linspace(0, size - removed, ROWS).astype(int))
    return [np.delete(everything, slice(start, start + removed)) for start in starts]
