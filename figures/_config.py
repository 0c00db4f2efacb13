"""The settings of a run, as a figure sees them, and how a figure asks for pieces of work and for verdicts."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from figures._parts import Arrays, Parts
from figures._verdicts import parsed, reported, verified
from sketchprune.data import Dataset, hold_out, load, subset

if TYPE_CHECKING:
    from theory.verdict import Verdict

Scale = Literal["tiny", "small", "paper"]
"""How much work a figure does: "tiny" to try a change, "small" for the digits on two cores, "paper" for an accelerator
and the sizes of the papers."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class BySize(Generic[Settings]):
    """What a figure does on small images, such as the digits, and on others, such as MNIST's and CIFAR's.

    Attributes:
        small: where images have fewer than 28 pixels a side, and on plain features.
        large: on all others.
    """

    small: Settings
    large: Settings


@dataclass(frozen=True)
class Config:
    """How the numbers of a figure are made.

    Attributes:
        seed: the seed of the run; the key of each figure derives from it and from the figure's name.
        scale: how much work is done.
        data: the samples.
        test: samples to test networks on, which ``data`` does not hold; None where the data set has no test set.
        report: a verdicts.json whose verdicts are drawn; without it the claims are verified.
        parts: where finished pieces of work are kept; by default nowhere.
    """

    seed: int = 0
    scale: Scale = "small"
    data: Dataset = field(default_factory=load)
    test: Dataset | None = None
    report: Path | None = None
    parts: Parts = field(default_factory=Parts)

    def settings(self, by_scale: Mapping[Scale, Settings | BySize[Settings]]) -> Settings:
        """What a figure does at the scale of this run, and with images of this size.

        Args:
            by_scale: what it does at each scale.
        """
        if self.scale not in by_scale:
            raise ValueError(f"scale is {self.scale}; it takes {' or '.join(by_scale)}")
        found = by_scale[self.scale]
        if isinstance(found, BySize):
            return found.large if min(self.data.image_shape[:2], default=0) >= 28 else found.small
        return found

    def part(self, label: str, function: Callable[[], Arrays]) -> Arrays:
        """A piece of work: run now, or read back where an earlier run with the same settings and source has done it.

        Two figures share a piece if their functions are in one module and the labels agree.

        Args:
            label: tells apart the pieces of a module. It names all that the function depends on besides this
                configuration and its source.
            function: does the work.

        Returns:
            What the function returned, as NumPy arrays.
        """
        return self.parts.done(label, function, self.identity)

    def halves(self, samples: int | None = None) -> tuple[Dataset, Dataset]:
        """What networks are trained on and tested on: without a test set, a fixed part of the data is held out.

        Args:
            samples: the most that are trained on, the same part of each class.
        """
        train, test = hold_out(self.data) if self.test is None else (self.data, self.test)
        return (subset(train, samples) if samples is not None and samples < len(train.x) else train), test

    def verdict(self, claim: str) -> "Verdict":
        """The verdict on a claim of the catalogue: the report's, or from verifying it at the quick tier.

        Args:
            claim: its id.
        """
        if self.report is not None and (found := reported(self.report, self.data).get(claim)) is not None:
            return found
        text = self.part(claim, functools.partial(verified, claim, self.seed, self.data))
        return parsed(str(text["json"]))

    @functools.cached_property
    def identity(self) -> tuple[str, ...]:
        """What tells this run from others, besides the source and the report."""
        sets = (self.data, self.test)
        kinds = [None if each is None else (each.name, each.image_shape, each.num_classes) for each in sets]
        return str(self.seed), self.scale, repr(kinds), _checksum(sets)


def _checksum(data: tuple[Dataset, Dataset | None]) -> str:
    """A checksum of the samples and the labels of both sets."""
    from sketchprune._checksums import checksum

    return f"{checksum(data):08x}"
