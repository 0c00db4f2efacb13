"""The fixed-size law: successive sampling, a number of items drawn one after another without replacement."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from sketchprune import _checks
from sketchprune._arithmetic import product, ratio
from sketchprune._boundary import checked
from sketchprune.laws._joined import joined, pairwise, split, tree_size
from sketchprune.laws.items import Items
from sketchprune.laws.subsets import all_subsets
from sketchprune.masks.selection import keep_top_unchecked
from sketchprune.types import Count, Key, Mask

MAX_ITEMS = 16
"""The largest number of items whose subsets are all visited."""


class FixedSize(struct.PyTreeNode, eq=False):
    """Exactly s items, drawn one after another without replacement in proportion to the weights that are left.

    Masks are boolean. Items of weight 0 are never kept (a device may take subnormal weights for 0). The error, the
    inclusion probabilities and the outcomes are summed over all subsets, so that they need few items.

    A record of arrays: it crosses jit, vmap and grad. Its methods check the numbers where these are known, and not
    under a trace.

    Attributes:
        weights: a pytree of finite floats >= 0; only their ratios matter.
        size: s, at least 0 and at most the number of weights that are > 0; it may be traced.

    >>> FixedSize(jnp.array([0.3, 0.0, 0.7]), 2).sample(jax.random.key(0)).tolist()
    [True, False, True]
    """

    weights: PyTree
    size: Any

    @classmethod
    @checked
    def proportional(cls, sizes: PyTree, keep: Count, *, binary: bool = False) -> "FixedSize":
        """``keep`` items drawn in proportion to sizes.

        Args:
            sizes: a pytree of finite floats >= 0.
            keep: the number of kept items, at most the number of sizes that are > 0.
            binary: must be False, for these masks are never reweighted.

        Returns:
            The law.

        Raises:
            ValueError: for ``binary``.

        >>> FixedSize.proportional(jnp.array([1.0, 3.0]), 1).size
        1
        """
        if binary:
            raise ValueError("binary is True; FixedSize takes False, since its masks are 0/1 in any case")
        return cls(sizes, keep)

    @checked
    def sample(self, key: Key) -> Mask:
        """One mask: the s largest of log w_i + Gumbel noise.

        Under a trace too large a size keeps every item that can be drawn, and a NaN weight keeps nothing.

        Args:
            key: a key of jax.random.

        Returns:
            A boolean pytree shaped like the weights.

        Raises:
            ValueError: for weights that are negative or not finite, and for a size out of range.

        Cost: O(d).
        """
        self._check()
        return _sample(key, self.weights, self.size)

    def inclusion(self) -> PyTree[Float[Array, "..."]]:
        """P(m_i ≠ 0), by the chance of every subset.

        Returns:
            A pytree shaped like the weights.

        Raises:
            ValueError: as :meth:`sample`, and for more than 16 items.

        Cost: O(2^d d s).
        """
        kept, chances = self._subsets()
        return split(product(chances, kept) / chances.sum(), self.weights)

    @checked
    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖² = Σ⟨B_i, B_j⟩Q_ij with Q_ij = P(neither i nor j is kept).

        Args:
            items: the vectors B_i.

        Returns:
            One number; NaN under a trace where the size is out of range.

        Raises:
            ValueError: as :meth:`sample`, and for more than 16 items.

        Cost: O(2^d d s), and the Gram matrix.
        """
        kept, chances = self._subsets()
        pruned = 1 - kept
        neither = product(pruned.T, chances[:, None] * pruned)
        return pairwise(items.gram(), neither) / chances.sum()  # 0/0 below no item and beyond the last

    def outcomes(self) -> tuple[Mask, Float[Array, "outcomes"]]:
        """Every subset as a mask, in the order of :func:`sketchprune.laws.all_subsets`, with its probability.

        Subsets of another size are listed, with probability 0.

        Returns:
            The boolean masks, on a leading axis, and the probability of each.

        Raises:
            ValueError: as :meth:`sample`, and for more than 16 items.

        Cost: O(2^d d s).
        """
        kept, chances = self._subsets()
        return split(kept > 0, self.weights), chances / chances.sum()

    def _check(self) -> None:
        known, wanted = _checks.weights("weights", self.weights), _checks.whole("size", self.size, least=0)
        if known is not None and wanted is not None and wanted.max() > known.positive:
            raise ValueError(f"size is {self.size}; it takes at most {known.positive}, the weights that are > 0")

    def _subsets(self) -> tuple[Float[Array, "subsets d"], Float[Array, "subsets"]]:
        """All subsets as 0/1 rows, and the chance of each, reached item by item; all zero for a size out of range."""
        self._check()
        count = tree_size(self.weights)
        if count > MAX_ITEMS:
            raise ValueError(
                f"weights has {count} entries; it takes at most {MAX_ITEMS}, since all subsets are visited"
            )
        return _subset_chances(self.weights, self.size)


@jax.jit
def _subset_chances(weights: PyTree, size: Int[Array, ""]) -> tuple[Float[Array, "subsets d"], Float[Array, "subsets"]]:
    flat = joined(weights)
    count = len(flat)
    subsets, items = jnp.arange(2**count), jnp.arange(count)
    kept = all_subsets(count)
    before = subsets[:, None] - (kept << items)  # the subset without the item that came last
    left = jnp.where(kept, 0, flat).sum(1)
    last = kept * ratio(jnp.broadcast_to(flat, kept.shape), left[before])

    def add_item(drawn: Array, chances: Array) -> Array:
        return jnp.where(drawn < size, jnp.sum(chances[before] * last, 1), chances)

    first = ((subsets == 0) & (size >= 0)).astype(flat.dtype)
    # A fixed number of steps, one more than there are items, so that the loop has a derivative.
    return kept.astype(flat.dtype), lax.fori_loop(0, count + 1, add_item, first)


@jax.jit
def _sample(key: Key, weights: PyTree, size: Int[Array, ""]) -> Mask:
    flat = joined(weights)
    # "high" keeps the large values, which decide, from being few and tied.
    noise = jax.random.gumbel(key, flat.shape, flat.dtype, mode="high")
    (kept,), *_ = keep_top_unchecked([jnp.log(flat) + noise], size)
    return split(kept, weights)
