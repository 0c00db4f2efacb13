"""The search for counterexamples: gradient ascent on a bound's violation, from many instances at once."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from sketchprune.data import Dataset
from theory import engine as programs
from theory.claim import STATEMENT, Bound, Claim, Instance
from theory.engine import Assessed, Program, Totals, admissible, chance_key, flat_sides, taken

STARTS = 128
"""Instances of a group from which a search starts."""
STEP = 0.03
"""Step of the search, relative to the root mean square of each field that it moves."""
SMALL = 2**14
"""Entries up to which an array of a counterexample is written down."""


class Reached(NamedTuple):
    """Where searches ended, one a row.

    Attributes:
        instances: raw ones.
        sides: both sides there, in float64.
        admissible: which meet the hypotheses.
        violating: which of those violate the statement, or give a number that is not finite.
        worst: the most violating of the admissible ones, or the closest to it.
    """

    instances: Instance
    sides: Assessed
    admissible: np.ndarray
    violating: np.ndarray
    worst: int


class Closest(NamedTuple):
    """How close to a counterexample a search came on one case.

    Attributes:
        case: its name.
        start: measured ÷ theory of the closest of the instances that it started from.
        ratio: the same of the closest that it found; nan where the theory is zero.
        instance: that one, as :func:`replay` writes it down; None where none met the hypotheses.
        refutes: whether it is a counterexample.
    """

    case: str
    start: float
    ratio: float
    instance: dict[str, Any] | None
    refutes: bool


def searchable(claim: Claim) -> bool:
    """Whether instances of the claim can be moved: it is a :class:`Bound` that names fields to search."""
    return isinstance(claim.kind, Bound) and bool(claim.kind.search)


def falsify(claim: Claim, *, steps: int, seed: int, data: Dataset) -> Iterator[Closest]:
    """Searches the cases of a searchable claim for a counterexample: ``steps`` steps from 128 instances of each."""
    for group in programs.groups(claim, STARTS, seed, data, long=True):
        for number, case in enumerate(group.cases):
            raw, keys = taken((group.raw, group.keys), slice(number * STARTS, (number + 1) * STARTS))
            start, end = _evaluated(claim, STATEMENT, raw, keys), search(claim, STATEMENT, raw, keys, steps)
            if not (start.admissible.any() and end.admissible.any()):
                yield Closest(case.name, np.nan, np.nan, None, False)
                continue
            first, last = (replay(case.name, at.worst, at.sides, at.worst, at.instances) for at in (start, end))
            yield Closest(case.name, _ratio(first), _ratio(last), last, bool(end.violating.any()))


def search(claim: Claim, name: str, raw: Instance, keys: np.ndarray, steps: int) -> Reached:
    """The most violating admissible instance that ``steps`` gradient steps reach from each of those given.

    The moved fields are those that the claim's :class:`Bound` names. What is maximised is the scale-free gap
    (measured − theory)/max(|measured| + |theory|, scale) of the sides called ``name``, its largest component; what is
    found is evaluated again, as any instance is. Cost: ``steps`` gradients of the trial, vmapped over the instances.
    """
    return _evaluated(claim, name, _ascend(claim, name)(raw, keys, steps), keys)


def _evaluated(claim: Claim, name: str, raw: Instance, keys: np.ndarray) -> Reached:
    instances, kept = programs.prepare(claim)(raw)
    sides = programs.evaluate(claim, False)(instances, keys)[name]
    violating = kept & (sides.violated | sides.broken).any(axis=1)
    badness = np.nan_to_num(sides.deviation.max(axis=1), nan=np.inf)
    badness = np.where(violating if violating.any() else kept, badness, -np.inf)
    return Reached(raw, sides, kept, violating, int(np.argmax(badness)))


def _ratio(found: dict[str, Any]) -> float:
    return found["measured"] / found["theory"] if found["theory"] else np.nan


def replay(
    case: str,
    instance: int,
    sides: Assessed | Totals,
    row: int,
    raw: Any,
    found_by: str = "search",
    component: int | None = None,
) -> dict[str, Any]:
    """An instance that speaks against a claim, or comes closest to it, written down with its small arrays.

    It is row ``row`` of the sides and of the raw instances; by default its worst component is meant.
    """
    component = int(np.argmax(sides.deviation[row])) if component is None else component
    trials = max(sides.trials[row, component], 1) if isinstance(sides, Totals) else 1
    values = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(raw):
        array = np.asarray(leaf[row])
        name = jax.tree_util.keystr(path).lstrip(".")
        values[name] = array.tolist() if array.size <= SMALL else f"{array.dtype} {list(array.shape)}"
    return {
        "case": case,
        "instance": instance,
        "found_by": found_by,
        "component": component,
        "measured": float(sides.flat.measured[row, component] / trials),
        "theory": float(sides.flat.theory[row, component] / trials),
        "values": values,
    }


@cache
def _ascend(claim: Claim, name: str) -> Program:
    """One program a name: what is not finite in the sides of another would spoil the gradient."""
    assert isinstance(claim.kind, Bound)  # only bounds are searched
    fields = claim.kind.search
    optimiser = optax.adam(STEP)

    def gap(moves: dict[str, Array], start: Instance, key: Array) -> tuple[Array, Array]:
        candidate = claim.prepare(_moved(start, moves))
        flat = flat_sides(claim, candidate, claim.draw(candidate, chance_key(key)))[name]
        finite = jnp.isfinite(flat.measured) & jnp.isfinite(flat.theory)
        measured, theory = (jnp.where(finite, side, 0) for side in (flat.measured, flat.theory))
        size = jnp.maximum(abs(measured) + abs(theory), jnp.where(finite, flat.scale, 0))
        gaps = (measured - theory) / jnp.where(size == 0, 1, size)
        # An infinite bound is true. What else is not finite is the worst news: the caller re-evaluates it.
        true = jnp.isfinite(flat.measured) & jnp.isposinf(flat.theory)
        value = jnp.max(jnp.where(finite, gaps, jnp.where(true, -1, 1)))
        return value, jnp.where(admissible(claim, candidate), value, -jnp.inf)

    def ascend(start: Instance, key: Array, steps: Array) -> Instance:
        def step(_: Array, carry: tuple) -> tuple:
            moves, state, best, best_moves = carry
            (_, value), gradient = jax.value_and_grad(gap, has_aux=True)(moves, start, key)
            better = value > best
            best_moves = jax.tree.map(lambda new, old: jnp.where(better, new, old), moves, best_moves)
            descent = jax.tree.map(lambda g: -jnp.nan_to_num(g), gradient)
            updates, state = optimiser.update(descent, state)
            return optax.apply_updates(moves, updates), state, jnp.maximum(value, best), best_moves

        moves = {field: jnp.zeros_like(getattr(start, field)) for field in fields}
        carry = (moves, optimiser.init(moves), jnp.array(-jnp.inf), moves)
        return _moved(start, jax.lax.fori_loop(0, steps, step, carry)[-1])

    return Program(jax.vmap(ascend, in_axes=(0, 0, None)))


def _moved(start: Instance, moves: dict[str, Array]) -> Instance:
    """The start with each field moved, in units of the field's root mean square."""
    values = {field: getattr(start, field) for field in moves}
    return start.replace(
        **{field: value + moves[field] * jnp.sqrt(jnp.mean(value**2)) for field, value in values.items()}
    )
