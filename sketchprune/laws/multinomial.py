"""The multinomial law: a number of independent draws with replacement."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PyTree, UInt

from sketchprune import _checks, linalg
from sketchprune._arithmetic import product, ratio
from sketchprune._boundary import checked
from sketchprune.laws._joined import check_count, check_support, joined, pairwise, split, tree_sum
from sketchprune.laws._regression import unit_columns
from sketchprune.laws.items import Items
from sketchprune.types import Count, Key, Mask, Matrix, PerRow


class Multinomial(struct.PyTreeNode, eq=False):
    """The sampling sketch: s independent draws with replacement, reweighted so that it is unbiased.

    m_i = c_i/(s p_i), where c_i counts how often item i was drawn, and 0 where p_i = 0. With ``binary`` it is
    1[c_i > 0] instead, which is not unbiased.

    A record of arrays: it crosses jit, vmap and grad. Its methods check the numbers where these are known, and not
    under a trace.

    Attributes:
        probabilities: p, a pytree of floats that sum to one over all leaves together.
        budget: s, a whole number >= 1; it may be traced where ``max_budget`` is given.
        max_budget: how many draws are made, of which those past ``budget`` do not count; static. By default the
            budget, where that is a Python or NumPy integer.
        binary: whether masks are 0/1; static.

    Source: drineas2006matmul, sketch/unbiased.

    >>> law = Multinomial(jnp.array([0.0, 1.0]), 3)
    >>> law.sample(jax.random.key(0)).tolist()
    [0.0, 1.0]
    """

    probabilities: PyTree
    budget: Any
    max_budget: int | None = struct.field(pytree_node=False, default=None, kw_only=True)
    binary: bool = struct.field(pytree_node=False, default=False, kw_only=True)

    def __post_init__(self):
        # A law that crosses jit has a traced budget; the number of its draws must stay known. JAX also comes through
        # here when it rebuilds a law, and may have put anything into the leaves: nothing else is done.
        if self.max_budget is None and isinstance(self.budget, int | np.integer):
            object.__setattr__(self, "max_budget", int(self.budget))

    @classmethod
    @checked
    def proportional(
        cls, sizes: PyTree, keep: Count, *, binary: bool = False, max_budget: int | None = None
    ) -> "Multinomial":
        """``keep`` draws with p_i in proportion to sizes.

        Args:
            sizes: a pytree of finite floats >= 0 that are not all zero.
            keep: the number of draws.
            binary: whether masks are 0/1.
            max_budget: a bound on ``keep``, needed where that is traced.

        Returns:
            The law.

        Raises:
            ValueError: for sizes that are negative, not finite or all zero.

        Cost: O(d).

        >>> Multinomial.proportional(jnp.array([1.0, 3.0]), 2).probabilities.tolist()
        [0.25, 0.75]
        """
        known = _checks.weights("sizes", sizes)
        if known is not None and not known.positive:
            raise ValueError("sizes is zero everywhere; it takes some entries > 0")
        whole = tree_sum(sizes)
        return cls(jax.tree.map(lambda leaf: leaf / whole, sizes), keep, max_budget=max_budget, binary=binary)

    @checked
    def sample(self, key: Key) -> Mask:
        """One mask, in the dtype of the probabilities but at least float32.

        Probabilities are rounded to whole multiples of 2^-31 in float32 and 2^-63 in float64, at least one for an item
        that may be drawn, and divided by their sum. m_i divides by the rounded p_i, so the mask is unbiased however
        small the given p_i is, up to the last of the 32 or 64 random bits. Under a trace a NaN probability gives a NaN
        entry.

        Args:
            key: a key of jax.random.

        Returns:
            A pytree shaped like the probabilities.

        Raises:
            ValueError: for probabilities that are negative, NaN or do not sum to one, for a budget below 1 or above
                ``max_budget``, and for a traced budget without ``max_budget``.

        Cost: O(d + s log d), the inverse distribution function by bisection.
        """
        _checks.probabilities("probabilities", self.probabilities)
        return _sample(key, self.probabilities, self.budget, draws=self._draws(), binary=self.binary)

    def inclusion(self) -> PyTree[Float[Array, "..."]]:
        """P(m_i ≠ 0) = 1 − (1 − p_i)^s, to rounding for small p_i too.

        Returns:
            A pytree shaped like the probabilities.

        Raises:
            ValueError: as :meth:`sample`.

        Cost: O(d).
        """
        self._check()
        return jax.tree.map(lambda p: -jnp.expm1(self.budget * jnp.log1p(-p)), self.probabilities)

    @checked
    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖² = (Σ‖B_i‖²/p_i − ‖ΣB_i‖²)/s, with 0/0 = 0.

        With ``binary`` it is Σ⟨B_i, B_j⟩Q_ij, where Q_ij = (1 − p_i − p_j)^s is the chance that neither is drawn and
        Q_ii = (1 − p_i)^s; there probabilities may vanish.

        Args:
            items: the vectors B_i.

        Returns:
            One number; +inf under a trace where an item that is not zero is never drawn.

        Raises:
            ValueError: as :meth:`sample`, and for p_i = 0 at an item that is not zero.

        Cost: O(d) and one combination; with ``binary`` O(d²) and the Gram matrix.
        Source: drineas2006matmul (Lemma 4), sketch/second-moment, tangent/sketch-moment.
        """
        self._check()
        if self.binary:
            return self._binary_error(items)
        check_support("probabilities", items.squares, self.probabilities)
        squares = tree_sum(jax.tree.map(ratio, items.squares, self.probabilities))
        dense = items.combination(jax.tree.map(jnp.ones_like, items.squares))
        return jnp.maximum(squares - dense, 0) / self.budget  # negative by rounding alone

    def _binary_error(self, items: Items) -> Float[Array, ""]:
        p = joined(self.probabilities)
        drawn = p[:, None] + jnp.where(jnp.eye(len(p), dtype=bool), 0, p)
        return pairwise(items.gram(), jnp.maximum(1 - drawn, 0) ** self.budget)

    def outcomes(self) -> tuple[Mask, Float[Array, "outcomes"]]:
        """Every sequence of ``max_budget`` draws, as the mask of its first ``budget`` draws, with its probability.

        Different sequences may give the same mask; each is listed.

        Returns:
            The masks, on a leading axis, and the probability of each.

        Raises:
            ValueError: as :meth:`sample`, and for more than 2^20 sequences.

        Cost: O(d^s s d).
        """
        _checks.probabilities("probabilities", self.probabilities)
        draws = self._draws()
        flat = joined(self.probabilities)
        count = len(flat) ** draws
        check_count("probabilities", len(flat), count)
        sequences = jnp.arange(count)[:, None] // len(flat) ** np.arange(draws)[::-1] % len(flat)
        hits = (sequences[:, :, None] == jnp.arange(len(flat))) & (jnp.arange(draws)[:, None] < self.budget)
        counts = hits.sum(axis=1)
        if self.binary:
            masks = (counts > 0).astype(flat.dtype)
        else:
            masks = counts / jnp.where(flat > 0, self.budget * flat, 1)
        return split(masks, self.probabilities), jnp.prod(flat[sequences], axis=1)

    @checked
    def training_bound(self, x: Matrix, y: PerRow) -> Float[Array, ""]:
        """An upper bound on the expected ‖Xu − y‖² when the kept columns are trained to the end: ‖y‖² − bᵀH⁻¹b.

        b = Xᵀy and H = (1 − 1/s)XᵀX + diag(‖x_i‖²/p_i)/s: the least E‖X(m∘w) − y‖² over all w. Zero columns and
        columns with p_i = 0 do not enter. The same for binary masks, since training sees only what is kept.

        It is evaluated by singular values σ and left vectors u of the matrix with columns √p_i x_i/‖x_i‖, as
        ‖y‖² − Σ⟨u, y⟩²σ²/((1 − 1/s)σ² + 1/s).

        Args:
            x: [n, d], with one column for each item; the probabilities are one vector.
            y: [n]; vmap over several targets.

        Returns:
            A bound on a squared norm.

        Raises:
            ValueError: as :meth:`sample`.

        Cost: O(nd·min(n, d)).
        Source: sketch/training-error-ridge.

        >>> law = Multinomial(jnp.array([0.5, 0.5]), 1)
        >>> round(float(law.training_bound(jnp.eye(2), jnp.ones(2))), 5)
        1.0
        """
        self._check()
        left, singular, _ = linalg.thin_svd(jnp.sqrt(self.probabilities) * unit_columns(x))
        along = product(left.T, y)
        # 1 − σ²/((1 − 1/s)σ² + 1/s) without cancellation; σ² ≤ Σp = 1.
        remains = (1 - singular**2) / ((self.budget - 1) * singular**2 + 1)
        return jnp.sum((y - product(left, along)) ** 2) + jnp.sum(remains * along**2)

    def _check(self) -> None:
        _checks.probabilities("probabilities", self.probabilities)
        _checks.whole("budget", self.budget, least=1)

    def _draws(self) -> int:
        """How many draws are made."""
        wanted = _checks.whole("budget", self.budget, least=1)
        if self.max_budget is None:
            if wanted is None:
                raise ValueError("budget is traced; it takes a Python integer, or max_budget to bound the draws")
            return int(wanted)
        if wanted is not None and wanted.max() > self.max_budget:
            raise ValueError(f"budget is {self.budget}; it takes at most max_budget = {self.max_budget}")
        return self.max_budget


@functools.partial(jax.jit, static_argnames=("draws", "binary"))
def _sample(key: Key, probabilities: PyTree, budget: Int[Array, ""], *, draws: int, binary: bool) -> Mask:
    flat = joined(probabilities)
    units = _units(flat)
    whole = units.sum(dtype=units.dtype)
    items = _items_hit(units, _high_product(jax.random.bits(key, (draws,), units.dtype), whole))
    within = (jnp.arange(draws) < budget).astype(flat.dtype)
    counts = jnp.zeros_like(flat).at[items].add(within, mode="drop")
    if binary:
        return split((counts > 0).astype(flat.dtype), probabilities)
    drawn_from = jnp.where(jnp.isnan(flat), flat, ratio(units.astype(flat.dtype), whole.astype(flat.dtype)))
    return split(ratio(counts, budget * drawn_from), probabilities)


def _units(probabilities: Float[Array, "d"]) -> UInt[Array, "d"]:
    """Probabilities as whole numbers, whose sums are exact: an item of probability 0 is never hit, no other is lost."""
    width = jnp.finfo(probabilities.dtype).bits
    units = jnp.round(probabilities * 2.0 ** (width - 1)).astype(getattr(jnp, f"uint{width}"))
    return jnp.maximum(units, (probabilities > 0).astype(units.dtype))


def _items_hit(units: UInt[Array, "d"], hits: UInt[Array, "s"]) -> Int[Array, "s"]:
    """The item that owns each whole number below the total, item i owning ``units[i]`` of them in order."""
    return jnp.searchsorted(jnp.cumsum(units, dtype=units.dtype), hits, side="right", method="scan")


def _high_product(a: UInt[Array, "s"], b: UInt[Array, ""]) -> UInt[Array, "s"]:
    """The upper word of a·b, floor(ab / 2^width), by half words: no wider integers are needed."""
    half = jnp.iinfo(a.dtype).bits // 2
    low, high = (lambda word: word & (2**half - 1)), (lambda word: word >> half)
    cross = high(a) * low(b) + high(low(a) * low(b))
    return high(a) * high(b) + high(cross) + high(low(a) * high(b) + low(cross))
