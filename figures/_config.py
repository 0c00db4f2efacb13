"""The settings that the figures of one run share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tier = Literal["quick", "standard"]


@dataclass(frozen=True)
class Config:
    """How the numbers of a figure are made.

    Attributes:
        seed: the seed of the run; the key of each figure derives from it and from the figure's name.
        tier: how much work is done: "quick" to look at a figure, "standard" to print it.
        report: a verdicts.json whose verdicts are drawn; without it, figures of verdicts verify the claims first.
    """

    seed: int = 0
    tier: Tier = "standard"
    report: Path | None = None
