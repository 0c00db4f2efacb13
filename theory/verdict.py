"""What a verification returns, and the tiers of effort it is made at."""

from dataclasses import dataclass, field
from typing import Any

SUPPORTED = "SUPPORTED"
"""The statement holds on every admissible instance, within the tolerance where it is statistical."""
REFUTED = "REFUTED"
"""Some admissible instance contradicts the statement, or gave a number that is not finite."""
VACUOUS = "VACUOUS"
"""The statement holds, but in the median instance its bound exceeds the trivial one."""
UNMET = "UNMET"
"""No instance met the hypotheses."""
INCONCLUSIVE = "INCONCLUSIVE"
"""The tier's trials are spent and the interval still allows both answers."""

LEVEL = 1e-6
"""Probability of a wrong decision, per decision: below 10^-3 for any catalogue of under 1,000 decisions."""
EFFECT_LEVEL = 1e-3
"""The same for rates and effects, whose intervals are 99.9 % intervals."""


@dataclass(frozen=True)
class Tier:
    """How much work a verification may do; budgets count trials, never seconds.

    Attributes:
        name: quick, standard or full.
        instances: instances a case.
        looks: trials an instance at which a decision may fall, ascending.
        tolerance: relative deviation of a mean that still supports a claim.
        search_steps: gradient steps of the search for counterexamples.
        seeds: instances a case of an effect, whose trials train networks.
        least: trials, over the cases of a claim, before which no decision falls.
        long: whether cases that are long run.
    """

    name: str
    instances: int
    looks: tuple[int, ...]
    tolerance: float
    search_steps: int
    seeds: int = 16
    least: int = 0
    long: bool = False


TIERS = {
    tier.name: tier
    for tier in (
        Tier("quick", instances=32, looks=(32, 128, 1024, 4096), tolerance=0.10, search_steps=50),
        Tier(
            "standard",
            instances=128,
            looks=(128, 256, 1024, 4096, 16384),
            least=100_000,
            tolerance=0.02,
            search_steps=200,
            seeds=32,
        ),
        Tier(
            "full",
            instances=512,
            looks=(128, 1024, 4096, 16384),
            least=100_000,
            tolerance=0.01,
            search_steps=500,
            seeds=64,
            long=True,
        ),
    )
}


@dataclass(frozen=True)
class CaseVerdict:
    """The verdict on one case.

    What ``measured`` and ``theory`` are depends on the kind:

    ============  =========================================  ==========================================
    kind          measured                                   theory
    ============  =========================================  ==========================================
    identity      largest residual, relative to its scale    largest residual that rounding explains
    bound         median of the measured side                median of the bound
    expectation   median over instances of the mean          median of the theory's side
    probability   failure frequency of the worst component   the failure rate that the claim allows
    rate          exponent                                   the theory's exponent
    effect        mean difference of the paired arms         minus the margin
    ============  =========================================  ==========================================

    Attributes:
        verdict: one of the words above.
        trials: trials behind the verdict; 0 where the outcomes are enumerated or nothing is random.
        instances: instances made.
        admissible: instances that met the hypotheses.
        looseness: median of theory/measured over instances and components (bounds, expectations,
            probabilities), else nan.
        interval: confidence interval that decided, in the units of ``measured`` for probabilities, rates and
            effects, relative to the scale for expectations; None where nothing is random.
        method: how it was decided: "rounding", "enumerated", "empirical Bernstein", "asymptotic",
            "exact binomial", "slopes" or "paired".
        control: a control of an effect, which has no part in the verdict on the claim.
    """

    verdict: str
    trials: int
    instances: int
    admissible: int
    measured: float
    theory: float
    looseness: float
    interval: tuple[float, float] | None
    method: str
    control: bool = False


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, its cases and its mutants.

    Attributes:
        id: the claim's.
        kind: identity, bound, expectation, probability, rate or effect.
        verdict: one of the words above.
        expected: the verdict that the mathematics predicts; None for effects.
        tolerance: relative tolerance of the decision (of the exponent for rates, the margin for effects; 1 for
            probabilities: failure rates that are known to lie below 2δ pass).
        cases: case name -> verdict.
        mutants: mutant name -> verdict; every one should be REFUTED.
        counterexample: None, or the replay of what refuted the claim: ``case``, ``instance`` (index),
            ``found_by`` ("instance", "search" or "trials"), ``component``, ``measured``, ``theory`` and
            ``values`` (the instance's small arrays, as nested lists).
        elapsed_s: seconds it took.
    """

    id: str
    kind: str
    verdict: str
    expected: str | None
    tolerance: float
    cases: dict[str, CaseVerdict]
    mutants: dict[str, str]
    counterexample: dict[str, Any] | None
    elapsed_s: float = field(compare=False)

    @property
    def as_expected(self) -> bool:
        """The verdict is the expected one and every mutant is refuted."""
        return (self.expected in (None, self.verdict)) and all(v == REFUTED for v in self.mutants.values())

    @property
    def undecided(self) -> bool:
        """More trials could change this: the claim or a mutant is INCONCLUSIVE."""
        return INCONCLUSIVE in (self.verdict, *self.mutants.values())

    @property
    def trials(self) -> int:
        """Trials behind the verdict, over all cases."""
        return sum(case.trials for case in self.cases.values())

    @property
    def looseness(self) -> float:
        """Median over the cases that say something of theory/measured; nan where no case has one."""
        finite = sorted(case.looseness for case in self.cases.values() if case.looseness == case.looseness)
        return finite[len(finite) // 2] if finite else float("nan")
