"""Pruning scores: how much a weight matters before training; higher is kept.

Every score is ``score(apply, loss, params, batch, *, mask=None, key=None) -> Scores``: a pytree like the
parameters, +inf on leaves that are never pruned and −inf where ``mask`` has pruned already. With a mask the
pruned network is scored. :mod:`sketchprune.masks` turns scores into masks.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sketchprune import masks
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, Scores


def snip(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
) -> Scores:
    """Connection sensitivity: |θ_i ∂L/∂θ_i|.

    First-order change of the loss when weight i is removed. Does not use ``key``. NaN raises ValueError when
    it reaches :func:`sketchprune.masks.keep_top`. One forward and one backward pass.
    Source: lee2019snip, sketch/linear-scores.

    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> snip(lambda w, x: x @ w, loss, jnp.array([1.0, -2.0]), (jnp.eye(2), jnp.zeros(2)))
    Array([1., 4.], dtype=float64)
    """
    del key
    params = params if mask is None else masks.apply(params, mask)
    gradient = jax.grad(lambda weights: loss(apply(weights, batch[0]), batch[1]))(params)
    return _conventional(jax.tree.map(lambda g, w: abs(g * w), gradient, params), params, mask)


def synflow(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
) -> Scores:
    """Synaptic flow: |θ_i| ∂R/∂|θ_i|, R = Σ_k f_k(1; |θ|).

    The sum of |v_p| over the paths through weight i, for networks whose activations are the identity on
    non-negative numbers. Data-free: uses only the shape of the inputs, and neither ``loss`` nor ``key``. One
    forward and one backward pass on one sample. Source: tanaka2020synflow, sketch/linear-scores.

    >>> batch = (jnp.ones((5, 2)), None)
    >>> synflow(lambda w, x: x @ w, None, jnp.array([1.0, -2.0]), batch)
    Array([1., 2.], dtype=float64)
    """
    del loss, key
    params = params if mask is None else masks.apply(params, mask)
    size = jax.tree.map(abs, params)
    ones = jnp.ones_like(batch[0], shape=(1, *batch[0].shape[1:]), dtype=jax.tree.leaves(size)[0].dtype)
    gradient = jax.grad(lambda weights: jnp.sum(apply(weights, ones)))(size)
    return _conventional(jax.tree.map(jnp.multiply, gradient, size), params, mask)


def _conventional(raw: Scores, params: Params, mask: Mask | None) -> Scores:
    """+inf on leaves that are never pruned, −inf where the mask has pruned."""

    def leaf(prunable: bool, score: Array, kept: Array | None) -> Array:
        if not prunable:
            return jnp.full_like(score, jnp.inf)
        return score if kept is None else jnp.where(kept != 0, score, -jnp.inf)

    if mask is None:
        return jax.tree.map(lambda prunable, score: leaf(prunable, score, None), masks.prunable(params), raw)
    return jax.tree.map(leaf, masks.prunable(params), raw, mask)
