"""What differs between two reports: verdicts, looseness, seconds, and claims that only one of them has."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from theory.report.formats import number

Fields = Mapping[str, Any]
"""The fields of a verdicts.json, or of a claim in it."""
FAILED = "FAILED"
"""Stands for the verdict on a claim that could not be verified."""
NOISE = 2.0
"""Factor by which looseness must move to count as drift where the two runs drew different instances.

Looseness is a median over the instances of a case, 32 at the quick tier. Between seeds 0 and 1 it moved by more than a
factor 1.25 in 7 of 136 cases of ``sketch/`` and ``paths/``, by more than 1.5 in 2, and by more than 2 in 1, where the
measured side is rounding alone.
"""
SAME = 1.01
"""The same factor where both runs drew the same instances, so that chance explains nothing."""
SLOWER, SLOWER_S = 2.0, 2.0
"""A claim is named whose seconds grew by more than this factor times that of most claims, and by these seconds more.

The factor of most claims, the median, says how much slower the machine was.
"""
_DRAWN_FROM = ("seed", "tier", "data")
"""The settings that decide which instances there are."""


@dataclass(frozen=True)
class Change:
    """Two values of one thing.

    Attributes:
        what: the claim, with the case or the mutant.
        first: in the first report.
        second: in the second one.
    """

    what: str
    first: Any
    second: Any


@dataclass(frozen=True)
class Comparison:
    """What differs between two reports.

    Attributes:
        settings: settings and versions that differ.
        shared: how many claims both reports have.
        verdicts: verdicts that changed, on claims, cases and mutants.
        looseness: the looseness of cases that moved by more than ``threshold``.
        threshold: the factor that counts: ``SAME`` where both runs drew the same instances, else ``NOISE``.
        only_first: claims, cases and mutants that the second report lacks.
        only_second: those that the first one lacks.
        seconds: of the claims that both have, all together.
        slower: claims whose seconds grew much more than those of most.
    """

    settings: list[Change]
    shared: int
    verdicts: list[Change]
    looseness: list[Change]
    threshold: float
    only_first: list[str]
    only_second: list[str]
    seconds: Change
    slower: list[Change]


def compare(first: Fields, second: Fields) -> Comparison:
    """Compare two reports.

    Args:
        first: the fields of a verdicts.json.
        second: those of another one.
    """
    one, other = _statements(first), _statements(second)
    settings = list(_setting_changes(first, second))
    same = not {change.what for change in settings} & set(_DRAWN_FROM)
    threshold = SAME if same else NOISE
    claims, others = _claims(first), _claims(second)
    shared = [id for id in claims if id in others]
    loose, looser = _looseness(first), _looseness(second)
    seconds = {id: (claims[id]["elapsed_s"], others[id]["elapsed_s"]) for id in shared}
    return Comparison(
        settings=settings,
        shared=len(shared),
        verdicts=[Change(name, one[name], other[name]) for name in one if other.get(name, one[name]) != one[name]],
        looseness=[
            Change(name, loose[name], looser[name])
            for name in loose
            if name in looser and _moved(loose[name], looser[name], threshold)
        ],
        threshold=threshold,
        only_first=_missing(one, other),
        only_second=_missing(other, one),
        seconds=Change("seconds", *(sum(pair[place] for pair in seconds.values()) for place in (0, 1))),
        slower=list(_slower(seconds)),
    )


def lines(found: Comparison) -> Iterator[str]:
    """A comparison in words, a line for each difference.

    Args:
        found: the comparison.
    """
    for change in found.settings:
        yield f"setting {change.what}: {change.first}, then {change.second}"
    for change in found.verdicts:
        yield f"verdict {change.what}: {change.first}, then {change.second}"
    if found.looseness:
        why = "the instances are the same" if found.threshold == SAME else "the instances are different ones"
        yield f"looseness that moved by more than a factor {found.threshold}, where {why}:"
    for change in found.looseness:
        both = change.first is not None and change.second is not None
        factor = f" (factor {number(change.second / change.first)})" if both and change.first else ""
        yield f"looseness {change.what}: {number(change.first)}, then {number(change.second)}{factor}"
    for place, names in (("first", found.only_first), ("second", found.only_second)):
        for name in names:
            yield f"only in the {place}: {name}"
    for change in found.slower:
        yield f"seconds {change.what}: {change.first:.1f}, then {change.second:.1f}"
    yield (
        f"{found.shared} claims in both; verdicts that changed: {len(found.verdicts)}; "
        f"cases that drifted: {len(found.looseness)}; {found.seconds.first:.1f} s, then {found.seconds.second:.1f} s"
    )


def _claims(report: Fields) -> dict[str, Fields]:
    """The claims of a report that have a verdict, by id."""
    return {claim["id"]: claim for claim in report["claims"]}


def _statements(report: Fields) -> dict[str, str]:
    """The verdict on everything that has one: claims, cases, mutants, and claims that could not be verified."""
    found: dict[str, str] = {}
    for id, claim in _claims(report).items():
        found[id] = claim["verdict"]
        found |= {f"{id}, case {name}": case["verdict"] for name, case in claim["cases"].items()}
        found |= {f"{id}, mutant {name}": word for name, word in claim["mutants"].items()}
    return found | {argument.rpartition("::")[2]: FAILED for argument in report["failed"]}


def _looseness(report: Fields) -> dict[str, float | None]:
    """The looseness of each case; None where it has none."""
    return {
        f"{id}, case {name}": case["looseness"]
        for id, claim in _claims(report).items()
        for name, case in claim["cases"].items()
    }


def _setting_changes(first: Fields, second: Fields) -> Iterator[Change]:
    """Settings that differ, and versions."""
    one, other = (
        {**{name: report.get(name) for name in _DRAWN_FROM}, **report["versions"]} for report in (first, second)
    )
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield Change(name, one.get(name), other.get(name))


def _slower(seconds: Mapping[str, tuple[float, float]]) -> Iterator[Change]:
    """The claims that take much longer in the second report than most claims do."""
    machine = statistics.median([after / before for before, after in seconds.values() if before] or [1.0])
    for id, (before, after) in seconds.items():
        if after > SLOWER * machine * before and after > machine * before + SLOWER_S:
            yield Change(id, before, after)


def _moved(before: float | None, after: float | None, factor: float) -> bool:
    """Whether two loosenesses differ by more than the factor, or there is only one of them."""
    if before is None or after is None:
        return before is not after
    low, high = sorted((before, after))
    return high > factor * low


def _missing(these: Mapping[str, str], those: Mapping[str, str]) -> list[str]:
    """What the second one lacks of the first one: claims, and cases and mutants of the claims that it has."""
    lacking = [name for name in these if name not in those]
    return [name for name in lacking if ", " not in name or name.partition(", ")[0] in those]
