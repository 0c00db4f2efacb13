"""The path kernel without its paths: trace and largest eigenvalue, from some hundred parameters to ten million.

Beside them stand, where these fit, the list of all paths with its Jacobian and the Gram matrix, formed by its columns.
At every size PyTorch's backward pass gives the trace, and SciPy's Lanczos iteration the eigenvalue, of products that
are ours.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from benchmarks._operations import product_operations
from benchmarks._peers import Torch, absent, torch
from benchmarks._record import OURS, Row
from benchmarks._roofs import Roof, memory
from benchmarks._timing import in_turns, prepared
from sketchprune import paths
from sketchprune.paths.enumeration import MAX_PATHS

WIDTHS = (
    (12, 12, 12, 5),
    (40, 40, 40, 10),
    (64, 64, 64, 10),
    (256, 256, 128, 10),
    (784, 768, 512, 10),
    (3072, 2048, 1792, 10),
)
"""Multilayer perceptrons without biases: 348, 3,600, 8,832, 10^5, 10^6 and 10^7 parameters."""
MOST_COLUMNS = 4000
"""Parameters up to which the Gram matrix is formed."""
PRODUCTS = 32
"""Of our Lanczos iteration."""
REFERENCE = "error against our own products in float64"
"""What errors of the eigenvalue do not show: a mistake of the products themselves."""
LISTED, FORMED = "all paths and their Jacobian", "Gram matrix by columns"

Weights = Sequence[Float[Array | np.ndarray, "inputs outputs"]]


def network(weights: Weights, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
    """The multilayer perceptron."""
    for weight in weights[:-1]:
        x = jax.nn.relu(x @ weight)
    return x @ weights[-1]


def rows() -> Iterator[Row]:
    """Trace and largest eigenvalue at each size."""
    roof = memory()
    for widths in WIDTHS:
        rng = np.random.default_rng(0)
        shapes = list(itertools.pairwise(widths))
        weights = [(rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32) for shape in shapes]
        yield from _trace_rows(weights, roof)
        yield from _eigenvalue_rows(weights)


def _trace_rows(weights: list[np.ndarray], roof: Roof) -> Iterator[Row]:
    """The trace, by all ways that fit."""
    size, inputs = sum(weight.size for weight in weights), (weights[0].shape[0],)
    ours = prepared(lambda weights: paths.trace(network, weights, inputs), weights)
    runs: dict[str, Callable[[], Any]] = {OURS: ours.run}
    if _num_paths(weights) <= MAX_PATHS:
        runs[LISTED] = prepared(lambda weights: jnp.sum(paths.enumerate_paths(weights).jacobian ** 2), weights).run
    if size <= MOST_COLUMNS:
        runs[FORMED] = prepared(lambda weights: jnp.trace(gram_matrix(weights)), weights).run
    peer = torch()
    if peer is not None:
        tensors = [peer.tensor(weight) for weight in weights]
        runs[peer.named("PyTorch")] = peer.waiting(functools.partial(_torch_trace, peer, tensors))
    timings, exact = in_turns(runs | {roof.name: roof.run}), trace_in_float64(weights)
    what = f"path trace, {size:,} parameters"
    for name, run in runs.items():
        own = name == OURS
        large = own and size >= 10**6
        yield Row(
            what,
            name,
            timings[name].seconds,
            compile_s=ours.compile_s if own else None,
            ratio=None if own else timings[name].over(timings[OURS]),
            # At the least, each weight is read once in each direction.
            roofline=roof.share(8 * size, timings[name], timings[roof.name]) if large else None,
            roof=roof.name if large else "",
            error=abs(float(run()) - exact) / exact,
            memory_mib=ours.peak_mib if own else None,
        )
    if peer is None:
        yield absent(what, "PyTorch")


def _eigenvalue_rows(weights: list[np.ndarray]) -> Iterator[Row]:
    """The largest eigenvalue, by all ways that fit."""
    size, inputs = sum(weight.size for weight in weights), (weights[0].shape[0],)
    ours = prepared(lambda weights: paths.spectrum(network, weights, inputs, num_products=PRODUCTS)[0], weights)
    runs: dict[str, Callable[[], Any]] = {OURS: ours.run, "SciPy's eigsh": functools.partial(_scipy, weights, 1e-6)}
    if _num_paths(weights) <= MAX_PATHS:
        listed = jax.jit(lambda weights: paths.enumerate_paths(weights).gram)
        runs[LISTED] = functools.partial(_lapack, listed, weights)
    if size <= MOST_COLUMNS:
        runs[FORMED] = functools.partial(_lapack, jax.jit(gram_matrix), weights)
    timings = in_turns(runs, rounds=5)
    with jax.enable_x64():
        exact = _scipy([weight.astype(np.float64) for weight in weights], 1e-12)
    what = f"largest eigenvalue of the path kernel, {size:,} parameters"
    ours_takes = f"{PRODUCTS} products, {product_operations(_product, weights, weights) / size:.0f} operations a weight"
    for name, run in runs.items():
        own = name == OURS
        yield Row(
            what,
            name,
            timings[name].seconds,
            compile_s=ours.compile_s if own else None,
            ratio=None if own else timings[name].over(timings[OURS]),
            error=abs(float(run()) - exact) / exact,
            memory_mib=ours.peak_mib if own else None,
            note=f"{ours_takes}; {REFERENCE}" if own else REFERENCE,
        )


def _num_paths(weights: list[np.ndarray]) -> int:
    """How many paths the network has: one for each choice of a unit in each layer."""
    return math.prod((*(weight.shape[0] for weight in weights), weights[-1].shape[1]))


def _product(weights: Weights, vector: Weights) -> Weights:
    """The Gram matrix times a vector, by the library."""
    return paths.gram_product(network, weights, (weights[0].shape[0],), vector)


def gram_matrix(weights: Weights) -> Float[Array, "d d"]:
    """The Gram matrix, by one product for each of its columns."""
    flat, split = ravel_pytree(list(weights))

    def column(unit: Float[Array, " d"]) -> Float[Array, " d"]:
        return ravel_pytree(_product(weights, split(unit)))[0]

    return jax.lax.map(column, jnp.eye(flat.size, dtype=flat.dtype), batch_size=256)


def trace_in_float64(weights: list[np.ndarray]) -> float:
    """Tr Π of a multilayer perceptron: Σ over layers of the squared paths into its inputs and out of its outputs."""
    squares = [np.square(weight, dtype=np.float64) for weight in weights]
    before = [np.ones(len(squares[0]))]
    for square in squares[:-1]:
        before.append(before[-1] @ square)
    after = [np.ones(squares[-1].shape[1])]
    for square in reversed(squares[1:]):
        after.insert(0, square @ after[0])
    return float(sum(one.sum() * other.sum() for one, other in zip(before, after, strict=True)))


def _lapack(gram: Callable[..., Array], weights: list[np.ndarray]) -> float:
    """The largest eigenvalue of a Gram matrix, by LAPACK."""
    matrix = np.asarray(gram(weights))
    return float(eigh(matrix, eigvals_only=True, subset_by_index=(len(matrix) - 1, len(matrix) - 1))[0])


def _scipy(weights: list[np.ndarray], tolerance: float) -> float:
    """The largest eigenvalue by ARPACK, with our products."""
    flat, split = ravel_pytree(weights)
    product = _flat_product(tuple(weight.shape for weight in weights))

    def times(vector: np.ndarray) -> np.ndarray:
        return np.asarray(product(weights, jnp.asarray(vector.astype(flat.dtype))))

    operator, arpack = cast(Any, LinearOperator), cast(Any, eigsh)  # their types miss arguments
    products = operator((flat.size, flat.size), matvec=times, dtype=np.dtype(flat.dtype))
    start = np.random.default_rng(0).standard_normal(flat.size).astype(flat.dtype)
    return float(arpack(products, 1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)[0])


@functools.cache
def _flat_product(shapes: tuple[tuple[int, ...], ...]) -> Callable[[list[np.ndarray], Array], Array]:
    """The Gram product on flat vectors, compiled."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def product(weights: list[np.ndarray], vector: Array) -> Array:
        parts = [part.reshape(shape) for part, shape in zip(jnp.split(vector, ends), shapes, strict=True)]
        return jnp.concatenate([jnp.ravel(part) for part in _product(weights, parts)])

    return jax.jit(product)


def _torch_trace(peer: Torch, weights: list[Any]) -> float:
    """The trace by PyTorch: the sum of the gradient of the network of squares in its own weights."""
    squares = [weight.square().requires_grad_() for weight in weights]
    x = peer.module.ones(1, len(weights[0]), device=peer.device)
    for square in squares:
        x = x @ square
    x.sum().backward()
    return float(sum(square.grad.sum() for square in squares))
