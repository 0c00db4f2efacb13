"""verify(claim) -> Verdict: measure both sides until the claim, and every mutant of it, is decided."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np

from sketchprune import data as datasets
from sketchprune.data import Dataset
from theory import engine as programs
from theory import rules
from theory.claim import STATEMENT, Bound, Claim, Effect, Expectation, Identity, Probability, Rate
from theory.engine import Assessed, Group, Totals, taken
from theory.falsify import STARTS, replay, search, searchable
from theory.statistics import combine
from theory.verdict import INCONCLUSIVE, REFUTED, TIERS, CaseVerdict, Tier, Verdict

Found = dict[str, dict[str, CaseVerdict]]
"""Name of the statement or of a mutant -> case name -> verdict."""


def verify(claim: Claim, *, tier: str | Tier = "quick", seed: int = 0, data: Dataset | None = None) -> Verdict:
    """Measures both sides of a claim on its cases and says what came of it.

    Trials run in compiled tiles and stop at the first of the tier's looks at which the claim and its mutants
    are decided. The same claim, tier, seed and data give the same verdict whatever else is verified.

    Args:
        claim: what to verify.
        tier: "quick", "standard" or "full", or a :class:`Tier` of one's own.
        seed: an integer; the claim's key is folded from it and the claim's id.
        data: the data set of the data cases; None is the digits.

    Raises:
        ValueError: x64 is off (identities are decided in float64), or the tier has no such name, or the trial
            does not return the sides that the claim names.
    """
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("jax_enable_x64: got False; verify takes True: jax.config.update('jax_enable_x64', True)")
    if isinstance(tier, str):
        if tier not in TIERS:
            raise ValueError(f"tier: got {tier!r}; takes one of {', '.join(TIERS)}")
        tier = TIERS[tier]
    started = time.perf_counter()
    dataset = _digits() if data is None else data
    kind = type(claim.kind)
    measure = _MEASURES[kind]
    found: Found = {name: {} for name in (STATEMENT, *claim.mutants)}
    counterexample = None
    count = tier.seeds if kind is Effect else tier.instances
    for group in programs.groups(claim, count, seed, dataset, long=tier.long):
        counterexample = measure(claim, group, tier, found) or counterexample
    verdict = _settled(found[STATEMENT])
    return Verdict(
        id=claim.id,
        kind=kind.__name__.lower(),
        verdict=verdict,
        expected=claim.expected,
        tolerance=rules.tolerance(claim, tier),
        cases=found[STATEMENT],
        mutants={name: _settled(found[name]) for name in claim.mutants},
        counterexample=counterexample if verdict == REFUTED else None,
        elapsed_s=time.perf_counter() - started,
    )


_digits = cache(datasets.load)


def _settled(cases: dict[str, CaseVerdict]) -> str:
    return combine([case.verdict for case in cases.values() if not case.control])


def _exactly(claim: Claim, group: Group, tier: Tier, found: Found) -> dict[str, Any] | None:
    """Identities, bounds and enumerated expectations: one evaluation an instance; bounds are then searched."""
    program = programs.evaluate(claim, group.enumerable)
    sides = _named(claim, program(group.instances, group.keys))
    coarse: dict[str, Assessed] | None = None
    if rules.two_sided(claim):
        with jax.enable_x64(False):  # so that no constant of the trial is in float64 either
            coarse = program(programs.single(group.instances), group.keys)
    admissible = group.admissible
    for name, assessed in sides.items():
        for case, rows in _rows(group):
            single = taken(coarse[name], rows) if coarse else None
            found[name][case] = rules.exact(claim, taken(assessed, rows), single, admissible[rows])
    counterexample = _contradiction(claim, group, group.raw, sides[STATEMENT], found, "instance")
    if searchable(claim):
        for name in sides:
            if name == STATEMENT or _settled(found[name]) != REFUTED:
                counterexample = _searched(claim, group, name, tier, found) or counterexample
    return counterexample


def _searched(claim: Claim, group: Group, name: str, tier: Tier, found: Found) -> dict[str, Any] | None:
    """What the search finds may refute."""
    count = len(group.keys)
    starts = np.unique(np.linspace(0, count - 1, min(count, STARTS)).astype(int))
    reached = search(claim, name, taken(group.raw, starts), group.keys[starts], tier.search_steps)
    if not reached.violating.any():
        return None
    worst, start = reached.worst, int(starts[reached.worst])
    case = group.cases[start // tier.instances].name
    refuted = rules.exact(claim, taken(reached.sides, slice(worst, worst + 1)), None, np.array([True]))
    found[name][case] = replace(found[name][case], verdict=REFUTED, measured=refuted.measured, theory=refuted.theory)
    if name != STATEMENT:
        return None
    return replay(case, start % tier.instances, reached.sides, worst, reached.instances)


def _by_trials(claim: Claim, group: Group, tier: Tier, found: Found) -> dict[str, Any] | None:
    """Expectations and probabilities: tiles of trials until all is decided or the tier's trials are spent."""
    if group.enumerable:
        return _exactly(claim, group, tier, found)
    assert isinstance(claim.kind, Expectation | Probability)
    count, admissible = tier.instances, group.admissible
    size, program = programs.block_size(claim, count), programs.run(claim, count)
    instances = programs.single(group.instances) if isinstance(claim.kind, Expectation) else group.instances
    totals: dict[str, dict[str, Totals]] = {}
    cases, done = sum(not case.enumerable for case in claim.chosen(long=tier.long)), 0
    for look in tier.looks:
        blocks = max(look // size, 1) - done // size
        if not blocks:
            continue
        for index, (case, rows) in enumerate(_rows(group)):
            if done * count * cases >= tier.least and case in totals and not _pending(found, case):
                continue
            more = _named(claim, program(instances, group.keys, index, done, blocks))
            totals[case] = jax.tree.map(_add, totals[case], more) if case in totals else more
            for name, sums in totals[case].items():
                found[name][case] = rules.sampled(claim, sums, admissible[rows], tier)
        done += blocks * size
    sums = jax.tree.map(lambda *cases: np.concatenate(cases), *[totals[case][STATEMENT] for case, _ in _rows(group)])
    return _contradiction(claim, group, group.raw, sums, found, "trials")


def _add(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Sums of deviations from a theory of 0 may overflow: to infinity, which is right."""
    with np.errstate(over="ignore"):
        return total + more


def _pending(found: Found, case: str) -> bool:
    """More trials of this case could still decide the claim or a mutant which no case has refuted."""
    return any(
        cases[case].verdict == INCONCLUSIVE
        for name, cases in found.items()
        if name == STATEMENT or _settled(cases) != REFUTED
    )


def _by_sizes(claim: Claim, group: Group, tier: Tier, found: Found) -> dict[str, Any] | None:
    """Rates: one program a size."""
    assert isinstance(claim.kind, Rate)
    sizes = [_named(claim, programs.evaluate_at(claim, size)(group.instances, group.keys)) for size in claim.kind.sizes]
    admissible = group.admissible
    for name, first in sizes[0].items():
        if first.flat.measured.shape[1] != 1:
            raise ValueError(
                f"trial of {claim.id}: returned {first.flat.measured.shape[1]} components of {name!r}; a rate takes one"
            )
    for name in found:
        values = np.stack([sides[name].flat.measured[:, 0] for sides in sizes], axis=1)
        exponent = float(sizes[0][name].flat.theory[0, 0])
        for case, rows in _rows(group):
            found[name][case] = rules.rate(claim, values[rows], exponent, admissible[rows])
    return None


def _paired(claim: Claim, group: Group, tier: Tier, found: Found) -> dict[str, Any] | None:
    """Effects: one pair of arms an instance."""
    sides = _named(claim, programs.evaluate(claim, False)(group.instances, group.keys))
    admissible = group.admissible
    for name, assessed in sides.items():
        for case, (named, rows) in zip(group.cases, _rows(group), strict=True):
            word = rules.effect(claim, taken(assessed, rows), admissible[rows])
            found[name][named] = replace(word, control=case.control)
    return None


_MEASURES: dict[type, Callable[[Claim, Group, Tier, Found], dict[str, Any] | None]] = {
    Identity: _exactly,
    Bound: _exactly,
    Expectation: _by_trials,
    Probability: _by_trials,
    Rate: _by_sizes,
    Effect: _paired,
}


def _named(claim: Claim, sides: dict[str, Any]) -> dict[str, Any]:
    names = (STATEMENT, *claim.mutants)
    if set(sides) != set(names):
        raise ValueError(f"trial of {claim.id}: returned the sides {sorted(sides)}; takes {sorted(names)}")
    return {name: sides[name] for name in names}


def _rows(group: Group) -> list[tuple[str, slice]]:
    """Case name and the rows of its instances."""
    count = group.keys.shape[0] // len(group.cases)
    return [(case.name, slice(i * count, (i + 1) * count)) for i, case in enumerate(group.cases)]


def _contradiction(
    claim: Claim, group: Group, raw: Any, sides: Assessed | Totals, found: Found, found_by: str
) -> dict[str, Any] | None:
    """The worst instance of the first refuted case."""
    for case, rows in _rows(group):
        if found[STATEMENT][case].verdict == REFUTED:
            row, component = rules.worst_instance(claim, taken(sides, rows), group.admissible[rows])
            return replay(case, row, sides, rows.start + row, raw, found_by, component)
    return None
