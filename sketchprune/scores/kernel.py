"""Scores from the neural tangent kernel: what a weight contributes to its trace, and how the trace answers to it."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from sketchprune import _checks, kernels, masks
from sketchprune.scores.contract import Pruned, score
from sketchprune.types import Inputs, Key, Params


@score(uses="inputs")
def ntk_trace(net: Pruned) -> Params:
    """What a weight contributes to the trace of the tangent kernel on the batch, ‖J_i‖² = Σ_nk (∂f_k(x_n)/∂θ_i)².

    Drawing weights in proportion to it is the optimal law for sketching the kernel. Neither ``loss`` nor targets nor
    ``key`` are used.

    Args:
        net: what is scored; in a call its parts come as ``(apply, loss, params, batch, mask=…, key=…)``.

    Returns:
        Scores >= 0 shaped like the parameters.

    Cost: that of `kernels.column_norms`.
    Source: bar2023sketching, tangent/sketch-moment.

    >>> ntk_trace(lambda w, x: x @ w, None, jnp.ones((2, 1)), (jnp.array([[1.0, 2.0], [3.0, 4.0]]), None)).tolist()
    [[10.0], [20.0]]
    """
    return kernels.column_norms(net.apply, net.params, net.x)


@score(uses="inputs", needs_key="for random perturbations")
def ntk_sap(net: Pruned, *, draws: int = 1) -> Params:
    """How the trace of the tangent kernel answers to a weight (NTK-SAP).

    |∂/∂m_i Σ_n ‖d f(x_n; m∘(θ + εΔ))/dε‖²| at ε = 0, with Δ ~ N(0, I).

    Averaged over Δ, the sum is Tr Θ of the pruned network. The paper takes a finite difference in ε; this is its limit
    ε → 0, without the rounding errors of a difference. Neither ``loss`` nor targets are used.

    Args:
        net: what is scored; in a call its parts come as ``(apply, loss, params, batch, mask=…, key=…)``.
        draws: how many perturbations are averaged over, each the same for all samples.

    Returns:
        Scores >= 0 shaped like the parameters.

    Raises:
        ValueError: without a key and for draws below 1.

    Cost: about three gradients a draw.
    Source: wang2023ntksap.

    >>> batch = (jnp.array([[1.0, 0.0], [0.0, 0.0]]), None)
    >>> ntk_sap(lambda w, x: x @ w, None, jnp.ones((2, 1)), batch, key=jax.random.key(0))[1].item()
    0.0
    """
    _checks.whole("draws", draws, least=1)
    leaves, structure = jax.tree.flatten(net.params)
    ones = jax.tree.map(jnp.ones_like, net.params)
    every_sample = jnp.ones(len(net.x), jnp.result_type(*leaves))

    def squared_change(factors: Params, perturbation: Params, x: Inputs, counted: Float[Array, "n"]) -> Array:
        """Σ ‖df/dε‖² as a function of the mask, whose entries are one here."""
        point, tangent = (jax.tree.map(jnp.multiply, factors, each) for each in (net.params, perturbation))
        change = jax.jvp(lambda params: net.apply(params, x), (point,), (tangent,))[1]
        return jnp.sum(counted[:, None] * change**2)

    def add(total: Params, key: Key) -> tuple[Params, None]:
        keys = jax.random.split(key, len(leaves))
        normal = [jax.random.normal(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)]
        perturbation = structure.unflatten(normal)
        if net.mask is not None:
            perturbation = masks.apply(perturbation, net.mask)

        def gradient(x: Inputs, counted: Float[Array, "n"]) -> Params:
            return jax.grad(squared_change)(ones, perturbation, x, counted)

        return jax.tree.map(jnp.add, total, net.sum_over_blocks(gradient, every_sample)), None

    zeros = jax.tree.map(jnp.zeros_like, net.params)
    total, _ = lax.scan(add, zeros, jax.random.split(net.key, draws))
    return jax.tree.map(lambda leaf: abs(leaf) / draws, total)
