"""verify(claim) -> Verdict: measure both sides until the claim, and every mutant of it, is decided."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax

from sketchprune import data as datasets
from sketchprune.data import Dataset
from theory.claim import Claim, key_alone
from theory.counterexamples.certify import certify
from theory.counterexamples.replay import python_file
from theory.counterexamples.shrink import Remembered, shrink, tried_again
from theory.counterexamples.tracing import draw
from theory.engine import Programs
from theory.instances import Group, as_lists
from theory.kinds.kind import STATEMENT, Findings
from theory.runs import Runs
from theory.verdict import REFUTED, TIERS, Decision, Replay, Tier, Verdict


def verify(
    claim: Claim,
    *,
    tier: str | Tier = "quick",
    seed: int = 0,
    data: Dataset | None = None,
    remembered: Remembered | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Measure both sides of a claim on its cases, and decide the claim and each of its mutants.

    Trials run in compiled tiles and stop at the first of the tier's looks at which everything is decided. The same
    claim, tier, seed and data give the same verdict whatever else is verified.

    The caller sets nothing up: x64 is on inside, in this thread alone, and afterwards as it was before. Several threads
    may verify at once. Compiled programs are released at the end.

    Args:
        claim: what to verify.
        tier: "quick", "standard" or "full", or a :class:`theory.Tier` of one's own.
        seed: an integer; the claim's keys are folded from it and the claim's id.
        data: the data set of the data cases; None is the digits.
        remembered: a counterexample that an earlier run found; if it contradicts the claim still, it refutes it.
        progress: takes a few words, such as "size 64", whenever something else is being measured.

    Returns:
        The verdict on the claim, its cases and its mutants.

    Raises:
        ValueError: the tier has no such name, or the trial does not return the sides that the claim names.
    """
    if isinstance(tier, str):
        if tier not in TIERS:
            raise ValueError(f"tier is {tier!r}; it takes one of {', '.join(TIERS)}")
        tier = TIERS[tier]
    samples = _digits() if data is None else data
    return verify_with(Programs(claim), tier, seed, samples, remembered, progress=progress)


def verify_with(
    programs: Programs,
    tier: Tier,
    seed: int,
    dataset: Dataset,
    remembered: Remembered | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """:func:`verify` with programs that the caller keeps, so that a second verification compiles nothing.

    Args:
        programs: of the claim.
        tier: how much work is done.
        seed: what all random keys derive from.
        dataset: the data set of the data cases.
        remembered: as for :func:`verify`.
        progress: as for :func:`verify`.
    """
    claim, started = programs.claim, time.perf_counter()
    with jax.enable_x64(True):
        runs = Runs(programs, tier, seed, dataset, progress=progress)
        found = claim.kind.measure(runs, tier)
        if remembered is not None:
            found = _with_memory(claim, found, remembered)
        verdict = found.decision(STATEMENT)
        example = found.counterexample if verdict == REFUTED else None
        if example is not None:
            progress("making the counterexample smaller")
            example = replace(example, smaller=_smaller(claim, runs.groups, example))
    reasons = {case.name: case.reason for group in runs.groups for case in group.cases}
    cases = {name: replace(case, reason=case.reason or reasons[name]) for name, case in found.cases[STATEMENT].items()}
    return Verdict(
        id=claim.id,
        kind=claim.kind.words.name,
        verdict=verdict,
        expected=None if claim.expected is None else Decision(claim.expected),
        tolerance=claim.kind.tolerance(tier),
        cases=cases | runs.unmade,
        mutants={name: found.decision(name) for name in claim.mutants},
        counterexample=example,
        elapsed_s=time.perf_counter() - started,
    )


def decisions(programs: Programs, tier: Tier, seed: int, dataset: Dataset) -> dict[str, Decision]:
    """What :func:`verify_with` decides of the claim ("claim") and of each mutant; counterexamples are left as they are.

    Args:
        programs: of the claim.
        tier: how much work is done.
        seed: what all random keys derive from.
        dataset: the data set of the data cases.
    """
    with jax.enable_x64(True):
        found = programs.claim.kind.measure(Runs(programs, tier, seed, dataset), tier)
    return {statement: found.decision(statement) for statement in found.cases}


def _with_memory(claim: Claim, found: Findings, remembered: Remembered) -> Findings:
    """The findings, with the verdict that a remembered counterexample gives where none was found."""
    before = found.cases[STATEMENT].get(remembered.case)
    if before is None or found.decision(STATEMENT) == REFUTED:
        return found
    again = tried_again(claim, remembered)
    if again is None:
        return found
    refuted = replace(before, verdict=REFUTED, measured=again.measured, theory=again.theory)
    return found | Findings({STATEMENT: {remembered.case: refuted}}, again)


def _smaller(claim: Claim, groups: Sequence[Group], example: Replay) -> Replay | None:
    """The counterexample made as small as it gets, with its certificate; None where one evaluation decides nothing."""
    shrunk = shrink(claim, groups, example)
    if shrunk is None:
        return None
    certificate = certify(claim, shrunk.raw, shrunk.key, enumerated=shrunk.enumerated)
    program = python_file(claim, shrunk, certificate)
    random = not shrunk.enumerated and claim.draw is not key_alone
    drawn = as_lists({"draw": draw(claim, shrunk.raw, shrunk.key)}) if random else {}
    named = {name.replace("['draw']", "draw", 1): values for name, values in drawn.items()}
    return replace(shrunk.replay, certificate=certificate, program=program, drawn=named)


_digits = functools.cache(datasets.load)
