"""The path kernel of a network, without listing its paths: norms, trace, Gram products, spectrum.

Definitions, what networks may be made of, and the limits of precision are in `sketchprune.paths`.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Shaped

from sketchprune import _checks, masks
from sketchprune._boundary import checked
from sketchprune._coupling import check_samples_apart
from sketchprune._leaves import at_floating, check_real, differentiable_leaves
from sketchprune._static import static
from sketchprune.linalg import ritz_values
from sketchprune.paths._derivatives import squared_network
from sketchprune.paths._exponents import Exponent, scaled
from sketchprune.paths._flow import alive, flow
from sketchprune.types import ApplyFn, Key, Mask, Params

Input = Float[Array | np.ndarray, "..."]


@checked
def path_norm(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    power: int,
    *,
    u: Input | None = None,
    mask: Mask | None = None,
    log: bool = False,
    allow_max_and_bias: bool = False,
) -> Float[Array, ""]:
    """The path norm R_q: the sum of the paths' absolute values to the power q.

    R_q(θ; u) = Σ_p |v_p|^q u_p. R_1 is the SynFlow objective, and R_2 the squared path norm. Differentiable in the
    parameters and in u.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        params: its parameters θ.
        input_shape: the shape of one sample.
        power: q, a whole number >= 1.
        u: the input, shaped ``input_shape``, not negative; ones unless given.
        mask: what is kept, shaped like the parameters; everything unless given.
        log: whether to return the natural logarithm instead.
        allow_max_and_bias: let through max pooling and biases, as `sketchprune.paths` says; otherwise they raise.

    Returns:
        R_q or log R_q, in the dtype of the parameters; 0 or −inf where no path is kept.

    Raises:
        ValueError: if the network has no paths in the sense of `sketchprune.paths`, or an argument does not fit.

    Cost:
        One forward pass, and where something is pruned one forward and one backward pass more.

    Source:
        gebhart2021paths; claim paths/conservation.

    Example:
        >>> float(path_norm(lambda w, x: x @ w, jnp.array([[3.0], [-4.0]]), (2,), 2))
        25.0
    """
    _checks.whole("power", power, least=1)
    options = {"power": power, "log": log, "allow_max_and_bias": allow_max_and_bias}
    return _path_norm(static(apply), params, _checked_input(apply, params, input_shape, u), mask, **options)


@checked
def trace(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    *,
    u: Input | None = None,
    mask: Mask | None = None,
    log: bool = False,
    allow_max_and_bias: bool = False,
) -> Float[Array, ""]:
    """The trace of the path kernel.

    Tr Π = Σ_i ∂R_2/∂(θ_i²) over the kept weights i. It is right at weights that are zero too. With u = x² it is 2 to
    the number of hidden layers times the trace of the tangent kernel at x, averaged over the signs of the weights.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        params: its parameters θ.
        input_shape: the shape of one sample.
        u: the input, shaped ``input_shape``, not negative; ones unless given.
        mask: what is kept, shaped like the parameters; everything unless given.
        log: whether to return the natural logarithm instead.
        allow_max_and_bias: let through max pooling and biases, as `sketchprune.paths` says; otherwise they raise.

    Returns:
        Tr Π or log Tr Π, in the dtype of the parameters.

    Raises:
        ValueError: as `path_norm`, and if a path uses a weight twice.

    Cost:
        One forward and one backward pass; twice that where something is pruned or an input is zero.

    Source:
        gebhart2021paths; claims paths/trace, paths/sign-average.

    Example:
        >>> float(trace(lambda w, x: x @ w, jnp.array([[3.0], [-4.0]]), (2,)))
        2.0
        >>> params = {"w": jnp.array([[3.0], [-4.0]]), "b": jnp.array([2.0])}
        >>> float(trace(lambda p, x: x @ p["w"] + p["b"], params, (2,), allow_max_and_bias=True))
        3.0
    """
    options = {"log": log, "allow_max_and_bias": allow_max_and_bias}
    return _trace(static(apply), params, _checked_input(apply, params, input_shape, u), mask, **options)


@checked
def gram_product(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    vector: PyTree[Shaped[Array | np.ndarray, "..."]],
    *,
    u: Input | None = None,
    mask: Mask | None = None,
    allow_max_and_bias: bool = False,
) -> Params:
    """The Gram matrix of the path Jacobian times a vector, without forming the matrix.

    G = Jᵀ J has G_ii = ∂R_2/∂(θ_i²) and G_ij = θ_iθ_j ∂²R_2/∂(θ_i²)∂(θ_j²), so G v is one Hessian-vector product.
    Rows and columns that are not kept are zero, and so are leaves that are not floating.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        params: its parameters θ.
        input_shape: the shape of one sample.
        vector: v, shaped like the parameters.
        u: the input, shaped ``input_shape``, not negative; ones unless given.
        mask: what is kept, shaped like the parameters; everything unless given.
        allow_max_and_bias: let through max pooling and biases, as `sketchprune.paths` says; otherwise they raise.

    Returns:
        G v, shaped like the parameters and in their dtypes.

    Raises:
        ValueError: as `trace`, and if ``vector`` is not shaped like ``params``.

    Cost:
        Two forward and two backward passes.

    Source:
        gebhart2021paths; claim paths/gram.

    Example:
        >>> params = [jnp.array([[2.0]]), jnp.array([[3.0]])]
        >>> product = gram_product(lambda p, x: x @ p[0] @ p[1], params, (1,), [jnp.ones((1, 1)), jnp.zeros((1, 1))])
        >>> [leaf.tolist() for leaf in product]
        [[[9.0]], [[6.0]]]
    """
    _checks.same_shapes("vector", vector, "params", params)
    inputs = _checked_input(apply, params, input_shape, u)
    return _gram_product(static(apply), params, inputs, mask, vector, allow_max_and_bias=allow_max_and_bias)


@checked
def spectrum(
    apply: ApplyFn,
    params: Params,
    input_shape: Sequence[int],
    *,
    count: int = 1,
    u: Input | None = None,
    mask: Mask | None = None,
    num_products: int = 32,
    key: Key | None = None,
    log: bool = False,
    allow_max_and_bias: bool = False,
) -> Float[Array, " count"]:
    """The largest eigenvalues of the path kernel, by Lanczos iteration on the Gram matrix.

    These are Ritz values λ_1 ≥ λ_2 ≥ … on the Krylov space of ``num_products`` products with a random start. They
    are lower bounds, and the largest converge first. An eigenvalue shows once however often it repeats, and zeros
    stand for the eigenvalues that are missing.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        params: its parameters θ, d numbers in all.
        input_shape: the shape of one sample.
        count: how many eigenvalues, 1 to ``num_products``.
        u: the input, shaped ``input_shape``, not negative; ones unless given.
        mask: what is kept, shaped like the parameters; everything unless given.
        num_products: products with the Gram matrix.
        key: of the random start; always the same start unless given.
        log: whether to return natural logarithms instead.
        allow_max_and_bias: let through max pooling and biases, as `sketchprune.paths` says; otherwise they raise.

    Returns:
        The eigenvalues or their logarithms, descending, in the dtype of the parameters.

    Raises:
        ValueError: as `trace`, and if ``count`` is out of range.

    Cost:
        ``num_products`` times that of `gram_product`, and num_products · d numbers of memory.

    Source:
        gebhart2021paths; claims paths/gram, paths/lambda-max-sandwich.

    Example:
        >>> params = [jnp.array([[2.0]]), jnp.array([[3.0]])]
        >>> [round(value, 4) for value in spectrum(lambda p, x: x @ p[0] @ p[1], params, (1,)).tolist()]
        [13.0]
    """
    if not 1 <= count <= num_products:
        raise ValueError(f"count is {count}; it takes 1 to num_products = {num_products}")
    key = jax.random.key(0) if key is None else key
    options = {"count": count, "num_products": num_products, "log": log, "allow_max_and_bias": allow_max_and_bias}
    return _spectrum(static(apply), params, _checked_input(apply, params, input_shape, u), mask, key, **options)


def _checked_input(apply: ApplyFn, params: Params, input_shape: Sequence[int], u: Input | None) -> Float[Array, "..."]:
    """u, or ones, in the dtype of the parameters; refuses a network that couples samples."""
    check_real("params", params)
    leaves, _ = differentiable_leaves(params)
    dtype = jnp.result_type(*leaves)
    ones = jnp.ones(tuple(input_shape), dtype)
    check_samples_apart(apply, params, jnp.stack([ones, 2 * ones]))
    if u is None:
        return ones
    if jnp.shape(u) != tuple(input_shape):
        raise ValueError(f"u has shape {jnp.shape(u)}; it takes input_shape, {tuple(input_shape)}")
    known = _checks.concrete(u)
    if known is not None and not (known >= 0).all():
        raise ValueError(f"u has the entry {known[~(known >= 0)][0]}; it takes numbers >= 0")
    return jnp.asarray(u, dtype)


def _masked(params: Params, mask: Mask | None) -> Params:
    """The parameters under the mask, if there is one."""
    return params if mask is None else masks.apply(params, mask)


def _value_or_log(values: Float[Array, "..."], exponent: Exponent, log: bool) -> Float[Array, "..."]:
    """The product values * 2**exponent, or its natural logarithm."""
    return jnp.log(values) + exponent * math.log(2) if log else scaled(values, exponent)


@functools.partial(jax.jit, static_argnames=("apply", "power", "log", "allow_max_and_bias"))
def _path_norm(
    apply: ApplyFn,
    params: Params,
    inputs: Array,
    mask: Mask | None,
    *,
    power: int,
    log: bool,
    allow_max_and_bias: bool,
) -> Array:
    options = {"allow_max_and_bias": allow_max_and_bias}
    params = alive(apply, _masked(params, mask), jnp.ones_like(inputs), mask, **options)
    found = flow(apply, params, inputs, power, **options)
    return _value_or_log(*found.total(found.powers), log)


@functools.partial(jax.jit, static_argnames=("apply", "log", "allow_max_and_bias"))
def _trace(
    apply: ApplyFn, params: Params, inputs: Array, mask: Mask | None, *, log: bool, allow_max_and_bias: bool
) -> Array:
    found = squared_network(apply, _masked(params, mask), inputs, mask, allow_max_and_bias=allow_max_and_bias)
    slopes, exponent = found.slopes()
    sums = [jnp.sum(kept * slope) for kept, slope in zip(found.kept, slopes, strict=True)]
    return _value_or_log(jnp.sum(jnp.stack(sums)), exponent, log)


@functools.partial(jax.jit, static_argnames=("apply", "allow_max_and_bias"))
def _gram_product(
    apply: ApplyFn, params: Params, inputs: Array, mask: Mask | None, vector: Params, *, allow_max_and_bias: bool
) -> Params:
    found = squared_network(apply, _masked(params, mask), inputs, mask, allow_max_and_bias=allow_max_and_bias)
    product, exponent = found.gram_product(at_floating(params, vector))
    _, rebuild = differentiable_leaves(jax.tree.map(jnp.zeros_like, params))
    return rebuild([scaled(part, exponent) for part in product])


@functools.partial(jax.jit, static_argnames=("apply", "count", "num_products", "log", "allow_max_and_bias"))
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
    allow_max_and_bias: bool,
) -> Array:
    found = squared_network(apply, _masked(params, mask), inputs, mask, allow_max_and_bias=allow_max_and_bias)
    kept, split = ravel_pytree(found.kept)

    def times(vector: Float[Array, " d"]) -> Float[Array, " d"]:
        return ravel_pytree(found.gram_product(split(vector))[0])[0]

    _, exponent = found.slopes()
    start = jnp.where(jnp.any(kept > 0), kept, 1) * jax.random.normal(key, kept.shape, kept.dtype)
    ritz = ritz_values(times, start, num_products, filler=0.0)
    largest = jnp.maximum(jnp.zeros(count, kept.dtype).at[: ritz.size].set(ritz[::-1][:count]), 0)
    return _value_or_log(largest, exponent, log)
