"""Least squares in closed form, Lanczos iteration, and the ways round faults of LAPACK.

X is [n, d], of any rank. Gradient descent is on ½‖Xw − y‖², a sum over samples. A mask restricts training to the
columns of its support (its non-zero entries), and the start as well.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks
from sketchprune._arithmetic import decay_and_gain, product, ratio
from sketchprune._boundary import checked
from sketchprune._names import own_names
from sketchprune.types import Matrix, PerColumn, PerRow

__dir__ = own_names(__name__)

ONE_THREAD_OPTIONS: dict[str, bool | str] = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_backend_optimization_level": "1",
    "xla_cpu_use_fusion_emitters": False,
}
"""Compiler options of small programs that several threads run at once.

The first keeps batched LAPACK calls from waiting for each other without end (:mod:`theory.cli.runtime` has a script
that shows it). The others cut compile time to a quarter; small programs run as fast with them.
"""
Svd = tuple[Float[Array, "n r"], Float[Array, "r"], Float[Array, "r d"]]
Kept = Bool[Array | np.ndarray, "d"] | Float[Array | np.ndarray, "d"]


@checked
def thin_svd(x: Matrix) -> Svd:
    """The thin singular value decomposition X = UσVᵀ, in which what counts as zero in σ is 0.

    Singular values up to max(n, d)·eps·σ_max count as zero. All factors are NaN where X has an entry that is not
    finite.

    Args:
        x: [n, d].

    Returns:
        U [n, r], σ [r] in descending order and Vᵀ [r, d], r = min(n, d).

    Cost: O(nd·min(n, d)).

    >>> round(float(thin_svd(jnp.array([[3.0, 3.0], [3.0, 3.0]]))[1][0]), 4)
    6.0
    """
    x = jnp.asarray(x)
    # LAPACK's xBDSQR never returns where an entry is infinite: https://github.com/Reference-LAPACK/lapack/issues/1409
    finite = jnp.all(jnp.isfinite(x))
    left, singular, right = _lapack_svd(jnp.where(finite, x, 0))
    tolerance = max(x.shape) * jnp.finfo(x.dtype).eps * jnp.max(singular, initial=0)
    singular = jnp.where(singular > tolerance, singular, 0)
    left, singular, right = (jnp.where(finite, part, jnp.nan) for part in (left, singular, right))
    return left, singular, right


def _lapack_svd(x: Float[Array, "n d"]) -> Any:
    """The decomposition by QR iteration on a CPU, and by the default algorithm elsewhere.

    The default on a CPU is divide and conquer (xGESDD), whose many small products OpenBLAS spreads over threads that
    spin. Where other threads use the cores it is hundreds of times slower than QR iteration:
    https://github.com/OpenMathLib/OpenBLAS/issues/5404 and https://github.com/OpenMathLib/OpenBLAS/issues/731.
    """
    return lax.platform_dependent(
        x,
        cpu=functools.partial(lax.linalg.svd, full_matrices=False, algorithm=lax.linalg.SvdAlgorithm.QR),
        default=functools.partial(lax.linalg.svd, full_matrices=False),
    )


@checked
def limit(
    x: Matrix,
    y: PerRow,
    start: PerColumn,
    *,
    mask: Kept | None = None,
) -> Float[Array, "d"]:
    """The weights that gradient descent from w₀ converges to: w* = w₀ + X⁺(y − Xw₀).

    Of all least-squares solutions it is the nearest to the start, for any step size below 2/λ_max(XᵀX). Under a mask
    X and w₀ are those of the kept columns, and the pruned entries are exactly 0.

    Args:
        x: [n, d].
        y: [n].
        start: w₀, [d].
        mask: [d]; columns where it is 0 are left out.

    Returns:
        w*, [d].

    Cost: O(nd·min(n, d)).
    Source: sketch/training-error.

    >>> end = limit(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([2.0, 1.0]), jnp.array([0.0, 3.0]))
    >>> end.round(4).tolist()
    [2.0, 3.0]
    """
    x, y, start, kept = _restricted(x, y, start, mask)
    left, singular, right = thin_svd(x)
    inverse = ratio((singular > 0).astype(singular.dtype), singular)
    return kept * (start + product(inverse * product(left.T, y - product(x, start)), right))


@checked
def trajectory(
    x: Matrix,
    y: PerRow,
    start: PerColumn,
    step_size: ArrayLike,
    steps: Int[Array | np.ndarray, "*t"] | int,
    *,
    mask: Kept | None = None,
) -> Float[Array, "*t d"]:
    """Gradient descent after each of ``steps`` steps: u_t = w₀ + V(1 − (1 − ησ²)^t)σ⁻¹Uᵀ(y − Xw₀), X = UσVᵀ.

    Right for any t and σ, also where the descent diverges (ησ² > 2).

    Args:
        x: [n, d].
        y: [n].
        start: w₀, [d].
        step_size: η, on the summed loss ½‖Xw − y‖²; one finite number > 0.
        steps: t, whole numbers >= 0 of any shape.
        mask: [d]; columns where it is 0 are left out.

    Returns:
        u_t; the shape of ``steps`` leads.

    Raises:
        ValueError: for negative or fractional steps, and for another step size.

    Cost: O(nd·min(n, d) + td·min(n, d)).
    Source: sketch/training-error-at-t.

    >>> trajectory(jnp.eye(1), jnp.ones(1), jnp.zeros(1), 0.5, jnp.array([0, 1, 2])).tolist()
    [[0.0], [0.5], [0.75]]
    """
    _checks.steps(step_size, steps)
    x, y, start, kept = _restricted(x, y, start, mask)
    left, singular, right = thin_svd(x)
    _, gain = decay_and_gain(jnp.asarray(step_size, singular.dtype) * singular**2, jnp.asarray(steps)[..., None])
    return kept * (start + product(ratio(gain, singular) * product(left.T, y - product(x, start)), right))


def _restricted(x: Any, y: Any, start: Any, mask: Any) -> tuple[Array, Array, Array, Array]:
    """X and the start with zeros at what is not kept, y, and the support of the mask as floats."""
    x, y, start = jnp.asarray(x), jnp.asarray(y), jnp.asarray(start)
    kept = jnp.ones_like(start) if mask is None else (jnp.asarray(mask) != 0).astype(start.dtype)
    return x * kept, y, start * kept, kept


@checked
def compress(x: Matrix, y: Float[Array | np.ndarray, "n *k"]) -> tuple[Float[Array, "rows d"], Float[Array, "rows *k"]]:
    """The same least-squares problem on d + k samples: the triangle of the QR factorisation of [X y].

    An orthogonal change of the samples. It leaves every norm and inner product of columns as it was, hence losses,
    gradients and training for every weight vector and mask.

    Args:
        x: [n, d].
        y: [n], or [n, k] for several targets.

    Returns:
        X and y with as many rows as they have columns together; zeros fill up.

    Cost: O(n(d + k)²).

    >>> [part.shape for part in compress(jnp.ones((100, 2)), jnp.ones(100))]
    [(3, 2), (3,)]
    """
    triangle = jnp.linalg.qr(jnp.column_stack([x, y]), mode="r")
    triangle = jnp.pad(triangle, ((0, triangle.shape[1] - triangle.shape[0]), (0, 0)))
    return triangle[:, : x.shape[1]], triangle[:, x.shape[1] :].reshape(-1, *y.shape[1:])


@checked
def ritz_values(
    times: Callable[[Float[Array, " d"]], Float[Array, " d"]],
    start: Float[Array, " d"],
    num_products: int,
    *,
    filler: float | None = None,
) -> Float[Array, " products"]:
    """Ascending Ritz values of a symmetric matrix on a Krylov space: Lanczos with full orthogonalisation.

    Once the space is exhausted its values are exact eigenvalues, and ``filler`` stands for those that are missing.
    matfree's iteration goes on from there with normalised rounding errors, so that not all of what it returns are
    eigenvalues; hence this one.

    Args:
        times: v -> Av for a symmetric matrix A.
        start: the first vector of the space, [d], not zero.
        num_products: the number of products with A.
        filler: what stands for missing values; by default a number between the extremes.

    Returns:
        min(num_products, d) numbers.

    Cost: that many products, and O(d·num_products²).

    >>> ritz_values(lambda v: jnp.array([1.0, 3.0]) * v, jnp.array([1.0, 1.0]), 2).round(4).tolist()
    [1.0, 3.0]
    """
    count = min(num_products, start.size)
    rounding = 8 * start.size**0.5 * jnp.finfo(start.dtype).eps

    def step(carry: tuple, k: Array) -> tuple[tuple, tuple[Array, Array]]:
        basis, vector, largest = carry
        basis = lax.dynamic_update_index_in_dim(basis, vector, k, 0)
        image = times(vector)
        diagonal = vector @ image
        for _ in range(2):  # once leaves rounding errors times the condition number, twice is enough
            image = image - (basis @ image) @ basis
        beside = jnp.linalg.norm(image)
        largest = jnp.maximum(largest, abs(diagonal) + beside)
        beside = jnp.where(beside <= rounding * largest, 0, beside)
        vector = jnp.where(beside == 0, 0, image / jnp.where(beside == 0, 1, beside))
        return (basis, vector, largest), (diagonal, beside)

    basis = jnp.zeros((count, start.size), start.dtype)
    begin = basis, start / jnp.linalg.norm(start), jnp.zeros((), start.dtype)
    _, (diagonal, beside) = lax.scan(step, begin, jnp.arange(count))
    within = jnp.cumprod(beside[:-1] != 0).astype(bool)
    missing = diagonal[0] if filler is None else filler
    diagonal = diagonal.at[1:].set(jnp.where(within, diagonal[1:], missing))
    beside = jnp.where(within, beside[:-1], 0)
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
