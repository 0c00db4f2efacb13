"""Search for counterexamples: gradient ascent on a bound's violation, from many instances at once."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from theory.claim import Bound, Claim, Instance
from theory.programs import Group, Program, admissible, chance_key, flat_sides

STARTS = 128
"""Instances of a group from which a search starts."""
STEP = 0.03
"""Step of the search, relative to the root mean square of each field that it moves."""


def search(claim: Claim, group: Group, name: str, steps: int) -> tuple[Instance, np.ndarray, np.ndarray]:
    """The most violating admissible instance that ``steps`` gradient steps reach from each of the starts.

    Returns the instances, their keys and the indices in the group of what they started from.

    The moved fields are those that the claim's :class:`Bound` names. What is maximised is the scale-free gap
    (measured − theory)/(|measured| + |theory|) of the sides called ``name``, its largest component. Whether
    what is found violates the statement is for the caller to re-evaluate.

    Cost: ``steps`` gradients of the trial, vmapped over at most 128 starts.
    """
    count = group.keys.shape[0]
    chosen = np.unique(np.linspace(0, count - 1, min(count, STARTS)).astype(int))
    starts, keys = jax.tree.map(lambda leaf: leaf[chosen], (group.raw, group.keys))
    return _ascend(claim, name)(starts, keys, steps), keys, chosen


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
        size = abs(measured) + abs(theory)
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
