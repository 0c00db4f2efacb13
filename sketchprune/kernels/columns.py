"""The columns of a network's Jacobian one by one: their lengths, the trace these add up to, and the kernel as items."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from sketchprune._boundary import checked
from sketchprune._coupling import check_samples_apart
from sketchprune._leaves import differentiable_leaves, is_floating
from sketchprune._static import static
from sketchprune.kernels import _plan
from sketchprune.kernels._blocks import cut
from sketchprune.kernels._network import Network, check_inputs, mask_leaves, network
from sketchprune.kernels.empirical import frobenius_norm
from sketchprune.kernels.sensitivities import Sensitivities, sensitivities
from sketchprune.kernels.structure import Layer
from sketchprune.laws.items import Items
from sketchprune.types import ApplyFn, Inputs, Mask, Params

MAX_GRAM_SIZE = 4096
"""Parameters of which the Gram matrix of items is formed: it takes 128 MiB in float64."""


@checked
def column_norms(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> PyTree[Float[Array, "..."]]:
    """The squared length of each column of the Jacobian: the part of the kernel's trace that a parameter carries.

    m_i ‖J_i‖² = m_i Σ_nk (∂f_k(x_n)/∂θ_i)².

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x: Samples [N, ...].
        mask: Booleans or floating numbers shaped like ``params``.

    Returns:
        Arrays shaped like ``params``, in the dtype of the outputs; zeros for leaves that are not floating.

    Raises:
        ValueError: As for `ntk`.

    Cost:
        A forward pass and K pullbacks for each sample, in blocks of samples. For a weight matrix [a, b] at one
        position N a b more, since Σ_k a_i² g_kj² factors. Elsewhere its Jacobian is formed, N K t a b at t
        positions.

    Source:
        bar2023sketching; the optimal probabilities of tangent/sketch-moment are proportional to it.

    Example:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> column_norms(lambda w, x: x @ w, jnp.ones((2, 1)), x).tolist()
        [[10.0], [20.0]]
    """
    check_inputs(x)
    masks, _ = mask_leaves(params, mask)
    check_samples_apart(apply, params, x)
    return _column_norms(static(apply), params, masks, x)


@functools.partial(jax.jit, static_argnames=("apply",))
def _column_norms(apply: ApplyFn, params: Params, masks: Sequence[Any], x: Array) -> PyTree[Float[Array, "..."]]:
    """The norms, summed over blocks of samples; samples that an earlier block had are not counted again."""
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, x)
        spans = cut(len(x), _samples_at_once(net))

        def step(norms: list[Array], at: tuple[Array, Array]) -> tuple[list[Array], None]:
            start, new = at
            samples = lax.dynamic_slice_in_dim(x, start, spans.size)
            found = jax.vmap(lambda sample: sensitivities(net.structure, net.leaves, sample[None]))(samples)
            counted = start + jnp.arange(spans.size) >= new
            return [norm + more for norm, more in zip(norms, _norms(net, found, counted), strict=True)], None

        zeros = [jnp.zeros(jnp.shape(leaf), net.dtype) for leaf in net.leaves]
        norms, _ = lax.scan(step, zeros, (jnp.asarray(spans.starts), jnp.asarray(spans.new)))
        weighted = [norm * selection.weight for norm, selection in zip(norms, net.selections, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(params), weighted)


def _samples_at_once(net: Network) -> int:
    """How many samples fit memory at once, with their passes and the Jacobians that are formed."""
    layers, plain = net.structure.layers, net.structure.plain
    alive = _plan.pass_size(net.structure, net.outputs)
    alive += sum(net.outputs * jnp.size(net.leaves[leaf]) for leaf in plain)
    for layer in layers:
        alive += layer.size * (1 if layer.positions == 1 else net.outputs)
        alive += layer.groups * layer.positions * (layer.inputs + net.outputs * layer.outputs)
    return max(_plan.MAX_STORED // max(alive, 1), 1)


def _norms(net: Network, found: Sensitivities, counted: Bool[Array, " n"]) -> list[Array]:
    """The squared column norms of every leaf, summed over those samples of a block that are counted."""
    norms = [jnp.zeros(jnp.shape(leaf), net.dtype) for leaf in net.leaves]
    for layer, a, g in zip(net.structure.layers, found.inputs, found.outputs, strict=True):
        for leaf, norm in zip(layer.leaves, _layer_norms(net, layer, a, g, counted), strict=True):
            norms[leaf] = norm
    for leaf, jacobian in zip(net.structure.plain, found.jacobians, strict=True):
        squares = jnp.sum(jacobian**2, axis=1)
        norms[leaf] = jnp.where(counted, squares.T, 0).sum(1).reshape(norms[leaf].shape)
    return norms


def _layer_norms(
    net: Network, layer: Layer, a: Float[Array, "n q t i"], g: Float[Array, "n k q t j"], counted: Bool[Array, " n"]
) -> list[Array]:
    """The squared column norms of a layer's leaves, summed over the samples that are counted."""
    if layer.positions == 1:
        squares = jnp.where(counted[:, None, None], jnp.sum(g**2, axis=(1, 3)), 0)
        columns = jnp.einsum("nqti,nqj->qji", a**2, squares)
    else:
        squares = jnp.sum(jnp.einsum("nqti,nkqtj->nkqji", a, g) ** 2, axis=1)
        columns = jnp.sum(jnp.where(counted[:, None, None, None], squares, 0), axis=0)

    def in_column_order(*own: Array) -> Array:
        return layer.columns(dict(zip(layer.leaves, own, strict=True)))

    # The order of the columns is a permutation of the leaves' entries: its transpose takes the norms back.
    shapes = [jax.ShapeDtypeStruct(jnp.shape(net.leaves[leaf]), net.dtype) for leaf in layer.leaves]
    return list(jax.linear_transpose(in_column_order, *shapes)(columns))


@checked
def trace(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> Float[Array, ""]:
    """The trace of the kernel, without the kernel.

    Tr Θ = Σ_i m_i ‖J_i‖².

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
        As for `column_norms`.

    Source:
        jacot2018ntk.

    Example:
        >>> trace(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [3.0, 4.0]])).item()
        30.0
    """
    norms = jax.tree.leaves(column_norms(apply, params, x, mask=mask))
    return jnp.sum(jnp.stack([jnp.sum(norm) for norm in norms]))


@checked
def ntk_items(apply: ApplyFn, params: Params, x: Inputs, *, mask: Mask | None = None) -> Items:
    """The kernel as a sum over parameters, ΣB_i with B_i = m_i J_i J_iᵀ: what a law of masks needs for its error.

    ``law.error(ntk_items(…))`` is E‖J diag(m ∘ (r − 1)) Jᵀ‖_F² for random masks r of the law: the expected squared
    error of a random mask on the kernel. The Jacobian is formed only for the Gram matrix. As for `ntk`, the
    parameters stay as they are.

    The items cover all leaves. For a law of some weights only, select these with ``mask``: the others are zero
    items, which the law may leave out (probability 0).

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x: Samples [N, ...].
        mask: Booleans or floating numbers shaped like ``params``; all ones by default.

    Returns:
        ‖B_i‖² = m_i² ‖J_i‖⁴, shaped like ``params``; ‖Σc_i B_i‖² = ‖J diag(c ∘ m) Jᵀ‖_F², for coefficients c of any
        sign; and the Gram matrix ⟨B_i, B_j⟩ = m_i m_j ⟨J_i, J_j⟩² over all entries, in the order of the leaves.

    Raises:
        ValueError: As for `ntk`; from the Gram matrix, for more than MAX_GRAM_SIZE = 4,096 parameters.

    Cost:
        That of `column_norms` at once; that of `frobenius_norm` for each combination; N K pullbacks and N K P² for
        the Gram matrix, which holds P² numbers.

    Source:
        tangent/sketch-moment, tangent/poisson.

    Example:
        >>> from sketchprune import laws
        >>> items = ntk_items(lambda w, x: x @ w[:, None], jnp.zeros(2), jnp.array([[2.0, 1.0]]))
        >>> round(float(laws.Poisson(jnp.array([0.5, 1.0])).error(items)), 3)
        16.0
    """
    own_mask = jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), bool), params) if mask is None else mask
    norms = column_norms(apply, params, x, mask=own_mask)

    def combination(coefficients: PyTree[Float[Array, "..."]]) -> Float[Array, ""]:
        weights = jax.tree.map(lambda c, m: jnp.asarray(c) * m, coefficients, own_mask)
        return frobenius_norm(apply, params, x, mask=weights) ** 2

    def gram() -> Float[Array, "d d"]:
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
        if size > MAX_GRAM_SIZE:
            raise ValueError(
                f"params has {size} entries; it takes at most {MAX_GRAM_SIZE}, for the Gram matrix of their items"
            )
        masks, _ = mask_leaves(params, own_mask)
        return _gram(static(apply), params, masks, x)

    return Items(jax.tree.map(jnp.square, norms), combination, gram)


@functools.partial(jax.jit, static_argnames=("apply",))
def _gram(apply: ApplyFn, params: Params, masks: Sequence[Any], x: Array) -> Float[Array, "d d"]:
    """The Gram matrix of the items from the whole Jacobian, with zeros for leaves that are not floating."""
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, x)
        own, rebuild = differentiable_leaves(params)
        jacobians = iter(jax.jacrev(lambda own: apply(rebuild(own), x))(own))
        rows = len(x) * net.outputs
        columns = [
            next(jacobians).reshape(rows, -1) if is_floating(leaf) else jnp.zeros((rows, jnp.size(leaf)))
            for leaf in jax.tree.leaves(params)
        ]
        jacobian = jnp.concatenate(columns, axis=1).astype(net.dtype)
        weight = jnp.concatenate([selection.weight.reshape(-1) for selection in net.selections])
        return (jacobian.T @ jacobian) ** 2 * weight[:, None] * weight
