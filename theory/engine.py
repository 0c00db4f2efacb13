"""The compiled programs of a verification: make the instances, evaluate them exactly, run trials on them.

All instances of the cases that share a shape are stacked on one axis, so that one program serves all cases
and all mutants; compilation is nearly the whole cost of a claim.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt

from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.claim import Case, Claim, Instance, Probability, Sides, unprepared

ROUNDING = 4096 * float(jnp.finfo(jnp.float64).eps)
"""Relative error that rounding explains in float64, in computations of the size that claims do."""


class Program:
    """A function of host arrays to host arrays, compiled once a shape; any thread may call it.

    A program runs in one thread. LAPACK's calls hold a thread of XLA's pool while they wait for others of it: as many
    at once as the pool has threads wait for ever, and a program in several threads would make two at once. The other
    options cut the time of compilation to a quarter, and the programs of the catalogue run as fast.
    """

    _options = {
        "xla_cpu_multi_thread_eigen": False,
        "xla_backend_optimization_level": "1",
        "xla_cpu_use_fusion_emitters": False,
    }

    def __init__(self, function: Callable):
        self._jitted = jax.jit(function, compiler_options=self._options)
        self._executables: dict[Any, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        shapes = (jnp.result_type(float), tree, *((np.shape(leaf), np.result_type(leaf)) for leaf in leaves))
        if shapes not in self._executables:
            self._executables[shapes] = self._jitted.lower(*arguments).compile()
        return jax.device_get(self._executables[shapes](*arguments))


Leaf = Any
"""A jax array inside a program, a numpy array outside."""


class Flat(NamedTuple):
    """Sides of one name, broadcast and raveled to [..., components]; nan where a side was not given."""

    measured: Leaf
    theory: Leaf
    scale: Leaf
    trivial: Leaf
    width: Leaf
    delta: Leaf


class Assessed(NamedTuple):
    """Sides and what they say: all leaves are [..., components].

    Attributes:
        flat: the sides.
        deviation: (measured − theory) / scale, 0/0 = 0.
        violated: measured > theory by more than rounding.
        broken: a side is nan, the measured one infinite, or the theory −∞ (a bound of ∞ says nothing, and is true).
    """

    flat: Flat
    deviation: Leaf
    violated: Leaf
    broken: Leaf


class Totals(NamedTuple):
    """Sums over trials, float64, [instances, components]."""

    trials: Leaf
    broken: Leaf
    failures: Leaf
    deviation: Leaf
    square: Leaf
    fourth: Leaf
    """Fourth powers of the deviations: whether few trials carry the sum of squares."""
    varying: Leaf
    """Trials whose scale is not that of the first."""
    flat: Flat


def taken(record: Any, rows: Any) -> Any:
    """These rows of every array of a record."""
    return jax.tree.map(lambda leaf: leaf[rows], record)


@dataclass(frozen=True)
class Group:
    """Instances of the cases of one shape, as numpy arrays; axis 0 runs over cases, then over their instances.

    Attributes:
        cases: the cases.
        raw: what the cases made.
        instances: the same, prepared.
        admissible: [cases * instances].
        keys: [cases * instances, words], key data; instance i of a case is the same at every tier.
    """

    cases: tuple[Case, ...]
    raw: Instance
    instances: Instance
    admissible: np.ndarray
    keys: np.ndarray

    @property
    def enumerable(self) -> bool:
        return self.cases[0].enumerable


def groups(claim: Claim, count: int, seed: int, dataset: Dataset, *, long: bool = False) -> list[Group]:
    """``count`` instances of every case that runs, in groups of one shape."""
    shapes: dict[Any, list[tuple[Case, Instance, np.ndarray]]] = {}
    for case in claim.chosen(long=long):
        raw, keys = _make(claim.id, case, count, seed, dataset)
        leaves, tree = jax.tree.flatten(raw)
        shape = case.enumerable, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        named = replace(case, name=case.name.format(data=dataset.name))
        shapes.setdefault(shape, []).append((named, raw, keys))
    made = []
    for members in shapes.values():
        cases, raws, keys = zip(*members, strict=True)
        raw = jax.tree.map(lambda *leaves: np.concatenate(leaves), *raws)
        instances, admissible = prepare(claim)(raw)
        made.append(Group(cases, raw, instances, admissible, np.concatenate(keys)))
    return made


def _make(claim_id: str, case: Case, count: int, seed: int, dataset: Dataset) -> tuple[Instance, np.ndarray]:
    """Instances of one case, and their keys: adding a claim or a case changes no other result."""
    names = [zlib.crc32(name.encode()) for name in (claim_id, case.name)]
    rngs = [np.random.default_rng([seed, *names, index]) for index in range(count)]
    instances = [case.make(rng, dataset) for rng in rngs]
    keys = np.stack([rng.integers(2**32, size=2, dtype=np.uint32) for rng in rngs])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *instances), keys


def chance_key(words: UInt[Array, "2"], trial: Array | int = 0) -> Key:
    """The key of one trial of an instance.

    The generator is a keyed function, so that keys which count up give independent streams: counting is what
    it costs least to compile and to run.
    """
    return jax.random.wrap_key_data(words.at[1].add(jnp.asarray(trial, words.dtype)), impl="threefry2x32")


def prepare(claim: Claim) -> Callable[[Instance], tuple[Instance, np.ndarray]]:
    """The program ``raw -> (prepared instances, admissible)``."""
    if claim.prepare is unprepared and not claim.hypotheses:
        return lambda raw: (raw, np.ones(len(jax.tree.leaves(raw)[0]), bool))
    return _prepared(claim)


@cache
def _prepared(claim: Claim) -> Program:
    def prepared(raw: Instance) -> tuple[Instance, Array]:
        instance = claim.prepare(raw)
        return instance, admissible(claim, instance)

    return Program(_each(claim, prepared))


def admissible(claim: Claim, instance: Instance) -> Bool[Array, ""]:
    """Whether one prepared instance meets every hypothesis."""
    return jnp.all(jnp.array([True, *(jnp.all(holds(instance)) for holds in claim.hypotheses.values())]))


@cache
def evaluate(claim: Claim, enumerable: bool) -> Program:
    """The program that evaluates both sides once an instance, in the dtype of the instance's fields.

    With ``enumerable`` both sides are their expectations over all outcomes.
    """

    def once(instance: Instance, key: Array) -> dict[str, Assessed]:
        sides = flat_sides(claim, instance, claim.draw(instance, chance_key(key)))
        return {name: _assess(flat) for name, flat in sides.items()}

    def enumerated(instance: Instance, key: Array) -> dict[str, Assessed]:
        assert claim.outcomes is not None  # Claim.__post_init__ refuses it
        outcomes, probabilities = claim.outcomes(instance)
        weights = probabilities.reshape(probabilities.shape[0], -1)

        def expectation(values: Array) -> Array:
            return jnp.sum(jnp.where(weights > 0, weights * values, 0), axis=0)

        sides = jax.vmap(lambda outcome: flat_sides(claim, instance, outcome))(outcomes)
        return {name: _assess(jax.tree.map(expectation, flat)) for name, flat in sides.items()}

    return Program(_each(claim, enumerated if enumerable else once))


@cache
def evaluate_at(claim: Claim, size: int) -> Program:
    """For rates: the program that evaluates both sides once an instance at one size."""

    def once(instance: Instance, key: Array) -> dict[str, Assessed]:
        outcome = claim.draw(instance, chance_key(key))
        return {name: _assess(_flatten(sides)) for name, sides in claim.trial(instance, outcome, size).items()}

    return Program(_each(claim, once))


@cache
def run(claim: Claim, count: int) -> Program:
    """The program ``(instances, keys, case, first, blocks) -> totals`` for one case of a group.

    It runs ``blocks * block_size`` trials on each of the case's ``count`` instances.
    """
    size = block_size(claim, count)

    def block(instance: Instance, key: Key, start: Array) -> dict[str, Totals]:
        def trial(index: Array) -> dict[str, Flat]:
            return flat_sides(claim, instance, claim.draw(instance, chance_key(key, index)))

        sides = jax.vmap(trial)(start + jnp.arange(size))
        return {name: _totals(flat) for name, flat in sides.items()}

    @jax.jit  # traced once, though its shape is needed before its value
    def block_of_all(instances: Instance, keys: Key, start: Array) -> dict[str, Totals]:
        return _each(claim, lambda instance, key: block(instance, key, start))(instances, keys)

    def program(instances: Instance, keys: Array, case: Array, first: Array, blocks: Array) -> dict[str, Totals]:
        instances, keys = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, case * count, count), (instances, keys)
        )
        shapes = jax.eval_shape(block_of_all, instances, keys, first)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def step(i: Array, totals: dict[str, Totals]) -> dict[str, Totals]:
            return jax.tree.map(jnp.add, totals, block_of_all(instances, keys, first + i * size))

        return jax.lax.fori_loop(0, blocks, step, zeros)

    return Program(program)


def block_size(claim: Claim, count: int) -> int:
    """Trials that run at once on each of ``count`` instances: a power of two, so that it divides every look."""
    return 1 << max(0, (claim.batch // count).bit_length() - 1)


def flat_sides(claim: Claim, instance: Instance, outcome: Any) -> dict[str, Flat]:
    """Both sides of the claim and of its mutants for one outcome."""
    named = claim.trial(instance, outcome)
    if isinstance(claim.kind, Probability) and (without := [name for name in named if named[name].delta is None]):
        raise ValueError(f"trial of {claim.id}: returned {without[0]!r} without delta; takes the failure rate allowed")
    return {name: _flatten(sides) for name, sides in named.items()}


_HALVES = {np.dtype("float64"): np.float32, np.dtype("int64"): np.int32}


def single(instance: Instance) -> Instance:
    """The fields in 32 bits."""
    return jax.tree.map(lambda leaf: leaf.astype(_HALVES.get(leaf.dtype, leaf.dtype)), instance)


def _each(claim: Claim, function: Callable) -> Callable:
    """``function`` over the leading axis of its arguments, at most ``claim.batch`` entries at once."""

    def mapped(*arguments: Any) -> Any:
        count = jax.tree.leaves(arguments)[0].shape[0]
        if count <= claim.batch:
            return jax.vmap(function)(*arguments)
        size = max(divisor for divisor in range(1, claim.batch + 1) if count % divisor == 0)
        return jax.lax.map(lambda entry: function(*entry), arguments, batch_size=size)

    return mapped


def _flatten(sides: Sides) -> Flat:
    measured, theory = jnp.asarray(sides.measured), jnp.asarray(sides.theory)
    shape = jnp.broadcast_shapes(measured.shape, theory.shape)
    default = abs(theory)

    def flat(side: Any, otherwise: Any) -> Float[Array, " k"]:
        return jnp.broadcast_to(jnp.asarray(otherwise if side is None else side, measured.dtype), shape).ravel()

    return Flat(
        flat(measured, 0),
        flat(theory, 0),
        flat(sides.scale, default),
        flat(sides.trivial, jnp.nan),
        flat(sides.range, jnp.nan),
        flat(sides.delta, jnp.nan),
    )


def _assess(flat: Flat) -> Assessed:
    gap = flat.measured - flat.theory
    size = jnp.maximum(jnp.maximum(abs(flat.measured), abs(flat.theory)), flat.scale)
    tiny = jnp.finfo(gap.dtype).tiny
    return Assessed(
        flat,
        deviation=jnp.where(gap == 0, 0, gap / jnp.maximum(flat.scale, tiny)),
        violated=gap > 4096 * jnp.finfo(gap.dtype).eps * size,
        broken=~jnp.isfinite(flat.measured) | jnp.isnan(flat.theory) | jnp.isneginf(flat.theory),
    )


def _totals(flat: Flat) -> Totals:
    """Sums over the leading axis of trials; a broken trial is counted and left out of the other sums.

    What does not depend on the trial (scale, trivial, width, delta) is taken from the first: with one reduction
    in place of one each the program compiles in half the time.
    """
    sides = _assess(flat)
    ones = jnp.ones_like(sides.deviation)
    summed = jnp.stack(
        [
            ones,
            sides.violated,
            sides.deviation,
            sides.deviation**2,
            sides.deviation**4,
            flat.scale != flat.scale[0],
            flat.measured,
            flat.theory,
        ],
        axis=1,
    )  # [trials, 8, components]
    trials, failures, deviation, square, fourth, varying, measured, theory = jnp.sum(
        jnp.where(sides.broken[:, None], 0, summed), axis=0, dtype=jnp.float64
    )
    constant = (trials * leaf[0] for leaf in (flat.scale, flat.trivial, flat.width, flat.delta))
    broken = len(ones) - trials
    flat = Flat(measured, theory, *constant)
    return Totals(trials, broken, failures, deviation, square, fourth, varying, flat)
