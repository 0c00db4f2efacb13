"""The poisson law: every item is kept or not by itself, and the best rates for it."""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, PyTree, Real

from sketchprune import _checks
from sketchprune._arithmetic import ratio
from sketchprune._boundary import checked
from sketchprune.laws._joined import check_count, check_support, joined, split, tree_size, tree_sum
from sketchprune.laws._regression import distance, unit_columns
from sketchprune.laws.items import Items
from sketchprune.laws.subsets import all_subsets
from sketchprune.types import Key, Mask, Matrix, Number, PerRow


class Poisson(struct.PyTreeNode, eq=False):
    """Independent inclusion: item i is kept with probability π_i, whatever happens to the others.

    m_i = b_i/π_i with b_i ~ Bernoulli(π_i), and 0 where π_i = 0. With ``binary`` it is b_i instead, which is not
    unbiased.

    A record of arrays: it crosses jit, vmap and grad. Its methods check the numbers where these are known, and not
    under a trace.

    Attributes:
        rates: π, a pytree of floats in [0, 1].
        binary: whether masks are 0/1; static.

    Source: sketch/poisson.

    >>> Poisson(jnp.array([0.0, 1.0])).sample(jax.random.key(0)).tolist()
    [0.0, 1.0]
    """

    rates: PyTree
    binary: bool = struct.field(pytree_node=False, default=False, kw_only=True)

    @classmethod
    @checked
    def proportional(cls, sizes: PyTree, keep: Number, *, binary: bool = False) -> "Poisson":
        """The water-filled rates of :func:`poisson_rates`: π_i ∝ sizes up to 1, ``keep`` items on average.

        Args:
            sizes: a pytree of finite floats >= 0.
            keep: the expected number of kept items, above 0 and at most the number of sizes that are > 0.
            binary: whether masks are 0/1.

        Returns:
            The law.

        Raises:
            ValueError: as :func:`poisson_rates`.

        Cost: O(d log d).

        >>> Poisson.proportional(jnp.array([6.0, 1.0, 1.0]), 2).rates.tolist()
        [1.0, 0.5, 0.5]
        """
        return cls(poisson_rates(sizes, keep), binary=binary)

    @checked
    def sample(self, key: Key) -> Mask:
        """One mask, in the dtype of the rates but at least float32; under a trace a NaN rate gives a NaN entry.

        Args:
            key: a key of jax.random.

        Returns:
            A pytree shaped like the rates.

        Raises:
            ValueError: for rates outside [0, 1] or NaN.

        Cost: O(d).
        """
        _checks.rates("rates", self.rates)
        return _sample(key, self.rates, binary=self.binary)

    def inclusion(self) -> PyTree[Float[Array, "..."]]:
        """P(m_i ≠ 0) = π_i.

        Returns:
            The rates.

        Raises:
            ValueError: as :meth:`sample`.
        """
        _checks.rates("rates", self.rates)
        return self.rates

    @checked
    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖² = Σ‖B_i‖²(1/π_i − 1), with 0/0 = 0.

        With ``binary`` it is bias and variance, ‖Σ(1 − π_i)B_i‖² + Σπ_i(1 − π_i)‖B_i‖²; there rates may vanish.

        Args:
            items: the vectors B_i.

        Returns:
            One number; +inf under a trace where an item that is not zero is never kept.

        Raises:
            ValueError: for rates outside [0, 1], and for π_i = 0 at an item that is not zero.

        Cost: O(d), and one combination with ``binary``.
        Source: sketch/poisson, sketch/binary-bias-variance, tangent/poisson.
        """
        _checks.rates("rates", self.rates)
        if self.binary:
            bias = items.combination(jax.tree.map(lambda rate: 1 - rate, self.rates))
            return bias + tree_sum(jax.tree.map(lambda rate, s: rate * (1 - rate) * s, self.rates, items.squares))
        check_support("rates", items.squares, self.rates)
        return tree_sum(jax.tree.map(lambda s, rate: ratio(s * (1 - rate), rate), items.squares, self.rates))

    def outcomes(self) -> tuple[Mask, Float[Array, "outcomes"]]:
        """Every subset as a mask, in the order of :func:`sketchprune.laws.all_subsets`, with its probability.

        Returns:
            The masks, on a leading axis, and the probability of each.

        Raises:
            ValueError: for rates outside [0, 1], and for more than 20 items.

        Cost: O(2^d d).
        """
        _checks.rates("rates", self.rates)
        check_count("rates", tree_size(self.rates), 2 ** tree_size(self.rates))
        flat = joined(self.rates)
        kept = all_subsets(len(flat))
        chances = jnp.prod(jnp.where(kept, flat, 1 - flat), axis=1)
        masks = kept.astype(flat.dtype)
        if not self.binary:
            masks = masks / jnp.where(flat > 0, flat, 1)
        return split(masks, self.rates), chances

    @checked
    def training_bound(self, x: Matrix, y: PerRow) -> Float[Array, ""]:
        """An upper bound on the expected ‖Xu − y‖² when the kept columns are trained: yᵀ(I + XD⁻¹Xᵀ)⁻¹y.

        D = diag((1/π_i − 1)‖x_i‖²). The bound is the least E‖X(m∘w) − y‖² over all w, and the same for binary masks,
        since training sees only what is kept.

        Columns with π_i = 1 enter without penalty; zero columns and columns with π_i = 0 do not enter. Both limits are
        exact: instead of the formula, the least-squares problem min_z ‖[U√π; √(1−π)]z − [y; 0]‖² is solved, with
        u_i = x_i/‖x_i‖.

        Args:
            x: [n, d], with one column for each item; the rates are one vector.
            y: [n]; vmap over several targets.

        Returns:
            A bound on a squared norm.

        Raises:
            ValueError: for rates outside [0, 1].

        Cost: O((n + d)d²).
        Source: sketch/training-error-ridge.

        >>> law = Poisson(jnp.array([0.5, 1.0]))
        >>> round(float(law.training_bound(jnp.eye(2), jnp.array([2.0, 1.0]))), 5)
        2.0
        """
        _checks.rates("rates", self.rates)
        kept = jnp.sqrt(self.rates) * unit_columns(x)
        penalty = jnp.diag(jnp.sqrt(1 - self.rates))
        return distance(jnp.concatenate([kept, penalty]), jnp.concatenate([y, jnp.zeros_like(self.rates)]))


@functools.partial(jax.jit, static_argnames="binary")
def _sample(key: Key, rates: PyTree, *, binary: bool) -> Mask:
    flat = joined(rates)
    # "high" resolves small rates: plain uniform numbers in float32 are multiples of 2^-23.
    mask = jax.random.bernoulli(key, flat, mode="high").astype(flat.dtype)
    return split(mask if binary else ratio(mask, flat), rates)


@checked
def poisson_rates(sizes: PyTree, budget: Number) -> PyTree[Float[Array, "..."]]:
    """The best rates for independent sampling at an expected size, by water-filling.

    π_i = min(1, λa_i), with λ such that Σπ_i = s over the items with a_i > 0. With a_i = ‖B_i‖ they minimise
    Σ‖B_i‖²(1/π_i − 1).

    Args:
        sizes: a, a pytree of finite floats >= 0.
        budget: s, above 0 and at most the number of sizes that are > 0. Under a trace too large a budget gives
            π_i = 1 wherever a_i > 0.

    Returns:
        The rates, shaped like the sizes.

    Raises:
        ValueError: for sizes that are negative or not finite, and for a budget out of range.

    Cost: O(d log d).
    Source: sketch/poisson.

    >>> poisson_rates(jnp.array([6.0, 1.0, 0.0, 1.0]), 2).tolist()
    [1.0, 0.5, 0.0, 0.5]
    """
    known, wanted = _checks.weights("sizes", sizes), _checks.concrete(budget)
    if wanted is not None and not (wanted > 0).all():
        raise ValueError(f"budget is {budget}; it takes a number > 0")
    if known is not None and wanted is not None and (wanted > known.positive).any():
        raise ValueError(f"budget is {budget}; it takes at most {known.positive}, the sizes that are > 0")
    return _water_filling(sizes, budget)


@jax.jit
def _water_filling(sizes: PyTree, budget: Real[Array, ""]) -> PyTree[Float[Array, "..."]]:
    flat = joined(sizes)
    ascending = jnp.sort(flat)
    below, above = jnp.cumsum(ascending), jnp.arange(flat.size)[::-1]
    # At the level that just saturates item j the rates sum to this, which falls with j: the last j to reach
    # the budget is the largest item that stays below one.
    unsaturated = (ascending > 0) & (below / ascending + above >= budget)
    last = jnp.sum(ascending == 0) + jnp.sum(unsaturated) - 1
    level = jnp.where(unsaturated.any(), (budget - above[last]) / below[last], jnp.inf)
    return split(jnp.where(flat == 0, 0, jnp.minimum(1, level * flat)), sizes)
