"""Eigenvalues and singular values of matrices of balls."""

import numpy as np
from flint import arb

from theory.counterexamples.balls.arrays import Balls, Undecided, balls, elementwise, midpoints
from theory.counterexamples.balls.products import norm, product

MAX_SWEEPS = 40
"""Sweeps of Jacobi's method; it converges quadratically, and starts from what refinement leaves."""
MAX_REFINEMENTS = 12
"""Steps that refine LAPACK's eigenvectors; each doubles their digits where no eigenvalues are close together."""


def eigenvalues(matrix: Balls) -> Balls:
    """The eigenvalues of a symmetric matrix, ascending.

    With X nearly orthogonal and B = XᵀAX nearly diagonal, Weyl's theorem encloses the eigenvalues of B by its diagonal
    and the norm of the rest, and Ostrowski's those of A by those of B divided by an eigenvalue of XᵀX. Both count
    multiple eigenvalues right, so that none has to be separated from its neighbours.
    """
    return _decomposition(matrix)[0]


def eigh(matrix: Balls) -> tuple[Balls, Balls]:
    """Eigenvalues, ascending, and orthonormal eigenvectors of a symmetric matrix.

    Parts of the matrix that are not connected by entries other than 0 are decomposed by themselves. Within a part
    every eigenvalue must be simple: eigenvectors of a multiple one cannot be enclosed.

    Raises:
        Undecided: the balls do not separate the eigenvalues.
    """
    size = len(matrix)
    values, vectors = np.empty(size, object), balls(np.zeros((size, size)))
    done = 0
    for part in _parts(matrix):
        own, basis = _decomposition(matrix[np.ix_(part, part)])
        columns = np.arange(done, done + len(part))
        values[columns] = own
        vectors[np.ix_(part, columns)] = _enclosed(matrix[np.ix_(part, part)], own, basis)
        done += len(part)
    order = _ascending(values)
    return values[order], vectors[:, order]


def _ascending(values: Balls) -> np.ndarray:
    """An order of the values; those whose order the balls leave open are in the order of their midpoints."""
    return np.array(sorted(range(len(values)), key=lambda place: float(values[place].mid())), int)


def _parts(matrix: Balls) -> list[np.ndarray]:
    """The rows of the matrix, in parts that no entry other than an exact 0 connects."""
    connected = elementwise(lambda ball: not ball.is_zero(), matrix).astype(bool) | np.eye(len(matrix), dtype=bool)
    for _ in range(len(matrix)):
        connected = connected @ connected
    return [np.flatnonzero(row) for index, row in enumerate(connected) if np.flatnonzero(row)[0] == index]


def _decomposition(matrix: Balls) -> tuple[Balls, Balls]:
    """The eigenvalues, ascending, and the columns of X, which nearly are their eigenvectors."""
    size = len(matrix)
    if size == 0:
        return np.empty(0, object), matrix
    if not all(ball.is_finite() for ball in matrix.ravel()):
        raise Undecided("eigh")
    basis = _near_eigenvectors(matrix)
    inner = product(product(basis.T, matrix), basis)
    gram = product(basis.T, basis)
    order = _ascending(np.diag(inner))
    basis, inner = basis[:, order], inner[np.ix_(order, order)]
    diagonal = np.diag(inner)
    spread = _largest_row_sum(np.where(np.eye(size, dtype=bool), balls(np.zeros(inner.shape)), inner))
    stretch = _largest_row_sum(gram - balls(np.eye(size)))
    if not stretch < 1:
        raise Undecided("eigh")
    factor = 1 / (1 + _around_zero(stretch))
    return elementwise(lambda ball: (ball + _around_zero(spread)) * factor, diagonal), basis


def _largest_row_sum(matrix: Balls) -> arb:
    """An upper bound on the spectral norm of a symmetric matrix."""
    sums = [sum((abs(ball).upper() for ball in row), arb(0)) for row in matrix]
    largest = sums[0]
    for other in sums[1:]:
        largest = largest.max(other)
    return arb(largest.upper())


def _around_zero(radius: arb) -> arb:
    """The ball [−radius, radius]."""
    return (-radius).union(radius)


def _near_eigenvectors(matrix: Balls) -> Balls:
    """LAPACK's eigenvectors to the precision of the balls: refined together, then by Jacobi rotations what is left."""
    centre = elementwise(lambda ball: ball.mid(), matrix)
    _, start = np.linalg.eigh(midpoints(matrix))
    scale = max((float(abs(ball)) for ball in centre.ravel()), default=0.0)
    limit = arb(scale) * arb(2) ** (8 - _precision())
    basis = _orthonormal(_refined(centre, balls(start), limit))
    inner = _midpoint_product(_midpoint_product(basis.T, centre), basis)
    size = len(matrix)
    for _ in range(MAX_SWEEPS):
        off = [(i, j) for i in range(size) for j in range(i) if abs(inner[i, j]) > limit]
        if not off:
            break
        for i, j in off:
            _rotate(inner, basis, i, j)
    return basis


def _refined(matrix: Balls, basis: Balls, limit: arb) -> Balls:
    """The basis X, nearly of eigenvectors, with more of their digits, as midpoints.

    A step adds XE to X, with E_ij = (XᵀAX)_ij/(λ_j − λ_i) to first order, by four products of matrices. Eigenvalues
    that are closer than the error of the step are left as they are: what they mix with is refined all the same.
    """
    diagonal = np.eye(len(matrix), dtype=bool)
    before = None
    for _ in range(MAX_REFINEMENTS):
        inner = _midpoint_product(_midpoint_product(basis.T, matrix), basis)
        lack = balls(diagonal) - _midpoint_product(basis.T, basis)
        values = np.diag(inner)
        error = _largest_entry(inner[~diagonal]) + _largest_entry(values) * _largest_entry(lack)
        if error <= limit or (before is not None and error > before / 2):
            break
        before, close = error, len(matrix) * error

        def mixed(entry: arb, missing: arb, value: arb, other: arb, close: arb = close) -> arb:
            gap = value - other
            return ((entry + value * missing) / gap if abs(gap) > close else missing / 2).mid()

        step = elementwise(mixed, inner, lack, values[None, :], values[:, None])
        basis = elementwise(lambda x, change: (x + change).mid(), basis, _midpoint_product(basis, step))
    return basis


def _largest_entry(matrix: Balls) -> arb:
    return max((abs(entry) for entry in matrix.ravel()), default=arb(0), key=float)


def _midpoint_product(a: Balls, b: Balls) -> Balls:
    return elementwise(lambda ball: ball.mid(), product(a, b))


def _precision() -> int:
    from flint import ctx

    return ctx.prec


def _rotate(inner: Balls, basis: Balls, i: int, j: int):
    """One Jacobi rotation, which makes inner[i, j] zero; in place, on midpoints."""
    if inner[i, j] == 0:
        return
    theta = (inner[j, j] - inner[i, i]) / (2 * inner[i, j])
    tangent = 1 / (abs(theta) + (theta * theta + 1).sqrt())
    if theta < 0:
        tangent = -tangent
    cosine = (1 / (tangent * tangent + 1).sqrt()).mid()
    sine = (tangent * cosine).mid()
    for array in (inner, basis):
        first, second = array[:, i].copy(), array[:, j].copy()
        array[:, i] = elementwise(lambda a, b: (cosine * a - sine * b).mid(), first, second)
        array[:, j] = elementwise(lambda a, b: (sine * a + cosine * b).mid(), first, second)
    first, second = inner[i].copy(), inner[j].copy()
    inner[i] = elementwise(lambda a, b: (cosine * a - sine * b).mid(), first, second)
    inner[j] = elementwise(lambda a, b: (sine * a + cosine * b).mid(), first, second)


def _orthonormal(basis: Balls) -> Balls:
    """The basis after Newton steps to the nearest orthogonal matrix, as midpoints: LAPACK's has 16 digits."""
    for _ in range(6):
        gram = product(basis.T, basis)
        if _largest_entry(gram - balls(np.eye(len(basis)))) < arb(2) ** (4 - _precision()):
            break
        step = elementwise(lambda entry, one: (3 * one - entry) / 2, gram, balls(np.eye(len(basis))))
        basis = elementwise(lambda ball: ball.mid(), product(basis, step))
    return basis


def _enclosed(matrix: Balls, values: Balls, basis: Balls) -> Balls:
    """Balls around the columns of the basis that hold unit eigenvectors.

    For a unit vector x and an eigenvalue μ that is at least g away from the others, sin ∠(x, v) ≤ ‖Ax − μx‖/g.
    """
    if len(values) == 1:
        return balls([[1.0]])
    residual = product(matrix, basis) - basis * values
    result = np.empty_like(basis)
    for column, value in enumerate(values):
        gaps = [abs(value - other) for place, other in enumerate(values) if place != column]
        gap = gaps[0]
        for other in gaps[1:]:
            gap = gap.min(other)
        if not gap > 0:
            raise Undecided("eigh")
        length = norm(basis[:, column])
        turn = 2 * norm(elementwise(lambda ball: arb(abs(ball).upper()), residual[:, column])) / (gap * length)
        around = _around_zero(arb(turn.upper()))
        result[:, column] = elementwise(
            lambda ball, length=length, around=around: ball / length + around, basis[:, column]
        )
    return result


def singular_values(matrix: Balls) -> Balls:
    """The singular values, descending: the largest eigenvalues of [[0, A], [Aᵀ, 0]]."""
    rows, columns = matrix.shape
    both = balls(np.zeros((rows + columns, rows + columns)))
    both[:rows, rows:] = matrix
    both[rows:, :rows] = matrix.T
    return elementwise(lambda ball: ball.max(arb(0)), eigenvalues(both)[::-1][: min(rows, columns)])


def svd(matrix: Balls) -> tuple[Balls, Balls, Balls]:
    """The singular values, descending, U and Vᵀ, with min(rows, columns) singular vectors on each side.

    They are √λ, v and Av/√λ for the eigenvalues λ and the eigenvectors v of AᵀA, which have to be simple and not 0.

    Raises:
        Undecided: the balls do not separate the singular values from each other, or from 0.
    """
    rows, columns = matrix.shape
    if rows < columns:
        values, left, right = svd(matrix.T)
        return values, right.T, left.T
    squares, right = (part[..., ::-1] for part in eigh(product(matrix.T, matrix)))
    if not all(square > 0 for square in squares):
        raise Undecided("svd")
    values = elementwise(lambda square: square.sqrt(), squares)
    return values, product(matrix, right) / values, right.T
