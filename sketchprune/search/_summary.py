"""What a search has found so far, on the host.

Tiles are summed up one after another in the order of their masks, so that the totals are the same, bit for bit,
however the tiles were spread over batches, devices and runs.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sketchprune.search import _bins
from sketchprune.search._tiles import BatchSummary


def _empty_histogram() -> Int[np.ndarray, "bins"]:
    return np.zeros(_bins.NUM_BINS, np.int64)


@dataclass(frozen=True)
class SearchSummary:
    """Totals over the masks 0 … done − 1.

    Attributes:
        num_best: how many of the best masks are kept.
        done: masks evaluated.
        undefined: how many of their values are NaN.
        histogram: [bins], of all other values.
        finite: how many values are finite.
        reference: the mean of the first tile that has a finite value; None before. Deviations from it are summed up, in
            place of the values, so that the variance is no difference of large numbers.
        deviations: Σ (value − reference) over the finite values.
        squares: Σ (value − reference)² over the finite values.
        largest: the largest value; −∞ while all are NaN.
        best: (value, index) of the best masks, ascending.
    """

    num_best: int
    done: int = 0
    undefined: int = 0
    histogram: Int[np.ndarray, "bins"] = field(default_factory=_empty_histogram)
    finite: int = 0
    reference: float | None = None
    deviations: float = 0.0
    squares: float = 0.0
    largest: float = -math.inf
    best: list[tuple[float, int]] = field(default_factory=list)

    def plus(self, batch: BatchSummary, num_masks: int) -> "SearchSummary":
        """The summary with the masks done … done + num_masks − 1 counted in; this one stays as it is."""
        values = np.asarray(batch.values).ravel()
        defined = ~np.isnan(values)
        # Python's numbers, since an index may exceed 2^53.
        places = np.asarray(batch.places).ravel()[defined].tolist()
        new = [(value, self.done + place) for value, place in zip(values[defined].tolist(), places, strict=True)]
        summary = replace(
            self,
            done=self.done + num_masks,
            undefined=self.undefined + int(batch.undefined),
            histogram=self.histogram + np.asarray(batch.histogram),
            largest=max(self.largest, float(batch.largest)),
            best=sorted(self.best + new)[: self.num_best],
        )
        return summary._plus_tiles(batch)

    def _plus_tiles(self, batch: BatchSummary) -> "SearchSummary":
        """With the sums of a batch's tiles added, one tile after another."""
        # By device, then by tile: the order of the masks. Tiles without a finite value change nothing.
        known = np.asarray(batch.counts).ravel() > 0
        if not known.any():
            return self
        scales, counts, means, squares = (
            np.asarray(part, np.float64).ravel()[known]
            for part in (batch.scales, batch.counts, batch.means, batch.squares)
        )
        with np.errstate(over="ignore", invalid="ignore"):  # what float64 cannot hold is NaN in the end
            means = means * scales
            reference = float(means[0]) if self.reference is None else self.reference
            deviations = means - reference
            return replace(
                self,
                finite=self.finite + int(counts.sum()),
                reference=reference,
                deviations=_sum_in_order(self.deviations, counts * deviations),
                squares=_sum_in_order(self.squares, squares * scales**2 + counts * deviations**2),
            )

    def moments(self) -> tuple[float, float]:
        """The mean of the finite values, and the mean square of their deviations from it.

        NaN where there is no finite value, and where float64 cannot hold the sums.
        """
        if self.reference is None:
            return math.nan, math.nan
        shift = self.deviations / self.finite
        mean = self.reference + shift
        variance = max(self.squares / self.finite - shift * shift, 0.0)
        return mean if math.isfinite(mean) else math.nan, variance if math.isfinite(variance) else math.nan

    def record(self) -> dict[str, Any]:
        """The summary as JSON holds it, without loss."""
        occupied = np.flatnonzero(self.histogram)
        return vars(self) | {"histogram": [occupied.tolist(), self.histogram[occupied].tolist()]}

    @classmethod
    def restored(cls, record: dict[str, Any]) -> "SearchSummary":
        """The summary that a record was made of."""
        occupied, counts = record["histogram"]
        histogram = _empty_histogram()
        histogram[occupied] = counts
        best = [(float(value), int(index)) for value, index in record["best"]]
        return cls(**record | {"histogram": histogram, "best": best})


def _sum_in_order(total: float, parts: Float[np.ndarray, "n"]) -> float:
    """The total plus one part after another: the result does not depend on how the parts come in batches."""
    return float(np.add.accumulate(np.append(total, parts))[-1])
