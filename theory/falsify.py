"""How close a bound comes to being violated: a longer search for counterexamples than a verification makes."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from sketchprune.data import Dataset
from theory.ascent import MAX_STARTS, Reached, search
from theory.claim import Claim
from theory.engine import Programs
from theory.instances import CaseRows, Group, make_groups, write_down
from theory.kinds.kind import STATEMENT
from theory.measurements import take
from theory.verdict import Replay


@dataclass(frozen=True)
class Closest:
    """How close to a counterexample a search came on one case.

    Attributes:
        case: its name.
        start: measured/theory of the closest instance that it started from; nan where the theory is zero.
        ratio: the same of the closest instance that it found.
        instance: that one; None where none met the hypotheses.
        refutes: whether it is a counterexample.
    """

    case: str
    start: float
    ratio: float
    instance: Replay | None
    refutes: bool


def searchable(claim: Claim) -> bool:
    """Whether instances of the claim can be moved: its kind names fields to search, as ``Bound(search=...)`` does."""
    return bool(claim.kind.searched_fields)


def falsify(claim: Claim, *, steps: int, seed: int, data: Dataset) -> Iterator[Closest]:
    """Search every case of a claim for a counterexample, and say how close each search came.

    Nothing needs to be set by the caller: x64 is on where a search runs, and as it was between the results.

    Args:
        claim: one that is :func:`searchable`.
        steps: gradient steps from each of 128 instances of a case.
        seed: what all random keys derive from.
        data: the data set of the data cases.

    Yields:
        A result for each case, long ones included.
    """
    programs = Programs(claim)
    with jax.enable_x64(True):
        groups, unmade = make_groups(claim, MAX_STARTS, seed, data, programs.prepare_and_check, long=True)
    for group in groups:
        for case in group.cases:
            with jax.enable_x64(True):
                closest = _closest(programs, group, case, steps)
            yield closest
    for name in unmade:
        yield Closest(name, np.nan, np.nan, None, False)


def _closest(programs: Programs, group: Group, case: CaseRows, steps: int) -> Closest:
    raw, keys = take((group.raw, group.keys), case.rows)
    start = search(programs, STATEMENT, raw, keys, steps=0)
    end = search(programs, STATEMENT, raw, keys, steps=steps)
    if not (start.admissible.any() and end.admissible.any()):
        return Closest(case.name, np.nan, np.nan, None, False)
    found = _written_down(case, end)
    return Closest(case.name, _written_down(case, start).ratio, found.ratio, found, bool(end.violating.any()))


def _written_down(case: CaseRows, reached: Reached) -> Replay:
    sides = reached.sides.pair(reached.row, reached.component)
    return write_down(reached.raw, reached.row, case.name, reached.row, reached.component, sides, "search")
