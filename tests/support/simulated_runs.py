"""Runs of claims whose trials are drawn from known laws, so that verdicts can be compared with the truth."""

from types import SimpleNamespace

import numpy as np

from theory.instances import CaseRows, Group
from theory.kinds import Probability
from theory.measurements import SideArrays, TrialSums
from theory.runs import Runs
from theory.verdict import Tier


class SimulatedRuns(Runs):
    """One case of a claim without mutants.

    Attributes:
        draw: from a number of trials and instances to the sums of their deviations, the deviations' squares and fourth
            powers, and failures: four arrays [instances, components], or numbers.
        sides: the fields of the sides that are given: ``delta``, ``range``.
    """

    def __init__(self, draw, tier: Tier, *, instances=None, **sides):
        self.draw, self.sides = draw, sides
        self.claim = SimpleNamespace(id="simulated/claim", expected="SUPPORTED")
        self.statements = ("claim",)
        self.instances_per_case = count = instances or tier.instances
        self.sampled_cases = 1
        self.progress = lambda text: None
        self.case = CaseRows("simulated", False, "simulated", 0, slice(0, count), np.ones(count, bool))
        self.groups = (Group((self.case,), False, np.zeros((count, 0)), np.zeros(count), np.zeros((count, 2), "u4")),)

    def whole_tiles(self, trials):
        return max(trials, 1)

    def trials(self, group, case, *, first, count, float32):
        return {"claim": self._sums(np.arange(self.instances_per_case), count)}

    def fresh_trials(self, group, case, rows, *, first, count, float32):
        return {"claim": self._sums(rows, count * (self.instances_per_case // len(rows)))}

    def _sums(self, rows, count):
        found = np.broadcast_arrays(*self.draw(count, rows))
        deviation, squares, fourth_powers, failures = (leaf + 0.0 for leaf in found)
        trials = np.full(deviation.shape, float(count))
        constant = (trials * self.sides.get(name, np.nan) for name in ("trivial", "range", "delta"))
        sides = SideArrays(trials + deviation, trials, trials, *constant)
        exceeding = np.zeros((*trials.shape, len(Probability.counted_factors)))
        return TrialSums(trials, 0 * trials, failures, deviation, squares, fourth_powers, 0 * trials, sides, exceeding)


def normal(rng, means, deviation=1.0):
    """Normal deviations with these means, [instances, components]."""

    def draw(count, rows):
        mean = means[rows]
        total = mean * count + np.sqrt(count) * deviation * rng.standard_normal(mean.shape)
        squares = deviation**2 * rng.chisquare(count - 1, mean.shape) + total**2 / count
        return total, squares, 3 * count * deviation**4, 0.0

    return draw


def rare(rng, means, chance):
    """z with z + 1 = (1 + mean)/chance, with that chance, and else z = −1: skewed."""

    def draw(count, rows):
        value = (1 + means[rows]) / chance
        hits = rng.binomial(count, chance, value.shape)
        powers = [hits * (value - 1) ** power + (count - hits) * (-1.0) ** power for power in (1, 2, 4)]
        return *powers, 0.0

    return draw


def failing(rng, rates):
    """Trials that fail at these rates, [instances, components]."""

    def draw(count, rows):
        return 0.0, 0.0, 0.0, rng.binomial(count, rates[rows])

    return draw
