"""The path kernel Π of bias-free ReLU networks: norms, trace, Gram products, spectrum; all paths of small nets.

A path p runs from an input to an output; v_p is the product of its weights (and of fixed coefficients, such as
those of an average pooling), u_p the input that it starts from. R_q(θ; u) = Σ_p |v_p|^q u_p is what the network
without activations returns for u when weights and coefficients are raised to the power q, so one pass gives it.
J[p, i] = ∂v_p/∂θ_i √u_p over the kept weights i, Π = J Jᵀ, and G = Jᵀ J has the same non-zero eigenvalues.

Here u is an input of ones unless given, of one sample and not negative; a mask is applied to the parameters (so
that weights are masked weights) and keeps the columns where it is not zero. R_q is linear in u: for a sum over
samples give the sum of their u. Networks are any ``apply(params, x)`` of products, sums, ReLU (or none), average
pooling and reshaping; skip connections are sums and count as paths. Batch normalisation by means that are known to
be zero, without a shift, is a scale: its factors are weights and coefficients. Trace, Gram products and spectrum
need each weight at most once on a path: layers that share a parameter array raise ValueError, unless they read it
by slicing or indexing; then that they read different entries is not checked. Max pooling, biases and shifts, batch
normalisation by other means, other activations, and a ReLU of weights have no path kernel: ValueError.

Numbers take the dtype of the parameters, and carry a power of two for each layer and each array of weights:

- Exact to rounding, whatever the depth, the density and the scale; a result that is not representable itself has a
  ``log``. Weights that no path over kept weights runs through count for nothing, however heavy.
- What is about 1e-38 (in float32) of the heaviest, after raising to the power q, counts as zero: a unit whose paths
  from the inputs sum to that little beside another's in its layer, even where later weights would make up for it, and
  a weight beside the largest in its array.
- inf or NaN: where, without a mask, a weight of zero cuts off a branch heavier than all others by such a factor.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks, masks
from sketchprune._leaves import at_floating, differentiable_leaves
from sketchprune._static import static
from sketchprune.linalg import ritz_values
from sketchprune.paths._derivatives import squares
from sketchprune.paths._flow import Exponent, alive, flow, scaled
from sketchprune.paths.enumeration import Edges as Edges
from sketchprune.paths.enumeration import Paths as Paths
from sketchprune.paths.enumeration import average_pooling as average_pooling
from sketchprune.paths.enumeration import convolution as convolution
from sketchprune.paths.enumeration import enumerate_paths as enumerate_paths
from sketchprune.types import ApplyFn, Key, Mask, Params


def path_norm(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    power: int,
    *,
    u: Float[Array, "..."] | None = None,
    mask: Mask | None = None,
    log: bool = False,
) -> Float[Array, ""]:
    """The sum of the paths' values to a power, R_q(θ; u) = Σ_p |v_p|^q u_p; its natural logarithm with ``log``.

    q = ``power`` is a whole number >= 1; R_1 is the SynFlow objective, R_2 the squared path norm.
    ``input_shape`` is that of one sample. Differentiable. ValueError as the module says, and for a negative u.
    One forward pass; where something is pruned a forward and a backward pass more, to find what is dead.
    Source: gebhart2021paths, paths/conservation.

    >>> path_norm(lambda w, x: x @ w, jnp.array([[3.0], [-4.0]]), (2,), 2)
    Array(25., dtype=float64)
    """
    _checks.whole("power", power, least=1)
    return _path_norm(static(apply), params, _input(params, input_shape, u), mask, power=power, log=log)


def trace(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    *,
    u: Float[Array, "..."] | None = None,
    mask: Mask | None = None,
    log: bool = False,
) -> Float[Array, ""]:
    """The trace of the path kernel, Tr Π = Σ_i ∂R_2/∂(θ_i²) over kept i; its natural logarithm with ``log``.

    Right at weights that are zero. With u = x² it is the average over the signs of the weights of the trace of
    the tangent kernel at x, times 2 to the number of hidden layers. ValueError as `path_norm`. One forward and one
    backward pass; twice that where something is pruned or an input is zero. Source: gebhart2021paths, paths/trace.

    >>> trace(lambda w, x: x @ w, jnp.array([[3.0], [-4.0]]), (2,))
    Array(2., dtype=float64)
    """
    return _trace(static(apply), params, _input(params, input_shape, u), mask, log=log)


def gram_product(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    vector: PyTree[Float[Array, "..."]],
    *,
    u: Float[Array, "..."] | None = None,
    mask: Mask | None = None,
) -> PyTree[Float[Array, "..."]]:
    """G times a vector shaped like the parameters, without G = JᵀJ.

    G_ii = ∂R_2/∂(θ_i²) and G_ij = θ_iθ_j ∂²R_2/∂(θ_i²)∂(θ_j²): one Hessian-vector product. Rows and columns that
    are not kept, and leaves that are not floating, are zero. ValueError as `path_norm`, and for a vector that is
    not shaped like the parameters. Two passes forward and two backward. Source: paths/gram.

    >>> params = [jnp.array([[2.0]]), jnp.array([[3.0]])]
    >>> gram_product(lambda p, x: x @ p[0] @ p[1], params, (1,), [jnp.ones((1, 1)), jnp.zeros((1, 1))])
    [Array([[9.]], dtype=float64), Array([[6.]], dtype=float64)]
    """
    expected, given = (jax.tree.map(jnp.shape, tree) for tree in (params, vector))
    structures = map(jax.tree.structure, (params, vector))
    if len({*structures}) > 1 or jax.tree.leaves(given) != jax.tree.leaves(expected):
        raise ValueError(f"vector has the shapes {given}; it takes those of params, {expected}")
    return _gram_product(static(apply), params, _input(params, input_shape, u), mask, vector)


def spectrum(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    *,
    count: int = 1,
    u: Float[Array, "..."] | None = None,
    mask: Mask | None = None,
    num_products: int = 32,
    key: Key | None = None,
    log: bool = False,
) -> Float[Array, " count"]:
    """The largest eigenvalues of the path kernel, descending, by Lanczos iteration on G; logarithms with ``log``.

    Ritz values on the Krylov space of ``num_products`` products with a random start (``key``, a fixed one unless
    given): lower bounds that converge from the largest on. An eigenvalue shows once, however often it repeats;
    zeros where there are fewer. ValueError as `path_norm`, and for ``count`` outside 1..``num_products``. Cost:
    the products and num_products * d memory for d parameters. Source: paths/gram.

    >>> params = [jnp.array([[2.0]]), jnp.array([[3.0]])]
    >>> spectrum(lambda p, x: x @ p[0] @ p[1], params, (1,)).round(6)
    Array([13.], dtype=float64)
    """
    if not 1 <= count <= num_products:
        raise ValueError(f"count is {count}; it takes 1 to num_products = {num_products}")
    key = jax.random.key(0) if key is None else key
    options = {"count": count, "num_products": num_products, "log": log}
    return _spectrum(static(apply), params, _input(params, input_shape, u), mask, key, **options)


def _input(params: Params, input_shape: Sequence[int], u: Any) -> Float[Array, "..."]:
    """u, or ones, in the dtype of the parameters."""
    leaves, _ = differentiable_leaves(params)
    if not leaves:
        raise ValueError("params has no floating leaf; it takes at least one")
    dtype = jnp.result_type(*leaves)
    if u is None:
        return jnp.ones(tuple(input_shape), dtype)
    if jnp.shape(u) != tuple(input_shape):
        raise ValueError(f"u has shape {jnp.shape(u)}; it takes input_shape, {tuple(input_shape)}")
    known = _checks.concrete(u)
    if known is not None and not (known >= 0).all():
        raise ValueError(f"u has the entry {known[~(known >= 0)][0]}; it takes numbers >= 0")
    return jnp.asarray(u, dtype)


def _masked(params: Params, mask: Mask | None) -> Params:
    return params if mask is None else masks.apply(params, mask)


def _read(values: Float[Array, "..."], exponent: Exponent, log: bool) -> Float[Array, "..."]:
    """values * 2**exponent, or its logarithm."""
    return jnp.log(values) + exponent * math.log(2) if log else scaled(values, exponent)


@functools.partial(jax.jit, static_argnames=("apply", "power", "log"))
def _path_norm(apply: ApplyFn, params: Params, inputs: Array, mask: Mask | None, *, power: int, log: bool) -> Array:
    params = alive(apply, _masked(params, mask), jnp.ones_like(inputs), mask)
    found = flow(apply, params, inputs, power)
    return _read(*found.total(found.powers), log)


@functools.partial(jax.jit, static_argnames=("apply", "log"))
def _trace(apply: ApplyFn, params: Params, inputs: Array, mask: Mask | None, *, log: bool) -> Array:
    found = squares(apply, _masked(params, mask), inputs, mask)
    slopes, exponent = found.slopes()
    sums = [jnp.sum(kept * slope) for kept, slope in zip(found.kept, slopes, strict=True)]
    return _read(jnp.sum(jnp.stack(sums)), exponent, log)


@functools.partial(jax.jit, static_argnames=("apply",))
def _gram_product(apply: ApplyFn, params: Params, inputs: Array, mask: Mask | None, vector: Params) -> Params:
    found = squares(apply, _masked(params, mask), inputs, mask)
    product, exponent = found.gram_product(at_floating(params, vector))
    _, rebuild = differentiable_leaves(jax.tree.map(jnp.zeros_like, params))
    return rebuild([scaled(part, exponent) for part in product])


@functools.partial(jax.jit, static_argnames=("apply", "count", "num_products", "log"))
def _spectrum(
    apply: ApplyFn,
    params: Params,
    inputs: Array,
    mask: Mask | None,
    key: Key,
    *,
    count: int,
    num_products: int,
    log: bool,
) -> Array:
    found = squares(apply, _masked(params, mask), inputs, mask)
    kept, split = ravel_pytree(found.kept)

    def times(vector: Float[Array, " d"]) -> Float[Array, " d"]:
        return ravel_pytree(found.gram_product(split(vector))[0])[0]

    _, exponent = found.slopes()
    start = jnp.where(jnp.any(kept > 0), kept, 1) * jax.random.normal(key, kept.shape, kept.dtype)
    ritz = ritz_values(times, start, num_products, filler=0.0)
    largest = jnp.maximum(jnp.zeros(count, kept.dtype).at[: ritz.size].set(ritz[::-1][:count]), 0)
    return _read(largest, exponent, log)
