"""The primitives of linear algebra, of stacks of matrices of balls."""

from collections.abc import Callable
from typing import Any

import numpy as np

from theory.counterexamples.balls.arrays import Balls, NoBallVersion
from theory.counterexamples.balls.factors import cholesky, lu, qr, triangular_solve
from theory.counterexamples.balls.products import dot_general
from theory.counterexamples.balls.spectra import eigenvalues, eigh, singular_values, svd


def _batched(function: Callable[..., Any], *operands: Balls) -> list[Balls]:
    """A function of matrices over the leading axes, which the operands share."""
    leading = operands[0].shape[:-2]
    flat = [operand.reshape(-1, *operand.shape[-2:]) for operand in operands]
    results = [function(*matrices) for matrices in zip(*flat, strict=True)]
    results = [result if isinstance(result, tuple) else (result,) for result in results]
    return [np.stack(parts).reshape(*leading, *parts[0].shape) for parts in zip(*results, strict=True)]


def factorise(name: str, params: dict[str, Any], operands: list[Balls], used: list[bool]) -> list[Any] | None:
    """The value of a primitive of linear algebra; None where it is none of these.

    Args:
        name: of the primitive.
        params: its parameters.
        operands: stacks of matrices.
        used: which of its results the program reads: eigenvectors are enclosed only where they are.
    """
    if name == "dot_general":
        return [dot_general(params, operands)]
    if name == "eigh":
        symmetric = _symmetric(operands[0], params)
        if used[0]:
            vectors, values = _batched(lambda matrix: eigh(matrix)[::-1], symmetric)
            return [vectors, values]
        (values,) = _batched(eigenvalues, symmetric)
        return [np.empty((*values.shape, values.shape[-1]), object), values]
    if name == "svd":
        if not any(used[1:]):
            (values,) = _batched(singular_values, operands[0])
            return [values, *[None] * (len(used) - 1)]
        if params.get("full_matrices"):
            raise NoBallVersion("svd with full matrices")
        return _batched(svd, operands[0])
    if name == "cholesky":
        return _batched(cholesky, operands[0])
    if name == "triangular_solve":
        return _batched(lambda a, b: triangular_solve(params, a, b), *operands)
    if name == "lu":
        return _batched(lu, operands[0])
    if name == "qr":
        if params.get("full_matrices") or params.get("pivoting"):
            raise NoBallVersion("qr with full matrices or pivoting")
        return _batched(qr, operands[0])
    return None


def _symmetric(matrices: Balls, params: dict[str, Any]) -> Balls:
    """The matrices that a triangle of each stands for."""
    triangle = np.tril if params.get("lower", True) else np.triu
    taken = triangle(np.ones(matrices.shape[-2:], bool))
    return np.where(taken, matrices, np.swapaxes(matrices, -1, -2))
