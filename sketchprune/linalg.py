"""Least squares in closed form: where gradient descent on ½‖Xw − y‖² goes and when, and fewer samples.

X is [n, d], of any rank: singular values up to max(n, d)·eps·σ_max count as zero. A mask restricts training
to the columns of its support (its non-zero entries), and the start as well.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks
from sketchprune._arithmetic import decay_and_gain, product, ratio

Factors = tuple[Float[Array, "n r"], Float[Array, "r"], Float[Array, "r d"]]


def factors(x: Float[Array, "n d"]) -> Factors:
    """The thin singular value decomposition X = UσVᵀ as (U, σ, Vᵀ), with what counts as zero in σ set to 0.

    All NaN where X has an entry that is not finite. O(nd·min(n, d)).

    >>> factors(jnp.array([[3.0, 3.0], [3.0, 3.0]]))[1].round(12)
    Array([6., 0.], dtype=float64)
    """
    # LAPACK's divide and conquer, the default on CPU, is hundreds of times slower when its threads share busy
    # cores.
    finite = jnp.all(jnp.isfinite(x))
    left, singular, right = lax.platform_dependent(
        jnp.where(finite, x, 0),  # LAPACK may go on for ever on a NaN
        cpu=functools.partial(lax.linalg.svd, full_matrices=False, algorithm=lax.linalg.SvdAlgorithm.QR),
        default=functools.partial(lax.linalg.svd, full_matrices=False),
    )
    tolerance = max(x.shape) * jnp.finfo(x.dtype).eps * jnp.max(singular, initial=0)
    singular = jnp.where(singular > tolerance, singular, 0)
    left, singular, right = (jnp.where(finite, part, jnp.nan) for part in (left, singular, right))
    return left, singular, right


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
    left, singular, right = factors(x)
    inverse = ratio((singular > 0).astype(singular.dtype), singular)
    return kept * (start + product(inverse * product(left.T, y - product(x, start)), right))


def trajectory(
    x: Float[Array, "n d"],
    y: Float[Array, "n"],
    start: Float[Array, "d"],
    step_size: ArrayLike,
    steps: Int[Array, "*t"] | np.ndarray | int,
    *,
    mask: Bool[Array, "d"] | Float[Array, "d"] | None = None,
) -> Float[Array, "*t d"]:
    """Gradient descent after each of ``steps`` steps, u_t = w0 + V(1 − (1 − ησ²)^t)σ⁻¹Uᵀ(y − Xw0).

    X = UσVᵀ and η is the step size on the summed loss ½‖Xw − y‖². Right for any t and σ, also where the
    descent diverges (ησ² > 2). The shape of ``steps`` leads that of the result. ValueError for negative or
    fractional steps and for a step size that is not one finite number > 0. O(nd·min(n, d) + td·min(n, d)).
    Source: sketch/training-error-at-t.

    >>> trajectory(jnp.eye(1), jnp.ones(1), jnp.zeros(1), 0.5, jnp.array([0, 1, 2]))
    Array([[0.  ],
           [0.5 ],
           [0.75]], dtype=float64)
    """
    _checks.steps(step_size, steps)
    x, start, kept = _restricted(x, start, mask)
    left, singular, right = factors(x)
    _, gain = decay_and_gain(jnp.asarray(step_size, singular.dtype) * singular**2, jnp.asarray(steps)[..., None])
    return kept * (start + product(ratio(gain, singular) * product(left.T, y - product(x, start)), right))


def compress(x: Float[Array, "n d"], y: Float[Array, "n *k"]) -> tuple[Float[Array, "rows d"], Float[Array, "rows *k"]]:
    """The same least-squares problem on d + k samples: the triangle of the QR factorisation of [X y].

    An orthogonal change of the samples: it leaves every norm and inner product of columns as it was, hence
    losses, gradients and training for every weight vector and mask. Always as many rows as X and y have
    columns together, zeros filling up. O(n(d + k)²).

    >>> [part.shape for part in compress(jnp.ones((100, 2)), jnp.ones(100))]
    [(3, 2), (3,)]
    """
    triangle = jnp.linalg.qr(jnp.column_stack([x, y]), mode="r")
    triangle = jnp.pad(triangle, ((0, triangle.shape[1] - triangle.shape[0]), (0, 0)))
    return triangle[:, : x.shape[1]], triangle[:, x.shape[1] :].reshape(-1, *y.shape[1:])


def _restricted(x: Array, start: Array, mask: Array | None) -> tuple[Array, Array, Array]:
    kept = jnp.ones_like(start) if mask is None else (mask != 0).astype(start.dtype)
    return x * kept, start * kept, kept


def ritz_values(
    times: Callable[[Float[Array, " d"]], Float[Array, " d"]],
    start: Float[Array, " d"],
    num_products: int,
    *,
    filler: float | None = None,
) -> Float[Array, " products"]:
    """Ascending Ritz values on the Krylov space of ``start``: Lanczos iteration with full orthogonalisation.

    Once the space is exhausted, before min(``num_products``, d) products, its values are exact and ``filler``
    stands for those that are missing; without it a number between the extremes. (matfree's iteration goes on from
    there with normalised rounding errors, and not all that it returns then are eigenvalues.)
    """
    count = min(num_products, start.size)
    rounding = 8 * start.size**0.5 * jnp.finfo(start.dtype).eps

    def step(carry: tuple, k: Array) -> tuple[tuple, tuple[Array, Array]]:
        basis, vector, largest = carry
        basis = lax.dynamic_update_index_in_dim(basis, vector, k, 0)
        image = times(vector)
        diagonal = vector @ image
        for _ in range(2):  # once leaves rounding errors times the condition, twice is enough
            image = image - (basis @ image) @ basis
        beside = jnp.linalg.norm(image)
        largest = jnp.maximum(largest, abs(diagonal) + beside)
        beside = jnp.where(beside <= rounding * largest, 0, beside)
        vector = jnp.where(beside == 0, 0, image / jnp.where(beside == 0, 1, beside))
        return (basis, vector, largest), (diagonal, beside)

    length = jnp.linalg.norm(start)
    begin = jnp.zeros((count, start.size), start.dtype), start / length, jnp.zeros((), start.dtype)
    _, (diagonal, beside) = lax.scan(step, begin, jnp.arange(count))
    within = jnp.cumprod(beside[:-1] != 0).astype(bool)
    missing = diagonal[0] if filler is None else filler
    diagonal = diagonal.at[1:].set(jnp.where(within, diagonal[1:], missing))
    beside = jnp.where(within, beside[:-1], 0)
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
