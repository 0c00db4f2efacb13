"""What the figures of one run have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tier = Literal["quick", "standard"]


@dataclass(frozen=True)
class Config:
    """How much work is behind a figure.

    Attributes:
        seed: of the run; each figure's key derives from it.
        tier: "quick" to look at, "standard" to print.
        report: the verdicts.json whose verdicts are drawn; None verifies what is needed.
    """

    seed: int = 0
    tier: Tier = "standard"
    report: Path | None = None
