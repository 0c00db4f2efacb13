"""The search for counterexamples: gradient ascent on how much measured exceeds theory, from many instances at once."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, UInt32

from theory.claim import Claim, Instance
from theory.instances import chance_key, is_admissible
from theory.measurements import Evaluation, flatten, relative_gap

if TYPE_CHECKING:
    import theory.engine

MAX_STARTS = 128
"""Instances of a group, or of a case, from which a search starts."""
STEP = 0.03
"""Step of the search, relative to the root mean square of each field that it moves."""


PERTURBATIONS, PERTURBED_UNITS = 3, 4
"""How often inputs are changed to see what rounding does, and by how many units in the last place at most."""
MIN_EXCESS = 64
"""A violation is this many times larger than what the changes of the inputs do to it."""


class Reached(NamedTuple):
    """Where searches ended, one per row.

    Attributes:
        raw: the instances there, not prepared.
        sides: both sides there, in float64.
        admissible: which instances meet the hypotheses.
        violating: which of those violate the statement, or give a number that is not finite.
        row: the most violating of the admissible ones; the closest to a violation where none violates.
        component: its component with the largest relative gap.
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

    Ascent moves the fields that the claim's kind names. What it maximises is the largest component of the
    :func:`theory.measurements.relative_gap`, and it ends nowhere worse than it starts. What it reaches is evaluated
    again, as any instance.

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
    sides: Evaluation = programs.evaluate(enumerated=False)(instances, keys)[statement]
    sides = beyond_rounding(programs, statement, raw, keys, sides, enumerated=False)
    violating = admissible & np.any(np.logical_or(sides.violated, sides.broken), axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.asarray(relative_gap(sides.values.measured, sides.values.theory))
    gaps = np.where(sides.broken, np.inf, np.nan_to_num(gaps, nan=-1.0))  # nan: an infinite bound, which is true
    row = int(np.argmax(np.where(violating if violating.any() else admissible, gaps.max(axis=1), -np.inf)))
    return Reached(raw, sides, admissible, violating, row, int(np.argmax(gaps[row])))


def beyond_rounding(
    programs: "theory.engine.Programs",
    statement: str,
    raw: Instance,
    keys: UInt32[np.ndarray, "rows words"],
    sides: Evaluation,
    *,
    enumerated: bool,
) -> Evaluation:
    """The sides, with those violations removed that rounding of the inputs may explain.

    Where both sides nearly vanish, what is left of them may be rounding of what was subtracted before, and no scale
    says how large that is. So the instances are evaluated again with each number changed by a few units in its last
    place. A violation counts only if measured − theory is much larger than the change that this makes.

    Args:
        programs: of the claim.
        statement: "claim", or the name of a mutant.
        raw: instances, stacked, not prepared.
        keys: the data of their keys.
        sides: of the statement on these instances, in float64.
        enumerated: whether the sides are expectations over all outcomes.

    Returns:
        The sides, of which only ``violated`` may differ.

    Cost:
        Three more evaluations where there are violations; none where there are not.
    """
    if not np.any(sides.violated):
        return sides
    rng = np.random.default_rng(0)
    gap = sides.values.measured - sides.values.theory
    changes = []
    for _ in range(PERTURBATIONS):
        moved = jax.tree.map(functools.partial(perturbed, rng), raw)
        instances, _ = programs.prepare(moved)
        again = programs.evaluate(enumerated=enumerated)(instances, keys)[statement].values
        with np.errstate(invalid="ignore"):
            changes.append(abs(again.measured - again.theory - gap))
    typical = np.nan_to_num(np.median(changes, axis=0), nan=0.0)
    return sides._replace(violated=sides.violated & (gap > MIN_EXCESS * typical))


def perturbed(rng: np.random.Generator, leaf: np.ndarray) -> np.ndarray:
    """Floating numbers changed by up to a few units in the last place; anything else as it is.

    Arrays of zeros and ones stay as well: they are masks and switches, which a trial may compare with 1.

    Args:
        rng: decides by how much.
        leaf: an array of several instances, on the leading axis.
    """
    if not np.issubdtype(leaf.dtype, np.floating):
        return leaf
    units = rng.uniform(-PERTURBED_UNITS, PERTURBED_UNITS, leaf.shape)
    moved = leaf * (1 + units * np.finfo(leaf.dtype).eps)
    switches = np.isin(leaf, (0, 1)).all(axis=tuple(range(1, leaf.ndim)), keepdims=True)
    return np.where(switches, leaf, moved).astype(leaf.dtype)


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
        gaps = relative_gap(jnp.where(finite, sides.measured, 0), jnp.where(finite, sides.theory, 0))
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
