"""The search for counterexamples: gradient ascent on how much measured exceeds theory, from many instances at once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, UInt32

from theory.claim import Claim, Instance
from theory.instances import chance_key, is_admissible
from theory.measurements import Evaluation, flatten

if TYPE_CHECKING:
    import theory.engine

MAX_STARTS = 128
"""Instances of a group, or of a case, from which a search starts."""
STEP = 0.03
"""Step of the search, relative to the root mean square of each field that it moves."""


class Reached(NamedTuple):
    """Where searches ended, one per row.

    Attributes:
        raw: the instances there, not prepared.
        sides: both sides there, in float64.
        admissible: which instances meet the hypotheses.
        violating: which of those violate the statement, or give a number that is not finite.
        row: the most violating of the admissible ones; the closest to a violation where none violates.
        component: its component with the largest deviation.
    """

    raw: Instance
    sides: Evaluation
    admissible: Bool[np.ndarray, " rows"]
    violating: Bool[np.ndarray, " rows"]
    row: int
    component: int


def search(
    programs: "theory.engine.Programs",
    statement: str,
    raw: Instance,
    keys: UInt32[np.ndarray, "rows words"],
    *,
    steps: int,
) -> Reached:
    """What gradient ascent reaches from each of the instances, within the hypotheses.

    Ascent moves the fields that the claim's kind names. What it maximises is the largest component of the scale-free
    gap (measured − theory) / max(|measured| + |theory|, scale). What it reaches is evaluated again, as any instance.

    Args:
        programs: of the claim.
        statement: "claim", or the name of the mutant whose sides are searched.
        raw: instances, stacked, not prepared.
        keys: the data of their keys.
        steps: gradient steps; 0 evaluates the instances as they are.

    Cost:
        ``steps`` gradients of the trial, vmapped over the instances.
    """
    if steps:
        raw = programs.ascent(statement)(raw, keys, steps)
    instances, admissible = programs.prepare(raw)
    sides = programs.evaluate(enumerated=False)(instances, keys)[statement]
    violating = admissible & (sides.violated | sides.broken).any(axis=1)
    badness = np.nan_to_num(sides.deviation.max(axis=1), nan=np.inf)
    row = int(np.argmax(np.where(violating if violating.any() else admissible, badness, -np.inf)))
    return Reached(raw, sides, admissible, violating, row, int(np.argmax(sides.deviation[row])))


def ascent(claim: Claim, statement: str) -> Callable[[Instance, Array, Array], Instance]:
    """The function ``(instances, keys, steps) -> instances`` that climbs from each instance and returns the best seen.

    Each statement has a function of its own: what is not finite in the sides of another would spoil the gradient.

    Args:
        claim: the claim; its kind names the fields that move.
        statement: "claim", or the name of the mutant whose sides are searched.
    """
    optimiser = optax.adam(STEP)

    def gap(moves: dict[str, Array], start: Instance, key: Array) -> tuple[Array, Array]:
        """What is maximised, and its value among admissible instances: −∞ at others."""
        candidate = claim.prepare(_moved(start, moves))
        sides = flatten(claim.trial(candidate, claim.draw(candidate, chance_key(key)))[statement])
        finite = jnp.isfinite(sides.measured) & jnp.isfinite(sides.theory)
        measured = jnp.where(finite, sides.measured, 0)
        theory = jnp.where(finite, sides.theory, 0)
        size = jnp.maximum(abs(measured) + abs(theory), jnp.where(finite, sides.scale, 0))
        gaps = (measured - theory) / jnp.where(size == 0, 1, size)
        # A bound of infinity is true. Any other number that is not finite is the worst; it is evaluated again later.
        true = jnp.isfinite(sides.measured) & jnp.isposinf(sides.theory)
        value = jnp.max(jnp.where(finite, gaps, jnp.where(true, -1, 1)))
        return value, jnp.where(is_admissible(claim, candidate), value, -jnp.inf)

    def climb(start: Instance, key: Array, steps: Array) -> Instance:
        def step(_: Array, carry: tuple) -> tuple:
            moves, state, best, best_moves = carry
            (_, value), gradient = jax.value_and_grad(gap, has_aux=True)(moves, start, key)
            better = value > best
            best_moves = jax.tree.map(lambda new, old: jnp.where(better, new, old), moves, best_moves)
            descent = jax.tree.map(lambda g: -jnp.nan_to_num(g), gradient)
            updates, state = optimiser.update(descent, state)
            return optax.apply_updates(moves, updates), state, jnp.maximum(value, best), best_moves

        still = {field: jnp.zeros_like(getattr(start, field)) for field in claim.kind.searched_fields}
        carry = (still, optimiser.init(still), jnp.array(-jnp.inf), still)
        return _moved(start, jax.lax.fori_loop(0, steps, step, carry)[-1])

    return jax.vmap(climb, in_axes=(0, 0, None))


def _moved(start: Instance, moves: dict[str, Array]) -> Instance:
    """The start with each field moved, in units of the field's root mean square."""
    values = {field: getattr(start, field) for field in moves}
    return start.replace(
        **{field: value + moves[field] * jnp.sqrt(jnp.mean(value**2)) for field, value in values.items()}
    )
