"""Products of matrices of balls, and norms of vectors."""

from typing import Any

import numpy as np
from flint import arb, arb_mat

from theory.counterexamples.balls.arrays import Balls


def dot_general(params: dict[str, Any], operands: list[Any]) -> Any:
    """Products of batches of matrices, as the primitive of this name computes them.

    Args:
        params: of the primitive; its ``dimension_numbers`` say which axes are contracted, and which are of the batch.
        operands: two arrays, of balls or of numbers.
    """
    (contract_left, contract_right), (batch_left, batch_right) = params["dimension_numbers"]
    left, free_left = _as_matrices(operands[0], batch_left, contract_left, contracted_last=True)
    right, free_right = _as_matrices(operands[1], batch_right, contract_right, contracted_last=False)
    shape = tuple(operands[0].shape[axis] for axis in batch_left) + free_left + free_right
    if left.dtype != object:
        return np.matmul(left, right).reshape(shape)
    result = np.empty((len(left), left.shape[1], right.shape[2]), object)
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        result[index] = product(a, b)
    return result.reshape(shape)


def _as_matrices(
    x: Any, batch: tuple[int, ...], contracted: tuple[int, ...], *, contracted_last: bool
) -> tuple[Any, tuple[int, ...]]:
    """[batch, free, contracted], or with the last two exchanged; and the shape of the free axes."""
    free = [axis for axis in range(x.ndim) if axis not in (*batch, *contracted)]
    order = [*batch, *free, *contracted] if contracted_last else [*batch, *contracted, *free]
    count = {
        name: int(np.prod([x.shape[axis] for axis in axes], dtype=int))
        for name, axes in (("batch", batch), ("free", free), ("contracted", contracted))
    }
    last = (count["free"], count["contracted"]) if contracted_last else (count["contracted"], count["free"])
    return x.transpose(order).reshape(count["batch"], *last), tuple(x.shape[axis] for axis in free)


def product(a: Balls, b: Balls) -> Balls:
    """The product of two matrices, each entry one dot product of balls.

    Args:
        a: [rows, inner].
        b: [inner, columns].
    """
    rows, inner, columns = *a.shape, b.shape[1]
    result = np.empty((rows, columns), object)
    if not inner:
        result.fill(arb(0))
    elif rows and columns:
        entries = (arb_mat(rows, inner, list(a.ravel())) * arb_mat(inner, columns, list(b.ravel()))).entries()
        result.ravel()[:] = entries
    return result


def norm(vector: Balls) -> arb:
    """The Euclidean norm of a vector."""
    return arb(sum((ball * ball for ball in vector), arb(0))).sqrt()
