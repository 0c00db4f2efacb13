"""What a mask keeps, by layer and in all."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from sketchprune._boundary import checked
from sketchprune.masks import parameters
from sketchprune.types import Mask, Prunable


class Summary(NamedTuple):
    """What a mask keeps of each layer.

    Attributes:
        kept: how many entries of each leaf are not zero; 0 for leaves that are never pruned, as in
            :func:`sketchprune.prune.layer_counts`.
        sizes: how many entries there are; 0 likewise.
    """

    kept: PyTree[int]
    sizes: PyTree[int]

    @property
    def densities(self) -> PyTree[float]:
        """The part of each leaf that is kept; 1.0 for leaves that are never pruned."""
        return jax.tree.map(lambda kept, size: kept / size if size else 1.0, self.kept, self.sizes)

    @property
    def density(self) -> float:
        """The part of all prunable weights that is kept."""
        return sum(jax.tree.leaves(self.kept)) / sum(jax.tree.leaves(self.sizes))


@checked
def summary(mask: Mask, prunable: Prunable = None) -> Summary:
    """What a mask keeps by layer and in all: the realised densities, beside those that were asked for.

    Args:
        mask: a mask, not traced.
        prunable: which leaves may be pruned, as for :func:`sketchprune.masks.prunable`.

    Returns:
        Counts of whole numbers on the host, with the densities that follow.

    Raises:
        ValueError: as :func:`sketchprune.masks.prunable`.

    Cost: O(d), on the host.

    >>> found = summary({"kernel": np.array([[True, False], [False, False]]), "bias": np.ones(2)})
    >>> found.kept, found.densities, found.density
    ({'bias': 0, 'kernel': 1}, {'bias': 1.0, 'kernel': 0.25}, 0.25)
    """
    chosen = parameters.prunable(mask, prunable)
    kept = jax.tree.map(lambda pruned, leaf: int(np.count_nonzero(leaf)) if pruned else 0, chosen, mask)
    sizes = jax.tree.map(lambda pruned, leaf: int(np.size(leaf)) if pruned else 0, chosen, mask)
    return Summary(kept, sizes)
