"""What a report is about: the settings of a run, the claims it verified, and their verdicts."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from theory.claim import Claim
from theory.verdict import INCONCLUSIVE, LEVEL, REFUTED, SUPPORTED, Verdict

SCHEMA = 4
"""Version of the fields in the files of a report."""
WHOLE = "1/1"
"""The shard of a run that verifies all that was selected."""

Standing = Literal["good", "bad", "open", "seen"]
Tone = Literal["good", "bad", "open", "seen", "idle"]


@dataclass(frozen=True)
class Selected:
    """A claim, and how the command line names it.

    Attributes:
        claim: the claim.
        argument: "family/name", or "FILE.py::family/name".
        file_crc32: checksum of the user's file and of the files in its folder that it imports; None for a claim of
            the catalogue. When the file changes, earlier verdicts on its claims no longer count.
    """

    claim: Claim
    argument: str
    file_crc32: int | None = None


@dataclass(frozen=True)
class Run:
    """The settings of a run. Verdicts may stand in one report if all of these agree.

    Attributes:
        seed: the seed that all random keys derive from.
        tier: the name of the tier.
        data: "digits" or the path of a data set, as the user gave it.
        data_crc32: checksum of the arrays of the data set.
        versions: the version of everything that the numbers depend on.
        level: the probability of a wrong decision, for each decision.
        schema: version of the fields in the files of a report.
        shard: "i/N", the part of the selection that this run verifies.
        selection: what a shard is a part of, as words for a shell; empty for a whole run.
    """

    seed: int
    tier: str
    data: str
    data_crc32: int
    versions: Mapping[str, str]
    level: float = LEVEL
    schema: int = SCHEMA
    shard: str = WHOLE
    selection: str = ""

    def command(self, *arguments: str) -> str:
        """The command that verifies these claims again, quoted for a shell."""
        return verify_command(*arguments, tier=self.tier, seed=self.seed, data=self.data)


@dataclass
class Report:
    """A run and what came of it.

    Attributes:
        run: the settings.
        verdicts: each claim with its verdict, in the order in which the claims were selected.
        failed: the argument of each claim that could not be verified, with the reason.
    """

    run: Run
    verdicts: list[tuple[Selected, Verdict]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def num_claims(self) -> int:
        """How many claims were verified, or could not be."""
        return len(self.verdicts) + len(self.failed)

    @property
    def num_expected(self) -> int:
        """How many verdicts are the expected ones, with every mutant refuted."""
        return sum(verdict.as_expected for _, verdict in self.verdicts)

    @property
    def num_mutants(self) -> int:
        """How many mutants were checked."""
        return sum(len(verdict.mutants) for _, verdict in self.verdicts)

    @property
    def num_refuted_mutants(self) -> int:
        """How many mutants were refuted."""
        return sum(refuted_mutants(verdict) for _, verdict in self.verdicts)


def verify_command(*arguments: str, tier: str, seed: int, data: str) -> str:
    """The command that verifies claims, quoted for a shell.

    >>> verify_command("mine.py::my/bound", tier="quick", seed=0, data="my images.npz")
    "sketchprune verify mine.py::my/bound --tier quick --seed 0 --data 'my images.npz'"
    """
    words = ["sketchprune", "verify", *arguments, "--tier", tier, "--seed", str(seed)]
    return shlex.join(words if data == "digits" else [*words, "--data", data])


def refuted_mutants(verdict: Verdict) -> int:
    """How many mutants of a claim were refuted."""
    return sum(outcome == REFUTED for outcome in verdict.mutants.values())


def standing(verdict: Verdict) -> Standing:
    """What a verdict means for its reader.

    "open": more trials could change it. "bad": it is not the expected one, or a mutant survives. "seen": an
    observation, of which nothing was expected. "good": as expected.
    """
    if verdict.undecided:
        return "open"
    if not verdict.as_expected:
        return "bad"
    return "seen" if verdict.expected is None else "good"


def tone(word: str, expected: str | None) -> Tone:
    """The colour of a verdict word.

    Args:
        word: the verdict on a claim, a case or a mutant.
        expected: the one that was expected; None where nothing was.
    """
    if expected is None and word in (SUPPORTED, REFUTED):
        return "seen"
    if word == expected:
        return "good"
    tones: dict[str, Tone] = {SUPPORTED: "good", REFUTED: "bad", INCONCLUSIVE: "open"}
    return tones.get(word, "idle")
