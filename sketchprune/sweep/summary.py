"""Means over seeds of the runs of a sweep, with Student's intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from sketchprune._boundary import checked
from sketchprune._intervals import student_half_width
from sketchprune.sweep.methods import label
from sketchprune.sweep.rows import Row

LEVEL = 0.05
"""The probability that an interval misses the mean."""


class Summary(NamedTuple):
    """The runs of one method at one density.

    Attributes:
        network: The network.
        score: The method's score.
        sampler: Its sampler.
        rounds: Its rounds.
        density: The density that was asked for.
        realised_density: The mean of the realised densities; NaN where no mask could be drawn.
        runs: How many networks were trained.
        failures: For how many seeds no mask could be drawn.
        empty_layers: How many networks have a layer without weights.
        mean: The mean test accuracy; NaN where none was trained.
        standard_error: Its standard error over seeds; NaN for fewer than two.
        low: Lower end of its 95 % interval; NaN likewise.
        high: Upper end; NaN likewise.
    """

    network: str
    score: str
    sampler: str
    rounds: int
    density: float
    realised_density: float
    runs: int
    failures: int
    empty_layers: int
    mean: float
    standard_error: float
    low: float
    high: float

    @property
    def method(self) -> str:
        """The label of the method."""
        return label(self.score, self.sampler, self.rounds)

    @property
    def collapsed(self) -> bool:
        """Whether most of the networks have a layer without weights."""
        return 2 * self.empty_layers > self.runs


@checked
def summarise(rows: Sequence[Row]) -> list[Summary]:
    """The mean test accuracy of each method at each density, mean ± t·se with n − 1 degrees of freedom.

    A network whose training diverged has the accuracy of its answers, of which none is right. Runs without a mask are
    counted apart.

    Args:
        rows: The rows of a sweep, in any order.

    Returns:
        One record for each network, method and density: methods in the order in which they first occur, densities
        descending.

    Example:
        >>> def row(seed, accuracy):
        ...     return Row("mlp", "snip", "top", 1, 0.1, 0.1, seed, 0.5, accuracy, 100, 1.0, False)
        >>> found, = summarise([row(0, 0.5), row(1, 0.75)])
        >>> found.method, found.runs, found.mean, found.standard_error
        ('snip, top', 2, 0.625, 0.125)
    """
    groups: dict[tuple[str, str, str, int], dict[float, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.run[:4], {}).setdefault(row.density, []).append(row)
    return [
        _summary(by_density[density]) for by_density in groups.values() for density in sorted(by_density, reverse=True)
    ]


def _summary(rows: Sequence[Row]) -> Summary:
    """The record of some runs that differ in their seeds alone."""
    trained = [row for row in rows if not row.failure]
    accuracies = [row.test_accuracy for row in trained]
    mean, error, half = math.nan, math.nan, math.nan
    if trained:
        mean = fmean(accuracies)
    if len(trained) > 1:
        error = stdev(accuracies) / math.sqrt(len(trained))
        half = float(student_half_width(len(trained), stdev(accuracies), LEVEL))
    return Summary(
        *rows[0].run[:5],
        fmean(row.realised_density for row in trained) if trained else math.nan,
        len(trained),
        len(rows) - len(trained),
        sum(row.empty_layer for row in trained),
        mean,
        error,
        mean - half,
        mean + half,
    )
