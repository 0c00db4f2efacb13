"""A report on the whole catalogue with made-up verdicts, which have everything that a page may show."""

import math
from dataclasses import replace
from functools import cache

import numpy as np

from theory.catalogue import CATALOGUE
from theory.kinds import Effect, Expectation, Probability, Rate
from theory.kinds.kind import case_verdict
from theory.report.run import Report, Run, Selected
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, UNMET, CaseVerdict, Certificate, Decision, Replay, Verdict

RUN = Run(seed=0, tier="quick", data="digits", data_crc32=7, versions={"sketchprune": "0.1.0", "jax": "0.10.2"})
WRONG, UNDECIDED, SURVIVED = "sketch/frobenius", "paths/trace", "tangent/poisson"
"""Claims whose verdict is not the expected one, is INCONCLUSIVE, and has a mutant that is not refuted."""
DISAGREES = "lottery/edge-popup"
"""An effect that the data contradict."""
INSTANCES = np.ones(32, bool)


@cache
def catalogue_report() -> Report:
    """A verdict on each claim."""
    rng = np.random.default_rng(0)
    return Report(RUN, [(Selected(claim, claim.id), _verdict(claim, rng)) for claim in CATALOGUE])


def _verdict(claim, rng):
    expected = None if claim.expected is None else Decision(claim.expected)
    words = {WRONG: REFUTED, UNDECIDED: INCONCLUSIVE, DISAGREES: REFUTED}
    word = words.get(claim.id, expected or SUPPORTED)
    cases = {case.name.format(data="digits"): _case(claim.kind, word, case, rng) for case in claim.cases}
    mutants = dict.fromkeys(claim.mutants, REFUTED)
    if claim.id == SURVIVED:
        mutants[claim.mutants[0]] = SUPPORTED
    return Verdict(
        id=claim.id,
        kind=claim.kind.words.name,
        verdict=word,
        expected=expected,
        tolerance=0.1,
        cases=cases,
        mutants=mutants,
        counterexample=_counterexample(next(iter(cases)), rng) if word == REFUTED and expected else None,
        elapsed_s=float(rng.uniform(1, 60)),
    )


def _case(kind, word, case, rng) -> CaseVerdict:
    """A verdict with the numbers that the kind has; one case in ten has none."""
    if rng.random() < 0.1 and not case.control:
        return case_verdict(UNMET, ~INSTANCES, method="none", reason="no instance meets: " + "a long hypothesis, " * 5)
    verdict = case_verdict(word, INSTANCES, method="a method", measured=0.02, theory=0.05, trials=131072)
    ratios = np.sort(10 ** rng.uniform(-0.2, 3, 7))
    loose = {"looseness": float(ratios[3]), "looseness_quantiles": tuple(ratios.tolist())}
    interval = {"interval": (0.01, 0.03)}
    if isinstance(kind, Rate):
        points = tuple((float(size), float(size) ** -0.6) for size in kind.sizes)
        return replace(verdict, measured=-0.6, theory=-0.5, points=points, interval=(-0.7, -0.5))
    if isinstance(kind, Effect):
        contrast = {"contrast": 0.03, "contrast_interval": (0.01, 0.05)} if case.control else {}
        return replace(verdict, theory=-0.01, control=case.control, **interval, **contrast)
    if isinstance(kind, Probability | Expectation):
        return replace(verdict, **loose, **interval)
    return replace(verdict, resolution=0.9, **(loose if kind.words.name == "bound" else {"measured": 1e-15}))


def _counterexample(case, rng):
    """One with arrays as large as heat maps may be, a mask, a vector, and numbers that are not finite."""
    values = {
        "x": rng.standard_normal((64, 64)).tolist(),
        "kept": (rng.random((10, 12)) < 0.5).tolist(),
        "w": [*rng.standard_normal(200).tolist(), math.nan],
        "budget": 16,
        "images": "float64 [1000, 64]",
    }
    fields = {"component": 0, "measured": 2.0, "theory": 1.0, "key": (1, 2)}
    smaller = Replay(
        case, 3, "shrinking", values={"x": [[1.0, -0.5]]}, certificate=Certificate(True, 0.5, 64), program="1", **fields
    )
    return Replay(case, 3, "instance", values=values, smaller=smaller, **fields)
