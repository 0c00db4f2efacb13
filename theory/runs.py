"""What a kind of claim may ask of a run: instances, both sides on them, sums over trials, counterexamples."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from sketchprune.data import Dataset
from theory import stages
from theory.ascent import MAX_STARTS, beyond_rounding, search
from theory.checks import check_probabilities
from theory.engine import Programs, tile_size
from theory.instances import CaseRows, Group, in_32_bits, make_groups, write_down
from theory.kinds.kind import STATEMENT, unmet
from theory.measurements import Evaluation, TrialSums, largest_ratio, take
from theory.staged import StagedTrial
from theory.verdict import Replay, Tier

_FRESH = 2**31
"""Number of the first fresh trial: beyond those of all looks."""
_STRETCH = 2**20
"""Fresh trials that one place for an instance may run."""


class Searched(NamedTuple):
    """What a search for counterexamples came to.

    Attributes:
        ratios: case name -> the largest measured/theory that was reached from its instances; nan where there is none.
        case: name of the case from whose instance a counterexample was reached; None where none was.
        sides: evaluated at the counterexample, or where the search came closest to one, [1, components].
        replay: the counterexample, written down.
    """

    ratios: dict[str, float]
    case: str | None
    sides: Evaluation
    replay: Replay | None


class Runs:
    """What a kind may ask of a claim: its instances, both sides on them, sums over trials, counterexamples.

    Attributes:
        claim: the claim.
        statements: "claim" and the names of the mutants.
        instances_per_case: instances of each case.
        groups: the cases that run, in groups whose instances have one shape.
        unmade: cases that run and have no instance, by name: an UNMET verdict with the reason.
        sampled_cases: how many of the cases are not enumerable and have an admissible instance.
        progress: takes a few words that say what is being measured.
    """

    def __init__(
        self,
        programs: Programs,
        tier: Tier,
        seed: int,
        dataset: Dataset,
        *,
        progress: Callable[[str], None] = lambda text: None,
    ):
        """Make the instances.

        Args:
            programs: of the claim.
            tier: how many instances there are, and whether long cases run.
            seed: the run's.
            dataset: the data of the data cases.
            progress: takes a few words that say what is being measured.
        """
        self.progress = progress
        self.claim = claim = programs.claim
        self.statements = (STATEMENT, *claim.mutants)
        self.instances_per_case = claim.kind.count_instances(tier)
        make = programs.prepare_and_check
        self.groups, unmade = make_groups(claim, self.instances_per_case, seed, dataset, make, long=tier.long)
        self.unmade = {name: unmet(np.zeros(0, bool), method="none", reason=why) for name, why in unmade.items()}
        sampled = [case for group in self.groups if not group.enumerable for case in group.cases]
        self.sampled_cases = sum(bool(case.admissible.any()) for case in sampled)
        self._programs = programs

    def evaluate(self, group: Group, *, float32: bool = False) -> dict[str, Evaluation]:
        """Both sides of every statement, once per instance; expectations over all outcomes where they are enumerated.

        Args:
            group: the cases.
            float32: in float32 throughout, instead of float64.
        """
        if isinstance(self.claim.trial, StagedTrial) and not (float32 or group.enumerable):
            return self._ordered(stages.evaluate(self.claim, self.claim.trial, group))
        program = self._programs.evaluate(enumerated=group.enumerable)
        if float32:
            with jax.enable_x64(False):  # so that no constant of the trial is in float64 either
                return self._ordered(program(in_32_bits(group.instances), group.keys))
        if not group.enumerable:
            return self._ordered(program(group.instances, group.keys))
        named, (totals, least) = self._programs.enumerate(group.instances, group.keys)
        for case in group.cases:
            whose = f"case {case.name!r} of {self.claim.id}"
            check_probabilities(whose, totals[case.rows], least[case.rows], case.admissible)
        return self._ordered(named)

    def evaluate_at(self, group: Group, argument: Any) -> dict[str, Evaluation]:
        """Both sides, once per instance, of a trial that takes an argument after the outcome.

        Args:
            group: the cases.
            argument: what the trial takes; a program is compiled for each.
        """
        return self._ordered(self._programs.evaluate_at(argument)(group.instances, group.keys))

    def whole_tiles(self, trials: int) -> int:
        """The smallest number of trials per instance, at least ``trials``, that fills tiles."""
        size = tile_size(self.claim, self.instances_per_case)
        return -(-trials // size) * size

    def trials(self, group: Group, case: CaseRows, *, first: int, count: int, float32: bool) -> dict[str, TrialSums]:
        """Sums over trials on each instance of a case.

        Args:
            group: the case's.
            case: one of the group.
            first: number of the first trial.
            count: trials per instance, a difference of two results of :meth:`whole_tiles`.
            float32: with the instances' fields in float32, instead of float64.
        """
        instances = in_32_bits(group.instances) if float32 else group.instances
        tiles = count // tile_size(self.claim, self.instances_per_case)
        program = self._programs.trials(self.instances_per_case)
        named = self._ordered(program(instances, group.keys, case.index, first, tiles))
        for name, sums in named.items():
            whose = f"{name!r} in the trial of {self.claim.id}"
            self.claim.kind.check_trials(take(sums, case.admissible), whose)
        return named

    def fresh_trials(
        self, group: Group, case: CaseRows, rows: np.ndarray, *, first: int, count: int, float32: bool
    ) -> dict[str, TrialSums]:
        """Sums over trials that :meth:`trials` never runs, on some instances of a case: leaves [rows, components].

        The program is that of :meth:`trials`, so nothing is compiled: each of its places for an instance runs one of
        the given ones, in turn, from a stretch of its key's trials that is its own.

        Args:
            group: the case's.
            case: one of the group.
            rows: instances of the case, not more than it has.
            first: number of the first trial in each place.
            count: trials in each place, as of :meth:`trials`.
            float32: with the instances' fields in float32, instead of float64.
        """
        places = np.arange(self.instances_per_case)
        turn = places % len(rows)
        served = case.rows.start + np.asarray(rows)[turn]
        order = np.arange(len(group.keys))
        order[case.rows] = served
        keys = group.keys[order]
        keys[case.rows, 1] += np.uint32(_FRESH) + (places // len(rows)).astype(np.uint32) * np.uint32(_STRETCH)
        again = replace(group, instances=take(group.instances, order), keys=keys)
        sums = self.trials(again, case, first=first, count=count, float32=float32)

        def merged(leaf: np.ndarray) -> np.ndarray:
            return np.stack([leaf[turn == index].sum(axis=0) for index in range(len(rows))])

        with np.errstate(over="ignore"):  # deviations from a theory of 0 may overflow to infinity, which is right
            return jax.tree.map(merged, sums)

    def confirmed(self, group: Group, sides: Evaluation) -> Evaluation:
        """The claim's sides on a group, without violations that rounding explains.

        Args:
            group: the cases.
            sides: of the claim, from :meth:`evaluate`.
        """
        return beyond_rounding(self._programs, STATEMENT, group.raw, group.keys, sides, enumerated=group.enumerable)

    def search(self, group: Group, statement: str, steps: int) -> Searched:
        """What gradient ascent finds from instances of a group: the worst counterexample, or how close it came.

        Args:
            group: the cases; of many instances, 128 that are evenly spaced.
            statement: "claim" or the name of a mutant.
            steps: gradient steps.
        """
        count = len(group.keys)
        starts = np.unique(np.linspace(0, count - 1, min(count, MAX_STARTS)).astype(int))
        reached = search(self._programs, statement, take(group.raw, starts), group.keys[starts], steps=steps)
        row, component, start = reached.row, reached.component, int(starts[reached.row])
        here = take(reached.sides, slice(row, row + 1))
        ratios = {}
        for case in group.cases:
            own = (starts >= case.rows.start) & (starts < case.rows.stop) & reached.admissible
            ratios[case.name] = largest_ratio(take(reached.sides.values, own))
        if not reached.violating.any():
            return Searched(ratios, None, here, None)
        case = group.case_of(start)
        instance = start - case.rows.start
        sides = reached.sides.pair(row, component)
        replay = write_down(reached.raw, row, case.name, instance, component, sides, "search")
        return Searched(ratios, case.name, here, replay)

    def _ordered(self, named: dict[str, Any]) -> dict[str, Any]:
        """In the order of the statements: a program returns its names sorted."""
        return {name: named[name] for name in self.statements}
