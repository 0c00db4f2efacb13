"""Evaluating trials in stages, so that claims share the stage that costs most: its program is compiled once for all."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from sketchprune.types import Key
from theory.checks import check_sides
from theory.claim import Claim, Instance
from theory.engine import Program
from theory.instances import Group, KeyData, chance_key
from theory.measurements import Evaluation, assess, flatten, take
from theory.staged import Drawn, StagedTrial, all_arms

Rows = Int[np.ndarray, " rows"]

TILE = 4
"""How many arms one call of a program runs: as many as a core's cache takes of small networks."""


def evaluate(claim: Claim, trial: StagedTrial, group: Group) -> dict[str, Evaluation]:
    """Both sides of a claim whose trial is in stages, once per instance.

    Args:
        claim: the claim.
        trial: the claim's.
        group: the cases.
    """
    rows, origin = _drawing_rows(group)
    drawn = _draw_all(claim, trial, take(group.instances, rows), group.keys[rows])
    results = _run_all(trial, group.instances, take(drawn.shared, origin), drawn.arms, origin)
    compare = _comparison(claim, trial)

    def compared(rows: Rows) -> dict[str, Evaluation]:
        known = take(drawn.known, origin[rows])
        return compare(take(group.instances, rows), take(results, rows), known)

    return _in_tiles(compared, min(claim.batch, len(origin)), len(origin))


def _drawing_rows(group: Group) -> tuple[Rows, Int[np.ndarray, " instances"]]:
    """The instances of the first case of each stream; and for each instance its place among those."""
    rows: list[int] = []
    first_place: dict[str, int] = {}
    origin: list[int] = []
    for case in group.cases:
        own = range(case.rows.start, case.rows.stop)
        if case.stream not in first_place:
            first_place[case.stream] = len(rows)
            rows.extend(own)
        origin.extend(first_place[case.stream] + place for place in range(len(own)))
    return np.array(rows), np.array(origin)


def _draw_all(claim: Claim, trial: StagedTrial, instances: Instance, keys: KeyData) -> Drawn:
    """What is drawn for each instance, with the arms that are run."""
    program = _drawing(claim.draw, trial.costly_draw)

    def draw(rows: Rows) -> Drawn:
        drawn = program(take(instances, rows), keys[rows])
        return drawn if trial.select is all_arms else drawn._replace(arms=_mapped(trial.select)(drawn.arms))

    return _in_tiles(draw, min(claim.batch, len(keys)), len(keys))


def _run_all(trial: StagedTrial, instances: Instance, shared: Any, arms: Any, origin: Rows) -> Any:
    """What the comparison needs of the results, [instances, arms, ...]; ``arms`` are [drawn, arms, ...]."""
    count = jax.tree.leaves(arms)[0].shape[1]
    program = _mapped(trial.run)

    def run(pairs: Rows) -> Any:
        row, place = np.divmod(pairs, count)
        chosen = take(arms, (origin[row], place))
        return trial.needed(program(take(instances, row), take(shared, row), chosen))

    results = _in_tiles(run, TILE, len(origin) * count)
    return jax.tree.map(lambda leaf: leaf.reshape(len(origin), count, *leaf.shape[1:]), results)


def _in_tiles(function: Callable[[Rows], Any], size: int, count: int) -> Any:
    """The values of a function of rows on the first ``count`` rows, ``size`` of them at a call.

    The last call repeats the last row, so that all calls have one shape, whatever the count.
    """
    tiles = [np.minimum(np.arange(first, first + size), count - 1) for first in range(0, count, size)]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *map(function, tiles))


def _compare(claim: Claim, trial: StagedTrial, instance: Instance, results: Any, known: Any) -> dict[str, Evaluation]:
    """Both sides of each statement, assessed."""
    named = trial.compare(instance, results, known)
    check_sides(claim, named)
    return {name: assess(flatten(sides)) for name, sides in named.items()}


@functools.lru_cache(maxsize=64)
def _comparison(claim: Claim, trial: StagedTrial) -> Program:
    """The program that compares the results on some instances. It is compiled to slower code."""
    return Program(jax.vmap(functools.partial(_compare, claim, trial)), optimised=False)


@functools.lru_cache(maxsize=64)
def _mapped(function: Callable[..., Any]) -> Program:
    """The program of a function over the leading axis of its arguments; claims with the same function share it."""
    return Program(jax.vmap(function))


@functools.lru_cache(maxsize=64)
def _drawing(draw: Callable[[Instance, Key], Drawn], costly: bool) -> Program:
    """The program that draws for several instances, from the data of their keys."""
    return Program(jax.vmap(lambda instance, words: draw(instance, chance_key(words))), optimised=costly)
