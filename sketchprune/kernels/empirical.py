"""Empirical neural tangent kernels, Θ = J diag(m) Jᵀ: structured, masked; products, trace, spectrum.

J is the Jacobian of the outputs [N, K] in all floating parameters, at exactly the parameters given: for the
kernel of a pruned network pass masked parameters as well as the mask. Integer and other non-differentiable
leaves, and the mask's leaves for them, count for nothing. NaN and infinity in parameters or inputs go
through: the entries they touch are NaN.

Programs are compiled once for each ``apply`` and shape; masks of nearly equal density share them. As under
`jax.jit`, arrays that ``apply`` closes over (running averages, say) are those of the first call: give it anew, or as
a new function, when they change. The programs keep ``apply`` and these arrays until `jax.clear_caches`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks
from sketchprune._leaves import is_floating
from sketchprune._static import static
from sketchprune.kernels import _blocks
from sketchprune.types import ApplyFn, Inputs, Key, Mask, Params


def ntk(
    apply: ApplyFn,
    params: Params,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    mask: Mask | None = None,
    trace_outputs: bool = False,
    block_size: int | None = None,
) -> Float[Array, "n m k k"] | Float[Array, "n m"]:
    """The neural tangent kernel of any network, exact, at a fraction of the cost of forming its Jacobian.

    Θ[n, m, k, l] = Σ_i m_i ∂f_k(x1_n)/∂θ_i ∂f_l(x2_m)/∂θ_i; with ``trace_outputs`` Σ_k Θ[n, m, k, k];
    ``x2`` is ``x1`` unless given. The mask selects columns of the Jacobian at ``params``, which it leaves as they are:
    for the kernel of a pruned network give `masks.apply(params, mask)` as well. The result has the dtype of the
    outputs; matrix products are at precision "highest".

    Valid for any ``apply(params, x)`` whose outputs [N, K] treat samples one by one (it is called with one
    sample at a time). Dense layers and convolutions are found in its jaxpr; see `sketchprune.structure`. A
    mask is boolean or floating. Where its values are known (no trace), few columns kept are gathered; a mask
    that is traced or keeps many uses Hadamard products. Raises ValueError for a mask or inputs that do not
    fit, no samples, complex parameters, and outputs that are not real and [N, K].

    Memory: the kernel and under 1 GiB beside it in float32, by working on blocks of samples and of columns;
    ``block_size`` sets the samples in a block. More only where one sample takes more: a leaf without structure
    (an embedding table) K times its size. Without ``x2`` half of the blocks are computed. Cost: a forward pass
    and K pullbacks a sample, or, where what is kept of all samples exceeds 256 MiB, as many for each block it
    meets; then for each pair of samples and each weight matrix [d_in, d_out] at one position d_in + K² d_out,
    under a mask d_in d_out + K² d_out or K² times the columns kept. `reference` is the plain version.

    Source: jacot2018ntk; checked by tangent/closed-form.

    >>> ntk(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [3.0, 4.0]]))[..., 0, 0].tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    _check_inputs(x1, x2)
    if block_size is not None:
        _checks.whole("block_size", block_size, least=1)
    masks, kept = _masks(params, mask)
    options = {"kept": kept, "trace": trace_outputs, "block_size": block_size}
    return _blocks.ntk(static(apply), params, masks, x1, x2, **options)


def reference(
    apply: ApplyFn,
    params: Params,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    mask: Mask | None = None,
    trace_outputs: bool = False,
) -> Float[Array, "n m k k"] | Float[Array, "n m"]:
    """As `ntk`, from the whole Jacobian: what `ntk` is tested against.

    Θ = J diag(m) Jᵀ. Takes (but ``block_size``), returns and raises what `ntk` does. Cost: N K pullbacks
    of all samples at once; memory N K d.

    Source: jacot2018ntk.

    >>> reference(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0]])).tolist()
    [[[[5.0]]]]
    """
    _check_inputs(x1, x2)
    masks, _ = _masks(params, mask)
    return _blocks.reference(static(apply), params, masks, x1, x2, trace=trace_outputs)


def ntk_vector_product(
    apply: ApplyFn, params: Params, x: Inputs, vector: Float[Array, "n k"], *, mask: Mask | None = None
) -> Float[Array, "n k"]:
    """The kernel times a vector, without the kernel.

    Θ v = J (m ∘ (Jᵀ v)), in the dtype of the outputs. Valid, and raising, as `ntk`; also for a ``vector``
    that is not shaped like the outputs. Cost: one pullback and one pushforward of all samples; memory that of
    the pass.

    Source: jacot2018ntk.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> ntk_vector_product(lambda w, x: x @ w, jnp.ones((2, 1)), x, jnp.array([[1.0], [0.0]])).tolist()
    [[5.0], [11.0]]
    """
    _check_inputs(x, None)
    masks, _ = _masks(params, mask)
    return _blocks.product(static(apply), params, masks, x, vector)


def column_norms(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> PyTree[Float[Array, "..."]]:
    """The squared length of each column of the Jacobian: the part of the kernel's trace a parameter carries.

    m_i ‖J_i‖² = m_i Σ_nk (∂f_k(x_n)/∂θ_i)², shaped like ``params``; zeros for leaves that are not floating.
    In the dtype of the outputs. Valid, and raising, as `ntk`.

    Cost: a forward pass and K pullbacks a sample, in blocks of samples; for a weight matrix at one position
    N d_in d_out more, since Σ_k a_i² g_kj² factors; elsewhere its Jacobian is formed, N K t d_in d_out.

    Source: bar2023sketching; the optimal probabilities of tangent/sketch-moment are proportional to it.

    >>> column_norms(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[10.0], [20.0]]
    """
    _check_inputs(x, None)
    masks, _ = _masks(params, mask)
    return _blocks.column_norms(static(apply), params, masks, x)


def trace(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> Float[Array, ""]:
    """The trace of the kernel, without the kernel.

    Tr Θ = Σ_i m_i ‖J_i‖². Valid, raising and costing as `column_norms`. Source: jacot2018ntk.

    >>> trace(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [3.0, 4.0]])).item()
    30.0
    """
    norms = jax.tree.leaves(column_norms(apply, params, x, mask=mask))
    return jnp.sum(jnp.stack([jnp.sum(norm) for norm in norms]))


def frobenius_norm(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> Float[Array, ""]:
    """The Frobenius norm of the kernel, by blocks that are not kept.

    ‖Θ‖_F = √Σ Θ[n, m, k, l]², each block's entries scaled so that their squares do not overflow. Valid, raising
    and costing as `ntk`, in less memory. Source: jacot2018ntk.

    >>> x = jnp.array([[3.0, 0.0], [0.0, 2.0]])
    >>> round(frobenius_norm(lambda w, x: x @ w, jnp.ones((2, 1)), x).item() ** 2, 3)
    97.0
    """
    _check_inputs(x, None)
    masks, kept = _masks(params, mask)
    return _blocks.frobenius_norm(static(apply), params, masks, x, kept=kept)


def extreme_eigenvalues(
    apply: ApplyFn,
    params: Params,
    x: Inputs,
    *,
    mask: Mask | None = None,
    num_products: int = 64,
    key: Key | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The least and the greatest eigenvalue of the kernel, by Lanczos iteration, without the kernel.

    Ritz values of Θ on the Krylov space of ``num_products`` products with a random start (``key``, a fixed
    one unless given): λ_min ≤ least and greatest ≤ λ_max. Both are exact, to rounding, with N K products or
    more; the greatest is long before, the least of an ill-conditioned kernel is not.

    Valid, and raising, as `ntk_vector_product`; also for ``num_products`` below 1. Cost: that many products,
    with full orthogonalisation; memory ``num_products`` N K.

    Source: jacot2018ntk.

    >>> x = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    >>> [round(value.item(), 3) for value in extreme_eigenvalues(lambda w, x: x @ w, jnp.ones((2, 1)), x)]
    [1.0, 9.0]
    """
    _check_inputs(x, None)
    _checks.whole("num_products", num_products, least=1)
    masks, _ = _masks(params, mask)
    key = jax.random.key(0) if key is None else key
    return _blocks.extreme_eigenvalues(static(apply), params, masks, x, key, num_products=num_products)


def _check_inputs(x1: Any, x2: Any) -> None:
    for name, x in (("x1" if x2 is not None else "x", x1), ("x2", x2)):
        if x is not None and not hasattr(x, "dtype"):
            raise ValueError(f"{name} is a {type(x).__name__}; it takes an array, samples on the first axis")
        if x is not None and (not jnp.ndim(x) or not len(x)):
            raise ValueError(f"{name} has shape {jnp.shape(x)}; it takes at least one sample, on the first axis")
    if x2 is not None and jnp.shape(x1)[1:] != jnp.shape(x2)[1:]:
        raise ValueError(f"x2 holds samples of shape {jnp.shape(x2)[1:]}; it takes those of x1, {jnp.shape(x1)[1:]}")


def _masks(params: Params, mask: Mask | None) -> tuple[list[Array | None], tuple[int | None, ...]]:
    """Each leaf's mask, None where it changes nothing, and a bound on the columns kept where known."""
    named, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path) for path, _ in named]
    for name, (_, leaf) in zip(names, named, strict=True):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            raise ValueError(f"params{name} is complex; it takes real numbers")
    if not any(is_floating(leaf) for _, leaf in named):
        raise ValueError("params has no floating leaf to differentiate in; it takes at least one")
    if mask is None:
        return [None] * len(named), (None,) * len(named)
    given, mask_structure = jax.tree_util.tree_flatten_with_path(mask)
    given_names = [jax.tree_util.keystr(path) for path, _ in given]
    if astray := sorted(set(names) ^ set(given_names)):
        missing = [name for name in astray if name in names]
        raise ValueError(
            f"mask{astray[0]} is {'missing' if missing else 'not a leaf of params'}; mask takes the structure of params"
        )
    if structure != mask_structure:
        raise ValueError(f"mask is {mask_structure}; it takes the structure of params, {structure}")
    pairs = [
        _leaf_mask(f"mask{name}", leaf, kept) for name, (_, leaf), (_, kept) in zip(names, named, given, strict=True)
    ]
    return [mask for mask, _ in pairs], _bounds([kept for _, kept in pairs], jax.tree.leaves(params))


def _leaf_mask(name: str, leaf: Any, mask: Any) -> tuple[Array | None, int | None]:
    if jnp.shape(mask) != jnp.shape(leaf):
        raise ValueError(f"{name} has shape {jnp.shape(mask)}; it takes that of its parameter, {jnp.shape(leaf)}")
    dtype = jnp.result_type(mask)
    if dtype != jnp.bool_ and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} has dtype {dtype}; it takes booleans or floating numbers")
    if not is_floating(leaf):
        return None, None
    known = _checks.concrete(mask)
    if known is None:
        return mask, None
    if (known == 1).all():
        return None, None
    return mask, int(np.count_nonzero(known))


def _bounds(kept: Sequence[int | None], leaves: Sequence[Any]) -> tuple[int | None, ...]:
    """Bounds on the numbers kept that are the same for nearly all random masks of one law.

    Compiled programs depend on them. The density of all leaves together, rounded up to a power of 2^(1/4), and four
    standard deviations of the number that a random mask of that density keeps of a leaf; twice, four times, … that
    density in leaves that keep more, ½, ¼, … of it in those of more than 64 weights that keep less.
    """
    sizes = [jnp.size(leaf) for count, leaf in zip(kept, leaves, strict=True) if count is not None]
    total = sum(count for count in kept if count is not None)
    if not total:
        return tuple(kept)
    density = 2.0 ** (math.ceil(4 * math.log2(total / sum(sizes))) / 4)

    def bound(count: int, size: int) -> int:
        expected = density * size
        while expected > 64 and 2 * count <= expected:
            expected /= 2
        while expected + 4 * expected**0.5 < count:
            expected *= 2
        return min(size, math.ceil(expected + 4 * expected**0.5))

    return tuple(
        None if count is None else bound(count, jnp.size(leaf)) for count, leaf in zip(kept, leaves, strict=True)
    )
