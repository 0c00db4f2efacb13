"""The instances of a claim: made by its cases, prepared, checked against its hypotheses, and written down.

All instances of the cases that share a shape are stacked on one axis, so that one program serves them all:
compilation is nearly the whole cost of a claim.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt, UInt32

from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.checks import check_hypothesis, stack_instances
from theory.claim import Case, Claim, Instance, NoInstance
from theory.verdict import Replay

MAX_REPLAYED_ENTRIES = 2**14
"""Entries of the largest array that a replay writes down; for larger ones it has the dtype and the shape."""
_32_BITS = {np.dtype("float64"): np.float32, np.dtype("int64"): np.int32}

KeyData = UInt32[np.ndarray, "instances words"]
Prepare = Callable[[Instance], tuple[Instance, np.ndarray]]
"""From raw instances to the prepared ones, and which hypotheses each meets, [instances, hypotheses]."""


@dataclass(frozen=True)
class CaseRows:
    """One case of a group.

    Attributes:
        name: with the name of the data set in it.
        control: whether it is a control arm.
        stream: name of the random stream of its instances, which an arm and its controls share.
        index: its place in the group.
        rows: its instances among those of the group.
        admissible: which of them met the hypotheses.
        reason: why none did, with the hypotheses that rejected them; empty where one is admissible.
    """

    name: str
    control: bool
    stream: str
    index: int
    rows: slice
    admissible: Bool[np.ndarray, " instances"]
    reason: str = ""


@dataclass(frozen=True)
class Group:
    """Instances of the cases of one shape, as numpy arrays; the leading axis runs over cases, then instances.

    Attributes:
        cases: the cases.
        enumerable: whether all outcomes of a trial are enumerated.
        raw: what the cases made.
        instances: the same, prepared.
        keys: [cases * instances, words], key data; instance i of a case has the same at every tier.
    """

    cases: tuple[CaseRows, ...]
    enumerable: bool
    raw: Instance
    instances: Instance
    keys: KeyData

    def case_of(self, row: int) -> CaseRows:
        """The case that an instance of the group belongs to."""
        return next(case for case in self.cases if case.rows.start <= row < case.rows.stop)

    def replay(self, case: CaseRows, row: int, component: int, sides: tuple[float, float], found_by: str) -> Replay:
        """An instance of the group, written down.

        Args:
            case: one of the group.
            row: the instance's place among those of the case.
            component: the component of the sides that is meant.
            sides: what was measured of it, and what the theory says.
            found_by: how it was found.
        """
        return write_down(self.raw, case.rows.start + row, case.name, row, component, sides, found_by)


def write_down(
    raw: Instance, row: int, case: str, instance: int, component: int, sides: tuple[float, float], found_by: str
) -> Replay:
    """One of several instances, with its small arrays as lists.

    Args:
        raw: instances as their case made them, stacked.
        row: which of them.
        case: name of the case.
        instance: what the replay says of its place in the case.
        component: the component of the sides that is meant.
        sides: what was measured of it, and what the theory says.
        found_by: how it was found.
    """
    values = as_lists(jax.tree.map(lambda leaf: leaf[row], raw))
    measured, theory = sides
    return Replay(case, instance, found_by, component, measured, theory, values)


def as_lists(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by name, small ones as nested lists, large ones as their dtype and shape."""
    arrays = {name: np.asarray(leaf) for name, leaf in zip(field_names(tree), jax.tree.leaves(tree), strict=True)}
    return {
        name: array.tolist() if array.size <= MAX_REPLAYED_ENTRIES else f"{array.dtype} {list(array.shape)}"
        for name, array in arrays.items()
    }


def field_names(instance: Instance) -> list[str]:
    """What the arrays of an instance are called, in the order of its leaves.

    >>> field_names({"x": 1, "layers": (2, 3)})
    ["['layers'][0]", "['layers'][1]", "['x']"]
    """
    return [jax.tree_util.keystr(path).lstrip(".") for path, _ in jax.tree_util.tree_leaves_with_path(instance)]


def top_field(name: str) -> str:
    """The field of the instance that holds an array of this name.

    >>> top_field("layers[0]"), top_field("['x']")
    ('layers', 'x')
    """
    return next(part for part in re.split(r"\W", name) if part)


def make_groups(
    claim: Claim,
    count: int,
    seed: int,
    dataset: Dataset,
    prepare: Prepare,
    *,
    long: bool = False,
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Instances of every case that runs, in groups of one shape; and why a case has none, by its name.

    Args:
        claim: whose cases make them.
        count: instances per case.
        seed: every instance and key derives from it, the claim's id and the case's name.
        dataset: the data of the data cases.
        prepare: from raw instances to the prepared ones, and which hypotheses each meets.
        long: whether long cases run.
    """
    names = _named_after_data(claim, dataset)
    unmade: dict[str, str] = {}
    by_shape: dict[Any, list[tuple[Case, Instance, KeyData]]] = {}
    for case in claim.chosen(long=long):
        try:
            raw, keys = make_case(claim, case, count, seed, dataset)
        except NoInstance as reason:
            unmade[names[case.name]] = str(reason)
            continue
        leaves, tree = jax.tree.flatten(raw)
        shape = case.enumerable, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        named = replace(case, name=names[case.name])
        by_shape.setdefault(shape, []).append((named, raw, keys))
    hypotheses = tuple(claim.hypotheses)
    return tuple(_stacked(members, count, prepare, hypotheses) for members in by_shape.values()), unmade


def _named_after_data(claim: Claim, dataset: Dataset) -> dict[str, str]:
    """Names of cases with the name of the data set in them, all different whatever the data set is called."""
    names = {case.name: case.name.format(data=dataset.name) for case in claim.cases}
    if len(set(names.values())) < len(names):  # such as gaussian.npz beside a case that is called gaussian
        names = {name: name.format(data=f"data:{dataset.name}") for name in names}
    return names


def _stacked(
    members: list[tuple[Case, Instance, KeyData]], count: int, prepare: Prepare, hypotheses: tuple[str, ...]
) -> Group:
    """The group of some cases, each with ``count`` instances."""
    cases, raws, keys = zip(*members, strict=True)
    raw = jax.tree.map(lambda *leaves: np.concatenate(leaves), *raws)
    instances, met = prepare(raw)
    case_rows = []
    for index, case in enumerate(cases):
        rows = slice(index * count, (index + 1) * count)
        admissible = np.asarray(met[rows].all(axis=1))
        reason = "" if admissible.any() else f"no instance meets: {_rejecting(hypotheses, met[rows])}"
        stream = case.stream or case.name
        case_rows.append(CaseRows(case.name, case.control, stream, index, rows, admissible, reason))
    return Group(tuple(case_rows), cases[0].enumerable, raw, instances, np.concatenate(keys))


def _rejecting(hypotheses: tuple[str, ...], met: Bool[np.ndarray, "instances hypotheses"]) -> str:
    """The hypotheses that no instance met; where some instance met each of them, those that rejected one."""
    never = [not met[:, column].any() for column in range(len(hypotheses))]
    chosen = never if any(never) else [not met[:, column].all() for column in range(len(hypotheses))]
    return "; ".join(name for name, counts in zip(hypotheses, chosen, strict=True) if counts)


def make_case(claim: Claim, case: Case, count: int, seed: int, dataset: Dataset) -> tuple[Instance, KeyData]:
    """Instances of one case, stacked, and the data of their keys.

    Each comes from a generator of its own, seeded by names: adding a claim, a case or an instance changes no other.

    Args:
        claim: the claim.
        case: what makes them.
        count: how many.
        seed: the run's.
        dataset: the data of the data cases.
    """
    names = [zlib.crc32(name.encode()) for name in (claim.id, case.stream or case.name)]
    rngs = [np.random.default_rng([seed, *names, index]) for index in range(count)]
    instances = [case.make(rng, dataset) for rng in rngs]
    keys = np.stack([rng.integers(2**32, size=2, dtype=np.uint32) for rng in rngs])
    return stack_instances(claim, case, instances), keys


def chance_key(words: UInt[Array, "2"], trial: Array | int = 0) -> Key:
    """The key of one trial of an instance.

    The generator is a keyed function, so keys that count up give independent streams, and counting is what costs
    least to compile and to run.

    Args:
        words: the data of the instance's key.
        trial: the number of the trial.
    """
    return jax.random.wrap_key_data(words.at[1].add(jnp.asarray(trial, words.dtype)), impl="threefry2x32")


def hypotheses_met(claim: Claim, instance: Instance) -> Bool[Array, " hypotheses"]:
    """Which hypotheses of the claim an instance meets, in their order.

    Args:
        claim: the claim.
        instance: one prepared instance.

    Raises:
        ValueError: a hypothesis returns what is no boolean.
    """
    met = {name: holds(instance) for name, holds in claim.hypotheses.items()}
    for name, value in met.items():
        check_hypothesis(claim.id, name, value)
    return jnp.array([jnp.all(value) for value in met.values()], bool)


def is_admissible(claim: Claim, instance: Instance) -> Bool[Array, ""]:
    """Whether an instance meets every hypothesis of the claim.

    Args:
        claim: the claim.
        instance: one prepared instance.
    """
    return jnp.all(hypotheses_met(claim, instance))


def in_32_bits(instance: Instance) -> Instance:
    """The instance with its fields of 64 bits in 32."""
    return jax.tree.map(lambda leaf: leaf.astype(_32_BITS.get(leaf.dtype, leaf.dtype)), instance)
