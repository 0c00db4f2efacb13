"""Factorisations of matrices of balls into triangles, and what they solve."""

from typing import Any

import numpy as np
from flint import arb

from theory.counterexamples.balls.arrays import Balls, balls, elementwise, midpoints
from theory.counterexamples.balls.products import norm, product


def cholesky(matrix: Balls) -> Balls:
    """The lower triangle L with LLᵀ = A."""
    lower = balls(np.zeros(matrix.shape))
    for j in range(len(matrix)):
        pivot = matrix[j, j] - sum((entry * entry for entry in lower[j, :j]), arb(0))
        lower[j, j] = pivot.sqrt()
        for i in range(j + 1, len(matrix)):
            rest = matrix[i, j] - sum((a * b for a, b in zip(lower[i, :j], lower[j, :j], strict=True)), arb(0))
            lower[i, j] = rest / lower[j, j]
    return lower


def triangular_solve(params: dict[str, Any], a: Balls, b: Balls) -> Balls:
    """x with op(A) x = b, or x op(A) = b, for a triangular A.

    Args:
        params: of the primitive of this name: the side, the triangle, whether A is transposed, whether its diagonal
            is one.
        a: A, [n, n].
        b: [n, columns], or [rows, n] where A is on the right.
    """
    if not params["left_side"]:
        flipped = {**params, "left_side": True, "transpose_a": not params["transpose_a"]}
        return triangular_solve(flipped, a, b.T).T
    lower = params["lower"] != params["transpose_a"]
    matrix = a.T if params["transpose_a"] else a
    size = len(matrix)
    x = b.copy()
    for i in range(size) if lower else reversed(range(size)):
        others = range(i) if lower else range(i + 1, size)
        for j in others:
            x[i] = x[i] - matrix[i, j] * x[j]
        if not params["unit_diagonal"]:
            x[i] = elementwise(lambda entry, i=i: entry / matrix[i, i], x[i])
    return x


def lu(matrix: Balls) -> tuple[Balls, np.ndarray, np.ndarray]:
    """The factors, the pivots and the permutation, with the pivot whose midpoint is largest."""
    factors = matrix.copy()
    rows, columns = factors.shape
    pivots, permutation = np.zeros(min(rows, columns), np.int32), np.arange(rows, dtype=np.int32)
    for k in range(min(rows, columns)):
        pivot = k + int(np.argmax(abs(midpoints(factors[k:, k]))))
        pivots[k] = pivot
        factors[[k, pivot]], permutation[[k, pivot]] = factors[[pivot, k]], permutation[[pivot, k]]
        for i in range(k + 1, rows):
            if factors[i, k].is_zero():
                continue
            factors[i, k] = factors[i, k] / factors[k, k]
            factors[i, k + 1 :] = factors[i, k + 1 :] - factors[i, k] * factors[k, k + 1 :]
    return factors, pivots, permutation


def qr(matrix: Balls) -> tuple[Balls, Balls]:
    """Orthonormal columns Q and R = QᵀA with a negative diagonal, where the first columns are independent."""
    rows, columns = matrix.shape
    count = min(rows, columns)
    q = matrix[:, :count].copy()
    for j in range(count):
        for i in range(j):
            along = sum((a * b for a, b in zip(q[:, i], matrix[:, j], strict=True)), arb(0))
            q[:, j] = q[:, j] - along * q[:, i]
        length = norm(q[:, j])
        q[:, j] = elementwise(lambda ball, length=length: -ball / length, q[:, j])
    r = product(q.T, matrix)
    below = np.tril(np.ones(r.shape, bool), -1)
    return q, np.where(below, balls(np.zeros(r.shape)), r)
