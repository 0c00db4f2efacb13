"""Empirical neural tangent kernels Θ = J diag(m) Jᵀ, whole and by their Frobenius norm.

J is the Jacobian of the outputs [N, K] in all P floating parameters, at exactly the parameters given. Leaves without
derivatives, such as integers, do not count, and neither do the mask's leaves for them. NaN and infinity in parameters
or inputs pass through: the entries that they touch are NaN.

Programs are compiled once for each ``apply`` and shape; masks of nearly equal density share them. As under `jax.jit`,
arrays that ``apply`` closes over (running averages, say) are those of the first call: when they change, pass a new
function. The programs keep ``apply`` and these arrays alive until `jax.clear_caches`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._coupling import check_samples_apart
from sketchprune._leaves import at_floating, differentiable_leaves
from sketchprune._static import static
from sketchprune.kernels._blocks import Pair, fold_pairs
from sketchprune.kernels._network import check_inputs, mask_leaves, network
from sketchprune.types import ApplyFn, Inputs, Mask, Params


@checked
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

    Θ[n, m, k, l] = Σ_i m_i ∂f_k(x1_n)/∂θ_i ∂f_l(x2_m)/∂θ_i.

    The mask selects columns of the Jacobian and does not change ``params``: for the kernel of a pruned network pass
    `masks.apply(params, mask)` as well. Dense layers and convolutions are fast; they are found in the jaxpr of
    ``apply`` (see `kernels.structure`). Whatever else has parameters takes the plain Jacobian.

    See also `ntk_reference`, the plain version for everything, and `ntk_on_host`, for kernels larger than a device.

    Args:
        apply: ``apply(params, x) -> [N, K]``, which must treat samples one by one; it is called on single samples.
        params: The parameters, any pytree.
        x1: Samples [N, ...].
        x2: Samples [M, ...] of the same shape; ``x1`` by default, when half of the kernel is computed.
        mask: Booleans or floating numbers shaped like ``params``. A mask that is mostly zero is faster where its values
            are known (no trace): the kept columns are gathered.
        trace_outputs: Return Σ_k Θ[n, m, k, k] instead.
        block_size: Samples in a block; by default as many as memory and caches allow.

    Returns:
        Θ as [N, M, K, K], or [N, M] with ``trace_outputs``, in the dtype of the outputs. Matrix products are at
        precision "highest".

    Raises:
        ValueError: A mask or inputs that do not fit, no samples, complex parameters, or outputs that are not real and
            [N, K].

    Cost:
        Memory: the kernel, and under 1 GiB beside it in float32, or K times the largest leaf outside dense layers and
            convolutions.
        Time: for each sample, a forward pass and K pullbacks; these run once for each block that the sample meets, if
        all samples together would store more than 256 MiB. For each pair of samples and each weight matrix [a, b] at
        one position, a + K² b multiply-adds without a mask; under a mask a b + K² b, or K² times the columns kept.

    Source:
        jacot2018ntk; checked by tangent/closed-form.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> ntk(lambda w, x: x @ w, jnp.ones((2, 1)), x)[..., 0, 0].tolist()
        [[5.0, 11.0], [11.0, 25.0]]
    """
    check_inputs(x1, x2)
    if block_size is not None:
        _checks.whole("block_size", block_size, least=1)
    masks, bounds = mask_leaves(params, mask)
    check_samples_apart(apply, params, x1, x2)
    return compiled_ntk(
        static(apply), params, masks, x1, x2, bounds=bounds, trace_outputs=trace_outputs, block_size=block_size
    )


@functools.partial(jax.jit, static_argnames=("apply", "bounds", "trace_outputs", "block_size"))
def compiled_ntk(
    apply: ApplyFn,
    params: Params,
    masks: Sequence[Any],
    x1: Array,
    x2: Array | None,
    *,
    bounds: tuple[int | None, ...],
    trace_outputs: bool,
    block_size: int | None,
) -> Float[Array, "..."]:
    """The kernel, written block by block; without ``x2`` each block is written to its mirrored place as well.

    Args:
        apply: the network, hashable.
        params: the parameters.
        masks: the mask's leaves, from ``mask_leaves``.
        x1: samples [N, ...].
        x2: samples [M, ...], or None for ``x1``.
        bounds: how many weights each leaf keeps at most, from ``mask_leaves``; None where unknown.
        trace_outputs: as for `ntk`.
        block_size: as for `ntk`.

    Returns:
        As `ntk`.
    """
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, x1, bounds=bounds)
        outputs = () if trace_outputs else (net.outputs, net.outputs)
        no_offset = (jnp.int32(0),) * len(outputs)

        def write(kernel: Array, values: Array, pair: Pair) -> Array:
            kernel = lax.dynamic_update_slice(kernel, values, (pair.first, pair.second, *no_offset))
            if x2 is not None:
                return kernel
            mirrored = values.T if trace_outputs else values.transpose(1, 0, 3, 2)
            return lax.dynamic_update_slice(kernel, mirrored, (pair.second, pair.first, *no_offset))

        empty = jnp.zeros((len(x1), len(x1 if x2 is None else x2), *outputs), net.dtype)
        return fold_pairs(write, empty, net, x1, x2, trace=trace_outputs, block_size=block_size)


@checked
def ntk_reference(
    apply: ApplyFn,
    params: Params,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    mask: Mask | None = None,
    trace_outputs: bool = False,
) -> Float[Array, "n m k k"] | Float[Array, "n m"]:
    """The neural tangent kernel from the whole Jacobian: the plain version that `ntk` is tested against.

    Θ = J diag(m) Jᵀ.

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x1: Samples [N, ...].
        x2: Samples [M, ...] of the same shape; ``x1`` by default.
        mask: Booleans or floating numbers shaped like ``params``.
        trace_outputs: Return Σ_k Θ[n, m, k, k] instead.

    Returns:
        Θ as [N, M, K, K], or [N, M] with ``trace_outputs``, in the dtype of the outputs.

    Raises:
        ValueError: As for `ntk`.

    Cost:
        N K pullbacks of all samples at once, then N M K² P multiply-adds; memory N K P.

    Source:
        jacot2018ntk.

    Example:
        >>> ntk_reference(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0]])).tolist()
        [[[[5.0]]]]
    """
    check_inputs(x1, x2)
    masks, _ = mask_leaves(params, mask)
    check_samples_apart(apply, params, x1, x2)
    return _ntk_reference(static(apply), params, masks, x1, x2, trace_outputs=trace_outputs)


@functools.partial(jax.jit, static_argnames=("apply", "trace_outputs"))
def _ntk_reference(
    apply: ApplyFn, params: Params, masks: Sequence[Any], x1: Array, x2: Array | None, *, trace_outputs: bool
) -> Float[Array, "..."]:
    """The kernel as one product of Jacobians."""
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, x1)
        own, rebuild = differentiable_leaves(params)

        def jacobian(x: Array) -> Float[Array, "n k p"]:
            parts = jax.jacrev(lambda own: apply(rebuild(own), x))(own)
            return jnp.concatenate([part.reshape(len(x), net.outputs, -1) for part in parts], axis=2)

        weights = at_floating(params, [selection.weight for selection in net.selections])
        weight = jnp.concatenate([weight.reshape(-1) for weight in weights])
        left = jacobian(x1)
        right = left if x2 is None else jacobian(x2)
        kernel = jnp.einsum("nkp,p,mkp->nm" if trace_outputs else "nkp,p,mlp->nmkl", left, weight, right)
        return kernel.astype(net.dtype)


@checked
def frobenius_norm(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> Float[Array, ""]:
    """The Frobenius norm of the kernel, from blocks that are not kept.

    ‖Θ‖_F = √Σ Θ[n, m, k, l]².

    The entries of each block are scaled so that their squares do not overflow. The mask may have negative entries.

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x: Samples [N, ...].
        mask: Booleans or floating numbers shaped like ``params``.

    Returns:
        One number in the dtype of the outputs.

    Raises:
        ValueError: As for `ntk`.

    Cost:
        Time as for `ntk`; memory that of `ntk` without the kernel.

    Source:
        jacot2018ntk.

    Example:
        >>> x = jnp.array([[3.0, 0.0], [0.0, 2.0]])
        >>> round(frobenius_norm(lambda w, x: x @ w, jnp.ones((2, 1)), x).item() ** 2, 3)
        97.0
    """
    check_inputs(x)
    masks, bounds = mask_leaves(params, mask)
    check_samples_apart(apply, params, x)
    return _frobenius_norm(static(apply), params, masks, x, bounds=bounds)


@functools.partial(jax.jit, static_argnames=("apply", "bounds"))
def _frobenius_norm(
    apply: ApplyFn, params: Params, masks: Sequence[Any], x: Array, *, bounds: tuple[int | None, ...]
) -> Float[Array, ""]:
    """The norm as the largest entry, times the root of the sum of squares relative to it."""
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, x, bounds=bounds)
        zero = jnp.zeros((), net.dtype)
        largest, squares = fold_pairs(_add_squares, (zero, zero), net, x, None, trace=False, block_size=None)
        return largest * jnp.sqrt(squares)


def _add_squares(
    total: tuple[Float[Array, ""], Float[Array, ""]], values: Float[Array, "n m k k"], pair: Pair
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The largest entry so far and the sum of squares relative to it, with the block's entries added."""
    largest, squares = total
    n, m = values.shape[:2]
    # Samples that an earlier block had are counted there.
    rows = pair.first + jnp.arange(n) >= pair.first_new
    columns = pair.second + jnp.arange(m) >= pair.second_new
    now = jnp.maximum(largest, jnp.max(abs(values)))
    scale = jnp.where(now > 0, now, 1)
    counted = jnp.where(rows[:, None] & columns, jnp.sum((values / scale) ** 2, axis=(2, 3)), 0)
    times = jnp.where(pair.first == pair.second, 1, 2)  # a block off the diagonal stands for its mirrored one too
    return now, squares * (largest / scale) ** 2 + times * jnp.sum(counted)
