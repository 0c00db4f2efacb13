"""Pruning scores: how much a weight matters before training; higher is kept.

Every score is ``score(apply, loss, params, batch, *, mask=None, key=None) -> Scores``: a pytree like the
parameters, +inf on leaves that are never pruned and −inf where ``mask`` has pruned already. With a mask the
pruned network is scored, at masked parameters. `masks` turns scores into masks; `SCORES` has them by name.
NaN is not caught here, under a trace it could not be: it raises ValueError when it reaches `masks.keep_top`.
ValueError for parameters that are not floating: close over them in ``apply``.

Scores take the dtype of the parameters and are compiled once for each apply, loss and shape. Data go through in
blocks of 256 samples, whatever the loss: it sees all outputs at once, so it need not be a mean.

The data-free scores are flows along paths. Their input is one of ones, or with ``inputs="data"`` the mean of |x|^q
over the batch (q the power of the weights); they need neither loss nor targets. They hold in any scale: scores
are exact while the largest lies within about 1e-10 and 1e19 in float32 (1e-77 and 1e154 in float64), and beyond
all of them times one power of two that brings it there; within a layer, the limits are those of `paths`. What has
no paths goes through as in the SynFlow authors' code: a max pooling passes on its largest entry, a bias or shift b
is an edge |b|^q from an input of one.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sketchprune import _checks, masks
from sketchprune._static import static
from sketchprune.scores import _raw as _raw_scores
from sketchprune.types import ApplyFn, Batch, Inputs, Key, LossFn, Mask, Params, Scores

Fed = Literal["ones", "data"]


def random(
    apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, *, mask: Mask | None = None, key: Key | None = None
) -> Scores:
    """Scores that know nothing: independent and uniform on [0, 1).

    The top of them is a uniformly random mask of its size. Uses only ``key``: ValueError without it. O(d).
    Source: gadhikar2023random.

    >>> random(None, None, jnp.ones(2), None, key=jax.random.key(0)).shape
    (2,)
    """
    del apply, loss, batch
    return _score(_raw_scores.random, None, None, params, None, mask, _checks.needed(key, "for random scores"), ())


def magnitude(
    apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, *, mask: Mask | None = None, key: Key | None = None
) -> Scores:
    """The size of a weight, |θ_i|.

    Uses only the parameters. O(d). Source: frankle2019lottery.

    >>> magnitude(None, None, jnp.array([1.0, -2.0]), None)
    Array([1., 2.], dtype=float64)
    """
    del apply, loss, batch, key
    return _score(_raw_scores.magnitude, None, None, params, None, mask, None, ())


def snip(
    apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, *, mask: Mask | None = None, key: Key | None = None
) -> Scores:
    """Connection sensitivity: |θ_i ∂L/∂θ_i|.

    First-order change of the loss when weight i is removed. Does not use ``key``. One forward and one backward
    pass; over more than one block of samples one forward pass more. Source: lee2019snip, sketch/linear-scores.

    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> snip(lambda w, x: x @ w, loss, jnp.array([1.0, -2.0]), (jnp.eye(2), jnp.zeros(2)))
    Array([1., 4.], dtype=float64)
    """
    del key
    return _score(_raw_scores.snip, apply, loss, params, batch, mask, None, ())


def grasp(
    apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, *, mask: Mask | None = None, key: Key | None = None
) -> Scores:
    """Gradient signal: θ_i (Hg)_i, g and H the gradient and the Hessian of the loss in the kept weights.

    Removing a weight changes ‖g‖²/2 by −θ_i (Hg)_i to first order: what is kept here is what the norm of the
    gradient needs, so higher is kept. (The paper's own score is the negative, its highest are removed.) Signed.
    Does not use ``key``. Costs about three gradients. Source: wang2020grasp, paths/score-forms.

    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> grasp(lambda w, x: x @ w, loss, jnp.array([1.0, -2.0]), (2 * jnp.eye(2), jnp.zeros(2)))
    Array([16., 64.], dtype=float64)
    """
    del key
    return _score(_raw_scores.grasp, apply, loss, params, batch, mask, None, ())


def synflow(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    inputs: Fed = "ones",
) -> Scores:
    """Synaptic flow: |θ_i| ∂R_1/∂|θ_i| = Σ_{p∋i} |v_p|, the sum over the paths through weight i.

    Each layer sums to R_1. Uses the shape of the inputs, or with ``inputs="data"`` their mean |x|; neither
    ``loss`` nor ``key``. One forward and one backward pass on one sample; three of each where these show that heavy
    weights end in no output. Source: tanaka2020synflow, paths/conservation, sketch/linear-scores.

    >>> batch = (jnp.ones((5, 2)), None)
    >>> synflow(lambda w, x: x @ w, None, jnp.array([1.0, -2.0]), batch)
    Array([1., 2.], dtype=float64)
    """
    del loss, key
    return _score(_raw_scores.synaptic_flow, apply, None, params, _data(batch), mask, None, (1, inputs))


def synflow_l2(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    inputs: Fed = "ones",
) -> Scores:
    """Synaptic flow of squares: θ_i² ∂R_2/∂(θ_i²) = Σ_{p∋i} v_p².

    Each layer sums to R_2 (other forms in use do not: paths/conservation-variants). Otherwise as `synflow`, with
    the mean x². Source: gebhart2021paths, paths/conservation.

    >>> batch = (jnp.ones((5, 2)), None)
    >>> synflow_l2(lambda w, x: x @ w, None, jnp.array([1.0, -2.0]), batch)
    Array([1., 4.], dtype=float64)
    """
    del loss, key
    return _score(_raw_scores.synaptic_flow, apply, None, params, _data(batch), mask, None, (2, inputs))


def path_trace(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    inputs: Fed = "ones",
) -> Scores:
    """A weight's part of the trace of the path kernel, ∂R_2/∂(θ_i²): the squared length of its column of J.

    Sums to Tr Π. On the data it is, averaged over the signs of the weights and up to a constant, what the weight
    contributes to the trace of the tangent kernel (`ntk_trace`). ValueError for a weight used twice on a path.
    Otherwise as `synflow_l2`. Source: gebhart2021paths, paths/trace, paths/sign-average.

    >>> batch = (jnp.ones((5, 1)), None)
    >>> path_trace(lambda p, x: x @ p[0] @ p[1], None, [jnp.array([[2.0]]), jnp.array([[3.0]])], batch)
    [Array([[9.]], dtype=float64), Array([[4.]], dtype=float64)]
    """
    del loss, key
    return _score(_raw_scores.path_trace, apply, None, params, _data(batch), mask, None, (inputs,))


def trace_drop(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    inputs: Fed = "ones",
) -> Scores:
    """By how much removing a weight lowers the trace of the path kernel: ∂R_2/∂(θ_i²) + θ_i² ∂Tr Π/∂(θ_i²).

    Exactly, not to first order. Each layer sums to Tr Π. One Hessian-vector product; otherwise as `path_trace`.
    Source: paths/trace-drop.

    >>> batch = (jnp.ones((5, 1)), None)
    >>> trace_drop(lambda p, x: x @ p[0] @ p[1], None, [jnp.array([[2.0]]), jnp.array([[3.0]])], batch)
    [Array([[13.]], dtype=float64), Array([[13.]], dtype=float64)]
    """
    del loss, key
    return _score(_raw_scores.trace_drop, apply, None, params, _data(batch), mask, None, (inputs,))


def ntk_trace(
    apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, *, mask: Mask | None = None, key: Key | None = None
) -> Scores:
    """A weight's part of the trace of the tangent kernel on the batch, ‖J_i‖² = Σ_nk (∂f_k(x_n)/∂θ_i)².

    In proportion to it is the optimal law for sketching the kernel. Uses neither ``loss`` nor ``key``. Costs as
    `kernels.column_norms`. Source: bar2023sketching, tangent/sketch-moment.

    >>> ntk_trace(lambda w, x: x @ w, None, jnp.ones((2, 1)), (jnp.array([[1.0, 2.0], [3.0, 4.0]]), None)).tolist()
    [[10.0], [20.0]]
    """
    del loss, key
    return _score(_raw_scores.ntk_trace, apply, None, params, _data(batch), mask, None, ())


def ntk_sap(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    batch: Batch,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    draws: int = 1,
) -> Scores:
    """How the trace of the tangent kernel answers to a weight: |∂/∂m_i Σ_n ‖df(x_n; m∘(θ + εΔ))/dε‖²|, Δ ~ N(0, I).

    The sum is Tr Θ of the pruned network on average over Δ, of which ``draws`` are taken, the same for all samples.
    The paper's finite difference in the limit ε → 0, where it has no rounding errors. ValueError without a ``key``
    and for draws below 1. Does not use ``loss``. About three gradients a draw. Source: wang2023ntksap.

    >>> batch = (jnp.array([[1.0, 0.0], [0.0, 0.0]]), None)
    >>> ntk_sap(lambda w, x: x @ w, None, jnp.ones((2, 1)), batch, key=jax.random.key(0))[1].item()
    0.0
    """
    del loss
    if draws < 1:
        raise ValueError(f"draws is {draws}; it takes a whole number >= 1")
    key = _checks.needed(key, "for random perturbations")
    return _score(_raw_scores.ntk_sap, apply, None, params, _data(batch), mask, key, (draws,))


SCORES: dict[str, Callable[..., Scores]] = {
    score.__name__: score
    for score in (
        random, magnitude, snip, grasp, synflow, synflow_l2, path_trace, trace_drop, ntk_trace, ntk_sap,
    )
}  # fmt: skip
"""Every score by name."""


def _data(batch: Batch) -> Inputs:
    """The inputs of a batch alone: targets that a score does not use need not be arrays."""
    return batch[0]


def _score(
    raw: Callable[..., Params],
    apply: ApplyFn | None,
    loss: LossFn | None,
    params: Params,
    data: Any,
    mask: Mask | None,
    key: Key | None,
    options: tuple,
) -> Scores:
    """The raw scores of the pruned network, in the conventions of the module."""
    _checks.floating_leaves("params", params)
    return _compiled(raw, static(apply), static(loss), params, data, mask, key, options)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 7))
def _compiled(raw, apply, loss, params, data, mask, key, options) -> Scores:
    masked = params if mask is None else masks.apply(params, mask)
    found = raw(_raw_scores.Pruned(apply, loss, masked, data, mask, key), *options)

    def leaf(prunable: bool, weight: Array, score: Array, kept: Array | None = None) -> Array:
        score = score.astype(weight.dtype)
        if not prunable:
            return jnp.full_like(score, jnp.inf)
        return score if kept is None else jnp.where(kept != 0, score, -jnp.inf)

    return jax.tree.map(leaf, masks.prunable(params), params, found, *(() if mask is None else (mask,)))
