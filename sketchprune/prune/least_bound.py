"""Pruning by the least training bound: the rates of a random mask are optimised for the linearised network."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from sketchprune import _checks, kernels, laws, masks
from sketchprune._boundary import checked
from sketchprune._coupling import check_samples_apart
from sketchprune._leaves import beside, on_floating, split, with_ones
from sketchprune._static import static
from sketchprune.laws.counts import check_leaves, check_rounds
from sketchprune.types import ApplyFn, Inputs, Mask, Params, Prunable

_MAX_RATE = 0.99
"""The largest rate. A rate of 1 would weigh its column without limit in the kernel."""


@checked
def least_bound(
    apply: ApplyFn,
    params: Params,
    batch: tuple[Inputs, Float[Array | np.ndarray, "n k"]],
    keeps: Sequence[int] | Int[Array | np.ndarray, "rounds"],
    *,
    steps: int = 10,
    mask: Mask | None = None,
    prunable: Prunable = None,
) -> Mask:
    """Prunes to the weights that keep the training bound of the linearised network small, round after round.

    min over Σπ_i ≤ s of tᵀ(I + Θ_c)⁻¹t, where Θ_c = J diag(c) Jᵀ, c_i = π_i/((1 − π_i)‖J_i‖²) and t = y − f + Jθ.

    This bounds the expected error ‖f − y‖² of the linearised network after training, when weight i is kept with
    probability π_i and is 0 otherwise. Leaves that are never pruned have the rate 0.99. Training may leave the linear
    regime, and so rounds, each of which linearises anew, make better masks than one. tangent/least-bound-snip and
    tangent/least-bound-synflow compare it with SNIP and SynFlow.

    Each step takes the best weights for the rates, and then the best rates for the weights, in proportion to ‖J_i‖|v_i|
    and at most 0.99. At the end of a round the weights of the largest ‖J_i‖|v_i| are kept.

    Args:
        apply: the network, ``apply(params, x) -> [n, k]``.
        params: its parameters.
        batch: inputs and targets y [n, k], such as one-hot labels.
        keeps: how many weights are left after each round, exactly; see :func:`exponential_schedule`.
        steps: how many steps each round makes, at least 1.
        mask: what is pruned already, a boolean mask.
        prunable: which leaves may be pruned, as for `masks.prunable`.

    Returns:
        A boolean mask.

    Raises:
        ValueError: for counts that grow or exceed what may be kept, steps < 1, targets of another shape than the
            outputs, a network that couples samples, and a bound that is NaN.

    Cost: for each step of each round a kernel of the batch under a mask, a Cholesky decomposition of [nk, nk] and a
        vector-Jacobian product.
    Source: tangent/training-error-ridge, tangent/least-bound-snip, tangent/least-bound-synflow, moka2022combss.

    >>> x, y = jnp.eye(3), jnp.array([[1.0], [-3.0], [2.0]])
    >>> least_bound(lambda w, x: x @ w, jnp.ones((3, 1)), (x, y), [2, 1]).ravel().tolist()
    [False, True, False]
    """
    check_leaves(params)
    x, y = batch
    check_samples_apart(apply, params, x)
    outputs = jax.eval_shape(apply, params, x)
    if outputs.shape != y.shape:
        raise ValueError(f"batch has targets of shape {y.shape}; it takes the shape of the outputs, {outputs.shape}")
    _checks.whole("steps", steps, least=1)
    chosen = masks.prunable(params, prunable)
    left = jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), bool), params)
    if mask is not None:
        jax.eval_shape(masks.apply, params, mask)  # raises where their shapes differ
        left = jax.tree.map(lambda leaf: jnp.asarray(leaf) != 0, mask)
    sizes = jax.tree.map(lambda leaf, pruned: jnp.size(leaf) if pruned else 0, params, chosen)
    available = sum(jax.tree.leaves(sizes))
    keeps = check_rounds(keeps, available)
    run = functools.partial(_round, params, x, y, apply=static(apply), chosen=tuple(jax.tree.leaves(chosen)))
    if any(map(_checks.traced, jax.tree.leaves((params, batch, left, keeps)))):
        return lax.scan(lambda left, keep: (run(left, keep, steps)[0], None), left, keeps)[0]
    for number, keep in enumerate(keeps):
        left, sizes = run(left, keep, steps)
        where = f" in round {number + 1} of {len(keeps)}"
        if any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(sizes)):
            raise ValueError(
                f"the training bound is NaN{where}; it takes a network whose outputs and Jacobian are finite"
            )
        _check_kept(left, chosen, int(keep), where)
    return left


def _check_kept(left: Mask, chosen: PyTree[bool], keep: int, where: str) -> None:
    """Refuses to keep more than the given mask does."""
    pairs = zip(*map(jax.tree.leaves, (left, chosen)), strict=True)
    kept = sum(int(jnp.sum(leaf)) for leaf, pruned in pairs if pruned)
    if kept != keep:
        raise ValueError(f"keeps is {keep}{where}; it takes at most {kept}, which is all that can be kept")


@functools.partial(jax.jit, static_argnames=("apply", "chosen"))
def _round(
    params: Params, x: Array, y: Array, left: Mask, keep: Array, steps: Any, *, apply: ApplyFn, chosen: tuple[bool, ...]
) -> tuple[Mask, PyTree[Float[Array, "..."]]]:
    """What is left after a round, and the sizes ‖J_i‖|v_i| that decided."""
    pruned = jax.tree.structure(params).unflatten(chosen)
    at, others = split(masks.apply(params, left))
    apply, pruned, left = on_floating(apply, others), beside(at, pruned), beside(at, left)
    outputs, along = jax.jvp(lambda params: apply(params, x), (at,), (at,))
    target = (y - outputs + along).astype(outputs.dtype).ravel()
    norms = jax.tree.map(jnp.sqrt, kernels.column_norms(apply, at, x, mask=left))
    present = jax.tree.map(lambda norm, may: (norm > 0) & may, norms, pruned)

    def sizes(rates: PyTree) -> PyTree:
        """‖J_i‖|v_i| of the best weights v for the rates."""
        odds = jax.tree.map(lambda rate, norm: jnp.where(norm > 0, rate / (1 - rate), 0), rates, norms)
        weights = jax.tree.map(lambda odd, norm: odd / jnp.where(norm > 0, norm, 1) ** 2, odds, norms)
        kernel = kernels.ntk(apply, at, x, mask=weights).transpose(0, 2, 1, 3).reshape(target.size, -1)
        factor = jax.scipy.linalg.cho_factor(jnp.eye(target.size, dtype=kernel.dtype) + kernel)
        residual = jax.scipy.linalg.cho_solve(factor, target)
        (slopes,) = jax.vjp(lambda params: apply(params, x), at)[1](residual.reshape(outputs.shape))
        return jax.tree.map(
            lambda odd, slope, norm, there: jnp.where(there, odd * abs(slope) / jnp.where(norm > 0, norm, 1), 0),
            odds,
            slopes,
            norms,
            present,
        )

    def rates(sizes: PyTree) -> PyTree:
        """The best rates for the weights; those of leaves that are never pruned stay."""
        found = laws.poisson_rates(sizes, keep / _MAX_RATE)
        return jax.tree.map(
            lambda rate, may: _MAX_RATE * rate if may else jnp.full_like(rate, _MAX_RATE), found, pruned
        )

    uniform = rates(jax.tree.map(lambda there, norm: there.astype(norm.dtype), present, norms))
    last = sizes(lax.fori_loop(0, steps - 1, lambda _, rate: rates(sizes(rate)), uniform))
    scores = jax.tree.map(
        lambda size, kept, may: jnp.where(kept, size, -jnp.inf) if may else jnp.full_like(size, jnp.inf),
        last,
        left,
        pruned,
    )
    return with_ones(masks.keep_top(scores, keep), others), last
