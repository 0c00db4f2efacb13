"""The determinantal law: subsets whose items repel each other, and the training errors that it makes exact."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float

from sketchprune import _checks, linalg
from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.laws._joined import check_count, pairwise
from sketchprune.laws._regression import spectrum
from sketchprune.laws.items import Items
from sketchprune.laws.subsets import all_subsets
from sketchprune.types import Count, Key, Matrix, Number, PerRow


class Determinantal(struct.PyTreeNode, eq=False):
    """The determinantal law with marginal kernel K: P(T ⊆ S) = det K_T for every set T of items.

    Masks are boolean vectors. K is symmetric with eigenvalues in [0, 1]. :meth:`ridge` makes the kernel of a data
    matrix, with which trained columns have the error of a ridge regression.

    A record of arrays: it crosses jit, vmap and grad. A kernel that is known is checked each time that it is used: it
    is symmetric, with eigenvalues in [0, 1], to √eps.

    Attributes:
        kernel: K, [d, d].
        tau: τ of a law made by :meth:`ridge`; otherwise None.

    Source: sketch/dpp-training-error.

    >>> Determinantal(jnp.diag(jnp.array([1.0, 0.0]))).sample(jax.random.key(0)).tolist()
    [True, False]
    """

    kernel: Any
    tau: Any = struct.field(default=None, kw_only=True)

    @classmethod
    @checked
    def ridge(cls, x: Matrix, tau: Number) -> "Determinantal":
        """P(S) ∝ det(X_SᵀX_S/τ) on the columns of X: the kernel XᵀX(XᵀX + τI)⁻¹.

        It keeps :func:`effective_dimension` columns on average.

        Args:
            x: [n, d].
            tau: τ > 0; the larger, the fewer columns are kept.

        Returns:
            The law.

        Raises:
            ValueError: for τ ≤ 0.

        Cost: O(nd² + d³).

        >>> Determinantal.ridge(jnp.eye(2), 1.0).inclusion().tolist()
        [0.5, 0.5]
        """
        _checks.positive("tau", tau)
        gram = product(x.T, x)
        return cls(jnp.linalg.solve(gram + tau * jnp.eye(x.shape[1], dtype=x.dtype), gram), tau=tau)

    @checked
    def sample(self, key: Key) -> Bool[Array, "d"]:
        """One mask: items are decided one after another.

        Item j is kept with the probability that the kernel, conditioned on the items before it, has on its diagonal.

        Args:
            key: a key of jax.random.

        Returns:
            A boolean vector.

        Raises:
            ValueError: for a kernel that is not square, or known to be none of a law.

        Cost: O(d³).
        """
        self._check()
        kernel = self.kernel
        thresholds = jax.random.uniform(key, kernel.shape[:1], kernel.dtype)

        def decide(carry: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], Array]:
            # The kernel conditioned on the items before j is K − L diag(1/pivots) Lᵀ; only its column j is needed.
            factor, inverse = carry
            column = kernel[:, j] - product(factor, inverse * factor[j])
            kept = thresholds[j] < column[j]
            pivot = jnp.where(kept, column[j], column[j] - 1)
            return (factor.at[:, j].set(column), inverse.at[j].set(1 / jnp.where(pivot == 0, 1, pivot))), kept

        start = jnp.zeros_like(kernel), jnp.zeros_like(thresholds)
        return lax.scan(decide, start, jnp.arange(kernel.shape[0]))[1]

    def inclusion(self) -> Float[Array, "d"]:
        """P(m_i ≠ 0) = K_ii.

        Returns:
            The diagonal of the kernel, [d].

        Raises:
            ValueError: for a kernel that is not square, or known to be none of a law.
        """
        self._check()
        return jnp.diagonal(self.kernel)

    @checked
    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖² = Σ⟨B_i, B_j⟩Q_ij with Q_ij = P(neither i nor j is kept).

        Q_ij = (1 − K_ii)(1 − K_jj) − K_ij² and Q_ii = 1 − K_ii.

        Args:
            items: the vectors B_i.

        Returns:
            One number.

        Raises:
            ValueError: for a kernel that is not square, or known to be none of a law.

        Cost: O(d²), and the Gram matrix.
        """
        missed = 1 - self.inclusion()
        neither = jnp.outer(missed, missed) - self.kernel**2
        return pairwise(items.gram(), jnp.where(jnp.eye(len(missed), dtype=bool), missed, neither))

    def outcomes(self) -> tuple[Bool[Array, "outcomes d"], Float[Array, "outcomes"]]:
        """Every subset as a mask, in the order of :func:`sketchprune.laws.all_subsets`, with its probability.

        P(S) = |det(K − I_{S^c})|, where I_{S^c} has ones at the items that are not kept.

        Returns:
            The boolean masks, on a leading axis, and the probability of each.

        Raises:
            ValueError: for a kernel that is not square, or known to be none of a law, and for more than 20 items.

        Cost: O(2^d d³).
        """
        self._check()
        count = len(self.kernel)
        check_count("kernel", count, 2**count)
        kept = all_subsets(count)

        def chance(kept: Bool[Array, "d"]) -> Array:
            return abs(jnp.linalg.det(self.kernel - jnp.diag(1 - kept.astype(self.kernel.dtype))))

        return kept, jax.vmap(chance)(kept)

    @checked
    def training_bound(self, x: Matrix, y: PerRow) -> Float[Array, ""]:
        """The expected ‖Xu − y‖² when the kept columns are trained to the end, exactly: τyᵀ(XXᵀ + τI)⁻¹y.

        Only for laws made by :meth:`ridge` from the same x.

        Args:
            x: [n, d], the data that the law was made of.
            y: [n]; vmap over several targets.

        Returns:
            The expectation of a squared norm.

        Raises:
            ValueError: for a law without τ.

        Cost: O(nd·min(n, d)).
        Source: sketch/dpp-training-error.

        >>> law = Determinantal.ridge(jnp.eye(2), 1.0)
        >>> round(float(law.training_bound(jnp.eye(2), jnp.array([2.0, 0.0]))), 5)
        2.0
        """
        if self.tau is None:
            raise ValueError("tau is None; it takes a law made by Determinantal.ridge, whose training error is known")
        _checks.positive("tau", self.tau)
        eigenvalues, along, outside = spectrum(x, y)
        return outside + jnp.sum(self.tau / (eigenvalues + self.tau) * along**2)

    def _check(self) -> None:
        shape = jnp.shape(self.kernel)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"kernel has shape {shape}; it takes a square matrix")
        if (kernel := _checks.concrete(self.kernel)) is None:
            return
        _checks.finite("kernel", kernel)
        rounding = float(jnp.finfo(kernel.dtype).eps) ** 0.5
        if not np.allclose(kernel, kernel.T, rtol=0, atol=rounding):
            raise ValueError("kernel is not symmetric; it takes a symmetric matrix")
        eigenvalues = np.linalg.eigvalsh(np.asarray(kernel, float))
        wrong = eigenvalues[(eigenvalues < -rounding) | (eigenvalues > 1 + rounding)]
        if wrong.size:
            raise ValueError(f"kernel has the eigenvalue {wrong[0]:.6g}; it takes eigenvalues in [0, 1]")


@checked
def effective_dimension(x: Matrix, tau: Number) -> Float[Array, ""]:
    """The expected number of columns that :meth:`Determinantal.ridge` keeps: Tr XXᵀ(XXᵀ + τI)⁻¹.

    Args:
        x: [n, d].
        tau: τ > 0.

    Returns:
        One number between 0 and the rank of x.

    Raises:
        ValueError: for τ ≤ 0.

    Cost: O(nd·min(n, d)).
    Source: sketch/dpp-training-error.

    >>> round(float(effective_dimension(jnp.eye(2), 1.0)), 5)
    1.0
    """
    _checks.positive("tau", tau)
    eigenvalues = linalg.thin_svd(x)[1] ** 2
    return jnp.sum(eigenvalues / (eigenvalues + tau))


@checked
def fixed_size_dpp_error(x: Matrix, y: PerRow, size: Count) -> Float[Array, ""]:
    """The expected training error when |S| = s and P(S) ∝ det X_SᵀX_S: Σ_k⟨v_k, y⟩²e_s(λ_{∖k})/e_s(λ).

    λ and v are the eigenpairs of XXᵀ, e_s the elementary symmetric polynomial and λ_{∖k} the other eigenvalues. All is
    done in logarithms, where the sums have no cancellation and cannot overflow.

    Args:
        x: [n, d].
        y: [n].
        size: s, at least 0 and at most the rank of x (eigenvalues up to max(n, d)·eps of the largest singular value,
            squared, count as zero); it may be traced.

    Returns:
        One number; NaN under a trace where the size is out of range.

    Raises:
        ValueError: for a size out of range.

    Cost: O(nd·min(n, d) + min(n, d)³).
    Source: sketch/dpp-training-error.

    >>> round(float(fixed_size_dpp_error(jnp.eye(2), jnp.array([2.0, 0.0]), 1)), 5)
    2.0
    """
    wanted = _checks.whole("size", size, least=0)
    eigenvalues, along, outside = spectrum(x, y)
    known = _checks.concrete(eigenvalues)
    if wanted is not None and known is not None and wanted > (known > 0).sum():
        raise ValueError(f"size is {size}; it takes at most {(known > 0).sum()}, the rank of x")
    possible = (size >= 0) & (size <= jnp.sum(eigenvalues > 0))
    logarithms = jnp.log(eigenvalues)
    others = jnp.where(jnp.eye(len(logarithms), dtype=bool), -jnp.inf, logarithms)
    ratios = jnp.exp(jax.vmap(_log_symmetric)(others)[:, size] - _log_symmetric(logarithms)[size])
    return jnp.where(possible, outside + jnp.sum(ratios * along**2), jnp.nan)


def _log_symmetric(logarithms: Float[Array, "r"]) -> Float[Array, "r+1"]:
    """The logarithms of e_0, …, e_r of the exponentials: multiply the factors 1 + λ_k z one after another."""
    first = jnp.full(len(logarithms) + 1, -jnp.inf).at[0].set(0).astype(logarithms.dtype)

    def multiply(terms, logarithm):
        raised = jnp.concatenate([jnp.full(1, -jnp.inf, terms.dtype), terms[:-1] + logarithm])
        return jnp.logaddexp(terms, raised), None

    return lax.scan(multiply, first, logarithms)[0]
