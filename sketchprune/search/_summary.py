"""What a search has found so far, on the host: everything in it is the same in whichever order parts arrive."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Int

from sketchprune.search import _bins, _exact
from sketchprune.search._tiles import Share


def _no_counts() -> Int[np.ndarray, "bins"]:
    return np.zeros(_bins.COUNT, np.int64)


@dataclass(frozen=True)
class Tally:
    """Totals over the masks 0 … done − 1.

    Attributes:
        best: how many of the best masks are kept.
        done: masks evaluated.
        undefined: NaN values among them.
        histogram: [bins], of all others.
        count: finite values; the next three are of these.
        total: Σ of the values, in exact units.
        within: Σ of squared deviations from the mean of the tile, in exact units.
        between: Σ of squared means of tiles, each times the count of its tile, in exact units.
        largest: of the values that are no NaN.
        found: (value, index), ascending: the best few.
    """

    best: int
    done: int = 0
    undefined: int = 0
    histogram: Int[np.ndarray, "bins"] = field(default_factory=_no_counts)
    count: int = 0
    total: int = 0
    within: int = 0
    between: int = 0
    largest: float = -np.inf
    found: list[tuple[float, int]] = field(default_factory=list)

    def plus(self, share: Share, num_masks: int) -> "Tally":
        """With the masks done … done + num_masks − 1 counted in; this tally stays as it is."""
        scales, counts, means, squares = (
            np.asarray(part, np.float64).ravel() for part in (share.scales, share.counts, share.means, share.squares)
        )
        powers = np.frexp(scales)[1] - 1
        values, places = np.asarray(share.values).ravel(), np.asarray(share.places).ravel()
        kept = ~np.isnan(values)
        # Python's numbers: an index may pass 2^32 and 2^53, and −0.0 equals 0.0.
        new = zip(values[kept].tolist(), places[kept].tolist(), strict=True)
        return Tally(
            best=self.best,
            done=self.done + num_masks,
            undefined=self.undefined + int(share.undefined),
            histogram=self.histogram + np.asarray(share.histogram),
            count=self.count + int(counts.sum()),
            total=self.total + _exact.units(counts * means, powers),
            within=self.within + _exact.units(squares, 2 * powers),
            between=self.between + _exact.units(counts * means**2, 2 * powers),
            largest=max(self.largest, float(share.largest)),
            found=sorted(self.found + [(value, self.done + place) for value, place in new])[: self.best],
        )

    def moments(self) -> tuple[float, float]:
        """The mean of the finite values, and the mean square of their deviations from it.

        NaN of none, and for what float64 cannot hold.
        """
        if not self.count:
            return float("nan"), float("nan")
        mean = _exact.in_units(self.total) / self.count
        spread = (_exact.in_units(self.within) + _exact.in_units(self.between)) / self.count - mean**2
        return _as_float(mean), _as_float(max(spread, Fraction(0)))

    def record(self) -> dict[str, Any]:
        """As JSON has it, without loss."""
        places = np.flatnonzero(self.histogram)
        plain = {name: value for name, value in vars(self).items() if name != "histogram"}
        return plain | {"histogram": [places.tolist(), self.histogram[places].tolist()]}

    @classmethod
    def restored(cls, record: dict[str, Any]) -> "Tally":
        """The tally that a record stands for."""
        places, counts = record["histogram"]
        histogram = _no_counts()
        histogram[places] = counts
        found = [(float(value), int(index)) for value, index in record["found"]]
        return cls(**record | {"histogram": histogram, "found": found})


def _as_float(number: Fraction) -> float:
    """The nearest float64, or NaN where the number is too large for any."""
    try:
        return float(number)
    except OverflowError:
        return float("nan")
