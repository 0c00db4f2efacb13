"""How long work takes on chips: the sum of what each part of it takes at the chip's rate for it.

The parts are taken to run one after another. Where a chip overlaps them it is faster: by no more than the number of
parts, and hardly at all where one part takes nearly all of the time.
"""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.plan.chips import Chip, Rates
from benchmarks.plan.costs import Cost


class Work(NamedTuple):
    """Many units of one kind, such as masks.

    Attributes:
        unit: what one is.
        cost: of a program that does ``units`` of them.
        units: how many.
        units_per_call: how many a chip does at most between two returns to the host.
        host: number of chips -> seconds that the host needs between two calls, beside the chip's own overhead.
        exchanged: bytes that a chip sends to all others in a call.
        memory: bytes that a chip needs.
    """

    unit: str
    cost: Cost
    units: int
    units_per_call: int
    host: Callable[[int], float] = lambda chips: 0.0
    exchanged: int = 0
    memory: float = 0.0


class Prediction(NamedTuple):
    """What is to be expected of a number of chips.

    Attributes:
        parts: name -> seconds that each part of one unit takes, shared by the chips.
    """

    parts: dict[str, float]

    @property
    def seconds(self) -> float:
        """Time of one unit."""
        return sum(self.parts.values())

    def share(self, part: str) -> float:
        """The fraction of the time that a part takes.

        Args:
            part: its name.
        """
        return self.parts[part] / self.seconds


def on_device(cost: Cost, units: int, rates: Rates) -> dict[str, float]:
    """Seconds of one unit on one chip, part by part.

    Args:
        cost: of a program that does ``units`` of them.
        units: how many.
        rates: of the chip.
    """
    return {
        "products": cost.products / rates.products / units,
        "elementwise": cost.elementwise / rates.elementwise / units,
        "lookups": cost.lookups / rates.lookups / units,
        "memory": cost.bytes / rates.memory / units,
    }


def predicted(work: Work, chip: Chip, chips: int) -> Prediction:
    """What a number of chips does with work that they share evenly.

    Args:
        work: what is done.
        chip: what does it.
        chips: how many.

    Raises:
        ValueError: there is no chip.
    """
    if chips < 1:
        raise ValueError(f"chips is {chips}; it takes a whole number >= 1")
    parts = {name: seconds / chips for name, seconds in on_device(work.cost, work.units, chip.rates).items()}
    units = chips * work.units_per_call
    parts["host"] = (chip.call + work.host(chips)) / units
    parts["exchange"] = chip.exchange_seconds(chips, work.exchanged) / units
    return Prediction(parts)
