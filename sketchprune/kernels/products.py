"""Products of the empirical neural tangent kernel with vectors, and its extreme eigenvalues, without the kernel."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._coupling import check_samples_apart
from sketchprune._leaves import at_floating, differentiable_leaves
from sketchprune._static import static
from sketchprune.kernels._network import Network, check_inputs, mask_leaves, network
from sketchprune.linalg import ritz_values
from sketchprune.types import ApplyFn, Inputs, Key, Mask, Params


@checked
def ntk_vector_product(
    apply: ApplyFn,
    params: Params,
    x: Inputs,
    vector: Float[Array | np.ndarray, "n k"],
    *,
    mask: Mask | None = None,
) -> Float[Array, "n k"]:
    """The kernel times a vector, without the kernel.

    Θ v = J (m ∘ (Jᵀ v)).

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x: Samples [N, ...].
        vector: v, shaped like the outputs [N, K].
        mask: Booleans or floating numbers shaped like ``params``.

    Returns:
        Θ v, [N, K] in the dtype of the outputs.

    Raises:
        ValueError: As for `ntk`, and for a ``vector`` that is not shaped like the outputs.

    Cost:
        One pullback and one pushforward of all samples; memory that of the pass.

    Source:
        jacot2018ntk.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> ntk_vector_product(lambda w, x: x @ w, jnp.ones((2, 1)), x, jnp.array([[1.0], [0.0]])).tolist()
        [[5.0], [11.0]]
    """
    check_inputs(x)
    masks, _ = mask_leaves(params, mask)
    check_samples_apart(apply, params, x)
    return _ntk_vector_product(static(apply), params, masks, x, vector)


@functools.partial(jax.jit, static_argnames=("apply",))
def _ntk_vector_product(
    apply: ApplyFn, params: Params, masks: Sequence[Any], x: Array, vector: Float[Array, "..."]
) -> Float[Array, "n k"]:
    with jax.default_matmul_precision("highest"):
        net, times = _linearised(apply, params, masks, x)
        expected = (len(x), net.outputs)
        if jnp.shape(vector) != expected:
            raise ValueError(f"vector has shape {jnp.shape(vector)}; it takes that of the outputs, {expected}")
        return times(jnp.asarray(vector, net.dtype))


@checked
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

    λ_min ≤ least and greatest ≤ λ_max: Ritz values of Θ on the Krylov space of a random start.

    Both are exact, to rounding, with N K products or more. The greatest is exact long before; the least of an
    ill-conditioned kernel is not.

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x: Samples [N, ...].
        mask: Booleans or floating numbers shaped like ``params``.
        num_products: The dimension of the Krylov space, at least 1.
        key: The key of the random start; a fixed one by default.

    Returns:
        The two numbers, in the dtype of the outputs.

    Raises:
        ValueError: As for `ntk`, and for ``num_products`` below 1.

    Cost:
        That many products, with full orthogonalisation; memory ``num_products`` N K.

    Source:
        jacot2018ntk.

    Example:
        >>> x = jnp.array([[3.0, 0.0], [0.0, 1.0]])
        >>> [round(value.item(), 3) for value in extreme_eigenvalues(lambda w, x: x @ w, jnp.ones((2, 1)), x)]
        [1.0, 9.0]
    """
    check_inputs(x)
    _checks.whole("num_products", num_products, least=1)
    masks, _ = mask_leaves(params, mask)
    check_samples_apart(apply, params, x)
    key = jax.random.key(0) if key is None else key
    return _extreme_eigenvalues(static(apply), params, masks, x, key, num_products=num_products)


@functools.partial(jax.jit, static_argnames=("apply", "num_products"))
def _extreme_eigenvalues(
    apply: ApplyFn, params: Params, masks: Sequence[Any], x: Array, key: Key, *, num_products: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    with jax.default_matmul_precision("highest"):
        net, times = _linearised(apply, params, masks, x)
        size = len(x) * net.outputs
        wide = jnp.promote_types(net.dtype, jnp.float32)  # no eigenvalues are found in half precision

        def product(vector: Float[Array, " size"]) -> Float[Array, " size"]:
            return times(vector.astype(net.dtype).reshape(len(x), -1)).reshape(-1).astype(wide)

        ritz = ritz_values(product, jax.random.normal(key, (size,), wide), num_products).astype(net.dtype)
        return ritz[0], ritz[-1]


def _linearised(
    apply: ApplyFn, params: Params, masks: Sequence[Any], x: Array
) -> tuple[Network, Callable[[Float[Array, "n k"]], Float[Array, "n k"]]]:
    """The network, and the function v -> J (m ∘ (Jᵀ v)) from a single linearisation."""
    net = network(apply, params, masks, x)
    own, rebuild = differentiable_leaves(params)
    _, push = jax.linearize(lambda own: apply(rebuild(own), x), own)
    pull = jax.linear_transpose(push, own)
    every = at_floating(params, [selection.weight for selection in net.selections])
    weights = [weight.astype(leaf.dtype) for weight, leaf in zip(every, own, strict=True)]

    def times(vector: Float[Array, "n k"]) -> Float[Array, "n k"]:
        (cotangent,) = pull(vector)
        return push([weight * part for weight, part in zip(weights, cotangent, strict=True)])

    return net, times
