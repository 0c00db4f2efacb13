"""Training errors after pruning: the expected ‖Xu − y‖² when only kept columns are trained, to the end."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Real

from sketchprune import _checks, linalg
from sketchprune._arithmetic import product

Number = int | float | Real[Array, ""]


def ridge_bound(x: Float[Array, "n d"], y: Float[Array, "n"], rates: Float[Array, "d"]) -> Float[Array, ""]:
    """An upper bound on the expected training error of a poisson mask: yᵀ(I + X D⁻¹Xᵀ)⁻¹y, D = diag((1/π_i − 1)‖x_i‖²).

    The least E‖X(m∘w) − y‖² over all w. Columns with π_i = 1 enter without penalty, zero columns and columns
    with π_i = 0 not at all: the formula's limits, met exactly because the least-squares problem min_z ‖[U√π;
    √(1−π)]z − [y; 0]‖², u_i = x_i/‖x_i‖, is solved in its place. One target y; vmap over several. ValueError
    for rates outside [0, 1]. O((n + d)d²). Source: sketch/training-error-ridge.

    >>> ridge_bound(jnp.eye(2), jnp.array([2.0, 1.0]), jnp.array([0.5, 1.0])).round(12)
    Array(2., dtype=float64)
    """
    _checks.rates("rates", rates)
    kept = jnp.sqrt(rates) * _unit_columns(x)
    penalty = jnp.diag(jnp.sqrt(1 - rates))
    return _distance(jnp.concatenate([kept, penalty]), jnp.concatenate([y, jnp.zeros_like(rates)]))


def ridge_bound_multinomial(
    x: Float[Array, "n d"], y: Float[Array, "n"], probabilities: Float[Array, "d"], budget: Number
) -> Float[Array, ""]:
    """An upper bound on the expected training error of a multinomial mask: ‖y‖² − bᵀH⁻¹b.

    b = Xᵀy, H = (1 − 1/s)XᵀX + diag(‖x_i‖²/p_i)/s: the least E‖X(m∘w) − y‖² over all w. Zero columns and
    columns with p_i = 0 do not enter. In the singular values σ and left vectors u of the matrix with columns
    √p_i x_i/‖x_i‖: ‖y‖² − Σ⟨u,y⟩²σ²/((1 − 1/s)σ² + 1/s). ValueError for probabilities that are negative or do
    not sum to one, and for s ≤ 0. O(nd·min(n, d)). Source: sketch/training-error-ridge.

    >>> ridge_bound_multinomial(jnp.eye(2), jnp.ones(2), jnp.array([0.5, 0.5]), 1).round(12)
    Array(1., dtype=float64)
    """
    _checks.probabilities("probabilities", probabilities)
    _checks.positive("budget", budget)
    left, singular, _ = linalg.factors(jnp.sqrt(probabilities) * _unit_columns(x))
    along = product(left.T, y)
    # 1 − σ²/((1 − 1/s)σ² + 1/s) without cancellation; σ² ≤ Σp = 1.
    remains = (1 - singular**2) / ((budget - 1) * singular**2 + 1)
    return jnp.sum((y - product(left, along)) ** 2) + jnp.sum(remains * along**2)


def dpp_error(x: Float[Array, "n d"], y: Float[Array, "n"], tau: Number) -> Float[Array, ""]:
    """The expected training error when P(S) ∝ det(X_SᵀX_S/τ), exactly: τyᵀ(XXᵀ + τI)⁻¹y.

    ValueError for τ ≤ 0. O(nd·min(n, d)). Source: sketch/dpp-training-error.

    >>> dpp_error(jnp.eye(2), jnp.array([2.0, 0.0]), 1.0).round(12)
    Array(2., dtype=float64)
    """
    _checks.positive("tau", tau)
    eigenvalues, along, outside = _spectrum(x, y)
    return outside + jnp.sum(tau / (eigenvalues + tau) * along**2)


def dpp_size(x: Float[Array, "n d"], tau: Number) -> Float[Array, ""]:
    """The expected number of kept columns when P(S) ∝ det(X_SᵀX_S/τ): Tr XXᵀ(XXᵀ + τI)⁻¹.

    ValueError for τ ≤ 0. O(nd·min(n, d)). Source: sketch/dpp-training-error.

    >>> dpp_size(jnp.eye(2), 1.0).round(12)
    Array(1., dtype=float64)
    """
    _checks.positive("tau", tau)
    eigenvalues = linalg.factors(x)[1] ** 2
    return jnp.sum(eigenvalues / (eigenvalues + tau))


def fixed_size_dpp_error(x: Float[Array, "n d"], y: Float[Array, "n"], size: int | Int[Array, ""]) -> Float[Array, ""]:
    """The expected training error when |S| = s and P(S) ∝ det X_SᵀX_S: Σ_k⟨v_k,y⟩²e_s(λ_{∖k})/e_s(λ).

    λ and v are the eigenpairs of XXᵀ, e_s the elementary symmetric polynomial, λ_{∖k} the others: all in
    logarithms, where the sums have no cancellation and cannot overflow. ``size`` may be traced. ValueError
    for a size below 0 or above the rank (eigenvalues up to max(n, d)·eps of the largest singular value,
    squared, count as zero); NaN then under a trace. O(nd·min(n, d) + min(n, d)³). Source:
    sketch/dpp-training-error.

    >>> fixed_size_dpp_error(jnp.eye(2), jnp.array([2.0, 0.0]), 1).round(12)
    Array(2., dtype=float64)
    """
    wanted = _checks.whole("size", size, least=0)
    eigenvalues, along, outside = _spectrum(x, y)
    known = _checks.concrete(eigenvalues)
    if wanted is not None and known is not None and wanted > (known > 0).sum():
        raise ValueError(f"size is {size}; it takes at most {(known > 0).sum()}, the rank of x")
    possible = (size >= 0) & (size <= jnp.sum(eigenvalues > 0))
    logarithms = jnp.log(eigenvalues)
    others = jnp.where(jnp.eye(len(logarithms), dtype=bool), -jnp.inf, logarithms)
    ratios = jnp.exp(jax.vmap(_log_symmetric)(others)[:, size] - _log_symmetric(logarithms)[size])
    return jnp.where(possible, outside + jnp.sum(ratios * along**2), jnp.nan)


def _unit_columns(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The columns divided by their norms; zero columns stay."""
    norms = jnp.linalg.norm(x, axis=0)
    return x / jnp.where(norms > 0, norms, 1)


def _distance(matrix: Float[Array, "n d"], vector: Float[Array, "n"]) -> Float[Array, ""]:
    """The squared distance of the vector to the range, whatever the rank."""
    left, singular, _ = linalg.factors(matrix)
    left = jnp.where(singular == 0, 0, left)
    return jnp.sum((vector - product(left, product(left.T, vector))) ** 2)


def _spectrum(x: Float[Array, "n d"], y: Float[Array, "n"]) -> tuple[Array, Array, Array]:
    """The eigenvalues of XXᵀ that may be non-zero, ⟨v_k, y⟩ for each, and the square of the rest of y."""
    left, singular, _ = linalg.factors(x)
    along = product(left.T, y)
    return singular**2, along, jnp.sum((y - product(left, along)) ** 2)


def _log_symmetric(logarithms: Float[Array, "r"]) -> Float[Array, "r+1"]:
    """log e_0, …, log e_r of the exponentials: multiply the factors 1 + λ_k z one after another."""
    first = jnp.full(len(logarithms) + 1, -jnp.inf).at[0].set(0).astype(logarithms.dtype)

    def multiply(terms, logarithm):
        raised = jnp.concatenate([jnp.full(1, -jnp.inf, terms.dtype), terms[:-1] + logarithm])
        return jnp.logaddexp(terms, raised), None

    return lax.scan(multiply, first, logarithms)[0]
