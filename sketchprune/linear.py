"""Least squares in closed form: where gradient descent on ½‖Xw − y‖² goes and when, and fewer samples.

X is [n, d], of any rank: singular values up to max(n, d)·eps·σ_max count as zero. A mask restricts training
to the columns of its support (its non-zero entries), and the start as well.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks

Factors = tuple[Float[Array, "n r"], Float[Array, "r"], Float[Array, "r d"]]


def limit(
    x: Float[Array, "n d"],
    y: Float[Array, "n"],
    start: Float[Array, "d"],
    *,
    mask: Bool[Array, "d"] | Float[Array, "d"] | None = None,
) -> Float[Array, "d"]:
    """The weights that gradient descent from w0 converges to: w* = w0 + X⁺(y − Xw0).

    Of all least-squares solutions the nearest to the start, for any step size below 2/λ_max(XᵀX). Under a
    mask X and w0 are those of the kept columns, and the pruned entries are exactly 0. O(nd·min(n, d)).
    Source: sketch/training-error.

    >>> limit(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([2.0, 1.0]), jnp.array([0.0, 3.0])).round(12)
    Array([2., 3.], dtype=float64)
    """
    x, start, kept = _restricted(x, start, mask)
    left, singular, right = _factors(x)
    inverse = jnp.where(singular > 0, 1 / jnp.where(singular > 0, singular, 1), 0)
    return kept * (start + (inverse * (left.T @ (y - x @ start))) @ right)


def trajectory(
    x: Float[Array, "n d"],
    y: Float[Array, "n"],
    start: Float[Array, "d"],
    step_size: float | Float[Array, ""],
    steps: Int[Array, "t"],
    *,
    mask: Bool[Array, "d"] | Float[Array, "d"] | None = None,
) -> Float[Array, "t d"]:
    """Gradient descent after each of ``steps`` steps, u_t = w0 + V(1 − (1 − ησ²)^t)σ⁻¹Uᵀ(y − Xw0).

    X = UσVᵀ and η is the step size on the summed loss ½‖Xw − y‖². Right for any t and σ, also where the
    descent diverges (ησ² > 2). ValueError for negative or fractional steps. O(nd·min(n, d) + td·min(n, d)).
    Source: sketch/training-error-at-t.

    >>> trajectory(jnp.eye(1), jnp.ones(1), jnp.zeros(1), 0.5, jnp.array([0, 1, 2]))
    Array([[0.  ],
           [0.5 ],
           [0.75]], dtype=float64)
    """
    _checks.whole("steps", steps, least=0)
    x, start, kept = _restricted(x, start, mask)
    left, singular, right = _factors(x)
    reached = _reached(step_size * singular**2, steps[:, None])
    coefficients = jnp.where(singular > 0, reached / jnp.where(singular > 0, singular, 1), 0)
    return kept * (start + (coefficients * (left.T @ (y - x @ start))) @ right)


def compress(
    x: Float[Array, "n d"], y: Float[Array, "n"]
) -> tuple[Float[Array, "rows d"], Float[Array, "rows"]]:
    """The same least-squares problem on d + 1 samples: the triangle of the QR factorisation of [X y].

    An orthogonal change of the samples: it leaves every norm and inner product of columns as it was, hence
    losses, gradients and training for every weight vector and mask. Always d + 1 rows, zeros filling up.
    O(nd²).

    >>> [part.shape for part in compress(jnp.ones((100, 2)), jnp.ones(100))]
    [(3, 2), (3,)]
    """
    triangle = jnp.linalg.qr(jnp.column_stack([x, y]), mode="r")
    triangle = jnp.pad(triangle, ((0, triangle.shape[1] - triangle.shape[0]), (0, 0)))
    return triangle[:, :-1], triangle[:, -1]


def _restricted(x: Array, start: Array, mask: Array | None) -> tuple[Array, Array, Array]:
    kept = jnp.ones_like(start) if mask is None else (mask != 0).astype(start.dtype)
    return x * kept, start * kept, kept


def _factors(x: Float[Array, "n d"]) -> Factors:
    """The thin singular value decomposition, with singular values below the rank tolerance set to 0."""
    left, singular, right = jnp.linalg.svd(x, full_matrices=False)
    tolerance = max(x.shape) * jnp.finfo(x.dtype).eps * jnp.max(singular, initial=0)
    return left, jnp.where(singular > tolerance, singular, 0), right


def _reached(rate: Float[Array, "r"], steps: Int[Array, "t 1"]) -> Float[Array, "t r"]:
    """1 − (1 − rate)^steps, to rounding for small rates and for any number of steps."""
    below = rate < 1
    logarithm = jnp.where(
        below, jnp.log1p(-jnp.where(below, rate, 0)), jnp.log(jnp.where(below, 1, rate - 1))
    )
    exponent = jnp.where(steps == 0, 0, steps.astype(rate.dtype) * logarithm)
    flips = ~below & (lax.rem(steps, jnp.ones_like(steps) * 2) == 1)
    return jnp.where(flips, 1 + jnp.exp(exponent), -jnp.expm1(exponent))
