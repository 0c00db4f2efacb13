"""Trials in stages, so that claims share the stage that costs most: its program is compiled once for all of them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from sketchprune.types import Key
from theory.checks import check_sides
from theory.claim import Claim, Instance, Sides
from theory.engine import Program
from theory.instances import Group, KeyData, chance_key
from theory.measurements import Evaluation, assess, flatten, take

Rows = Int[np.ndarray, " rows"]

TILE = 4
"""How many arms one call of a program runs: as many as a core's cache takes of small networks."""


class Drawn(NamedTuple):
    """What a claim draws for a trial in stages.

    Attributes:
        shared: what all runs of the trial share, such as the key of their batches.
        arms: what is run, such as masks, on a leading axis.
        known: what else the comparison takes.
    """

    shared: Any
    arms: Any
    known: Any = None


def all_arms(arms: Any) -> Any:
    """The arms as they were drawn: the default of :attr:`StagedTrial.select`."""
    return arms


@dataclass(frozen=True)
class StagedTrial:
    """A trial that runs each of the arms which were drawn, and compares the results.

    As a function it is a trial like any other. The verifier compiles the stages one by one: claims with the same
    ``run`` share its program, and claims with the same ``draw`` share that one too. Cases of one stream share what was
    drawn for the first of them, so that a control costs its runs alone; ``draw`` must not look at what the control
    changes.

    Attributes:
        run: ``run(instance, shared, arm) -> result``, a named tuple; for one arm.
        needs: the fields of the results that the comparison takes; the others are None there.
        compare: ``compare(instance, results, known) -> {"claim": Sides}``, of the results with a leading axis.
        select: ``select(arms) -> arms``, those that are run.
        costly_draw: whether the draw takes so long that faster code is worth twice the compilation.
    """

    run: Callable[[Instance, Any, Any], Any]
    needs: tuple[str, ...]
    compare: Callable[[Instance, Any, Any], dict[str, Sides]]
    select: Callable[[Any], Any] = all_arms
    costly_draw: bool = False

    def __call__(self, instance: Instance, drawn: Drawn) -> dict[str, Sides]:
        """Both sides."""
        results = jax.vmap(lambda arm: self.run(instance, drawn.shared, arm))(self.select(drawn.arms))
        return self.compare(instance, self.needed(results), drawn.known)

    def needed(self, results: Any) -> Any:
        """The results without the fields that the comparison does not take."""
        return results._replace(**{name: None for name in results._fields if name not in self.needs})


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
