"""What the compiled programs return: both sides in one layout, what they say, and sums over trials.

Inside a program the leaves of these records are jax arrays, outside numpy arrays.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from theory.statistics import ROUNDING_UNITS

Leaf = Any
"""An array [..., components] of a record."""
Record = TypeVar("Record")


def take(record: Record, index: Any) -> Record:
    """The record with this part of each of its arrays.

    Args:
        record: a pytree of arrays.
        index: what each array is indexed with: a whole number, a slice, an array, or a tuple of these.

    Example:
        >>> take({"x": np.arange(6).reshape(3, 2)}, np.array([True, False, True]))["x"].tolist()
        [[0, 1], [4, 5]]
    """
    return jax.tree.map(lambda leaf: leaf[index], record)


class SideArrays(NamedTuple):
    """One array for each field of :class:`theory.Sides`, all of one shape [..., components].

    The fields are the values of one evaluation, their sums over trials, or their means: the record that holds this
    one says which. They are nan where the trial did not give a side.
    """

    measured: Leaf
    theory: Leaf
    scale: Leaf
    trivial: Leaf
    range: Leaf
    delta: Leaf


class Evaluation(NamedTuple):
    """Both sides, evaluated once per instance, and what they say: leaves are [instances, components].

    Attributes:
        values: the sides.
        deviation: (measured − theory) / scale, with 0/0 = 0; −∞ where the theory alone is ∞.
        violated: whether measured > theory by more than rounding.
        broken: whether a side is nan, the measured one infinite, or the theory −∞. (A bound of ∞ says nothing, and
            is true.)
    """

    values: SideArrays
    deviation: Leaf
    violated: Leaf
    broken: Leaf

    def pair(self, row: int, component: int) -> tuple[float, float]:
        """The measured side and the theory's.

        Args:
            row: the instance.
            component: its component.
        """
        return float(self.values.measured[row, component]), float(self.values.theory[row, component])


class TrialSums(NamedTuple):
    """Sums over trials, in float64: leaves are [instances, components].

    Attributes:
        trials: number of trials whose sides are finite.
        broken: number of other trials, which are left out of all sums below.
        failures: number of trials in which measured > theory by more than rounding.
        deviation: sum of the deviations (measured − theory) / scale.
        squares: sum of their squares.
        fourth_powers: sum of their fourth powers, which tells whether few trials dominate the squares.
        changed_scales: number of trials whose scale is not that of the first.
        sides: sums of the sides.
        exceeding: [instances, components, factors], number of trials in which measured > factor · theory, for the
            factors that the claim's kind asks for; trials that are broken count. None where it asks for none.
    """

    trials: Leaf
    broken: Leaf
    failures: Leaf
    deviation: Leaf
    squares: Leaf
    fourth_powers: Leaf
    changed_scales: Leaf
    sides: SideArrays
    exceeding: Leaf

    @classmethod
    def named(cls, rows: Float[np.ndarray, "instances sums components"]) -> "TrialSums":
        """The sums by name, from the rows that :func:`add_up` returns."""
        trials, failures, deviation, squares, fourth_powers, changed_scales, measured, theory = rows[:, :8].swapaxes(
            0, 1
        )
        broken, scale, trivial, range_, delta = rows[:, -5:].swapaxes(0, 1)
        exceeding = rows[:, 8:-5].swapaxes(1, 2)
        return cls(
            trials=trials,
            broken=broken,
            failures=failures,
            deviation=deviation,
            squares=squares,
            fourth_powers=fourth_powers,
            changed_scales=changed_scales,
            sides=SideArrays(measured, theory, scale, trivial, range_, delta),
            exceeding=exceeding + broken[:, :, None] if exceeding.size else None,
        )

    def means(self) -> SideArrays:
        """The sides averaged over the trials; nan where there was no trial."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return SideArrays(*(total / self.trials for total in self.sides))

    def pair(self, row: int, component: int) -> tuple[float, float]:
        """The means of the measured side and of the theory's.

        Args:
            row: the instance.
            component: its component.
        """
        trials = max(self.trials[row, component], 1)
        return float(self.sides.measured[row, component] / trials), float(self.sides.theory[row, component] / trials)


def flatten(sides: Any) -> SideArrays:
    """The :class:`theory.Sides` of one instance, broadcast to one shape and raveled to [components].

    The scale is |theory| where none was given.
    """
    measured, theory = jnp.asarray(sides.measured), jnp.asarray(sides.theory)
    shape = jnp.broadcast_shapes(measured.shape, theory.shape)

    def flat(side: Any, default: Any) -> Float[Array, " components"]:
        given = jnp.asarray(default if side is None else side, measured.dtype)
        return jnp.broadcast_to(given, shape).ravel()

    return SideArrays(
        measured=flat(measured, 0),
        theory=flat(theory, 0),
        scale=flat(sides.scale, abs(theory)),
        trivial=flat(sides.trivial, jnp.nan),
        range=flat(sides.range, jnp.nan),
        delta=flat(sides.delta, jnp.nan),
    )


class Joined(struct.PyTreeNode):
    """Records of several statements whose components follow one another, so that one operation serves all statements.

    A program has a fraction of the operations that it would have with a record for each statement, and compiles in as
    much less time.

    Attributes:
        records: of the statements whose measured sides have one dtype; a record for each dtype.
        sizes: for each record the names of its statements, with their numbers of components; static.
    """

    records: tuple[Any, ...]
    sizes: tuple[tuple[tuple[str, int], ...], ...] = struct.field(pytree_node=False)

    def map(self, function: Callable[[Any], Any]) -> "Joined":
        """The function of each record, which keeps the components in their places."""
        return Joined(tuple(map(function, self.records)), self.sizes)

    def split(self) -> dict[str, Any]:
        """The record of each statement, from leaves [instances, components, ...]."""
        named = {}
        for record, sizes in zip(self.records, self.sizes, strict=True):
            ends = np.cumsum([0, *(size for _, size in sizes)])
            for (name, _), (start, stop) in zip(sizes, itertools.pairwise(ends), strict=True):
                named[name] = take(record, (slice(None), slice(start, stop)))
        return named


def join(named: Mapping[str, SideArrays]) -> Joined:
    """The sides of several statements as one record; one for each dtype, since rounding depends on it.

    Args:
        named: statement -> its sides, leaves [components].
    """
    by_dtype: dict[Any, list[str]] = {}
    for name, sides in named.items():
        by_dtype.setdefault(sides.measured.dtype, []).append(name)
    records = tuple(
        jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(named[name] for name in names))
        for names in by_dtype.values()
    )
    sizes = tuple(tuple((name, named[name].measured.size) for name in names) for names in by_dtype.values())
    return Joined(records, sizes)


def relative_gap(measured: Leaf, theory: Leaf) -> Leaf:
    """(measured − theory) / (|measured| + |theory|), with 0/0 = 0.

    For sides > 0 it grows with measured/theory alone: 0 where they agree, and −1 where measured is 0.
    """
    size = abs(measured) + abs(theory)
    return jnp.where(size == 0, 0, (measured - theory) / jnp.where(size == 0, 1, size))


def largest_ratio(values: SideArrays) -> float:
    """The largest measured/theory, at most 1, among entries whose theory is > 0 and finite; nan where there is none."""
    known = np.isfinite(values.theory) & (np.asarray(values.theory) > 0) & np.isfinite(values.measured)
    if not known.any():
        return np.nan
    return float(np.clip(np.max(np.asarray(values.measured)[known] / np.asarray(values.theory)[known]), 0, 1))


def assess(values: SideArrays) -> Evaluation:
    """What the sides say, component by component."""
    gap = values.measured - values.theory
    size = jnp.maximum(jnp.maximum(abs(values.measured), abs(values.theory)), values.scale)
    smallest = jnp.finfo(gap.dtype).tiny
    deviation = jnp.where(gap == 0, 0, gap / jnp.maximum(values.scale, smallest))
    return Evaluation(
        values,
        deviation=jnp.where(jnp.isposinf(values.theory) & jnp.isfinite(values.measured), -jnp.inf, deviation),
        violated=gap > ROUNDING_UNITS * jnp.finfo(gap.dtype).eps * size,
        broken=~jnp.isfinite(values.measured) | jnp.isnan(values.theory) | jnp.isneginf(values.theory),
    )


def add_up(values: SideArrays, factors: Sequence[float] = ()) -> Float[Array, "sums components"]:
    """Sums over the leading axis of trials, which :meth:`TrialSums.named` names.

    They are rows of one array, summed at once, since a program with an array for each takes twice as long to compile.
    What does not depend on the trial (scale, trivial, range, delta) is taken from the first.

    Args:
        values: [trials, components].
        factors: of the theory's side, for which trials that exceed it are counted.
    """
    trial = assess(values)
    terms = [
        jnp.ones_like(trial.deviation),
        trial.violated,
        trial.deviation,
        trial.deviation**2,
        trial.deviation**4,
        values.scale != values.scale[0],
        values.measured,
        values.theory,
    ]
    thresholds = values.theory[:, None] * jnp.asarray(factors, values.theory.dtype)[:, None]
    exceeding = values.measured[:, None] > thresholds
    rows = jnp.concatenate([jnp.stack(terms, axis=1), exceeding], axis=1)  # [trials, sums, components]
    sums = jnp.sum(jnp.where(trial.broken[:, None], 0, rows), axis=0, dtype=jnp.float64)
    constants = jnp.stack([values.scale[0], values.trivial[0], values.range[0], values.delta[0]])
    broken = len(trial.broken) - sums[:1]
    return jnp.concatenate([sums, broken, sums[0] * constants])
