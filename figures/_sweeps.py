"""Sweeps as pieces of work: one seed after another, with the table of runs as arrays."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np

from figures._config import Config
from sketchprune import sweep
from sketchprune.sweep import Method, Problem, Row


def swept(
    config: Config, figure: str, problem: Problem, methods: Sequence[Method], densities: Sequence[float], seeds: int
) -> dict[str, np.ndarray]:
    """The runs of a sweep, column by column; each seed is a piece of work that is kept.

    Args:
        config: the settings of the run; its seed is the first of the sweep.
        figure: the figure's name, which tells its pieces of work from those of others.
        problem: the network and its data.
        methods: the ways to prune.
        densities: the densities.
        seeds: how many seeds.
    """
    of_seeds = [
        config.part(
            f"{figure}, {problem.network} {seed}", functools.partial(_of_seed, problem, methods, densities, seed)
        )
        for seed in range(config.seed, config.seed + seeds)
    ]
    return {name: np.concatenate([part[name] for part in of_seeds]) for name in of_seeds[0]}


def _of_seed(
    problem: Problem, methods: Sequence[Method], densities: Sequence[float], seed: int
) -> dict[str, np.ndarray]:
    """The runs of one seed. Times are left out, so that the same settings give the same table."""
    rows = itertools.chain.from_iterable(sweep.run(problem, methods, densities, [seed]))
    table = [dataclasses.asdict(row) | {"seconds": 0.0} for row in rows]
    return {name: np.array([row[name] for row in table]) for name in table[0]}


def rows_of(arrays: dict[str, np.ndarray]) -> list[Row]:
    """The runs in the columns of a table.

    Args:
        arrays: columns, of which those of a row are used.
    """
    names = [field.name for field in dataclasses.fields(Row)]
    return [Row(*values) for values in zip(*(arrays[name].tolist() for name in names), strict=True)]
