"""Scores from the gradient of the loss: SNIP and GraSP."""

import jax
import jax.numpy as jnp

from sketchprune.scores.contract import Pruned, score
from sketchprune.types import Params


@score
def snip(net: Pruned) -> Params:
    """Connection sensitivity (SNIP), |θ_i ∂L/∂θ_i|.

    It is the first-order change of the loss when weight i is removed. ``key`` is not used. The loss sees the outputs of
    all samples at once, so it need not be a mean.

    ``apply`` is the network in evaluation mode: each sample is treated alone.

    Args:
        net: what is scored; in a call its parts come as ``(apply, loss, params, batch, mask=…, key=…)``.

    Returns:
        Scores >= 0 shaped like the parameters.

    Raises:
        ValueError: where ``apply`` couples the first and the last sample; not under a trace.

    Cost: one forward and one backward pass; one forward pass more for more than 256 samples.
    Source: lee2019snip, sketch/linear-scores, paths/score-forms.

    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> snip(lambda w, x: x @ w, loss, jnp.array([1.0, -2.0]), (jnp.eye(2), jnp.zeros(2))).tolist()
    [1.0, 4.0]
    """
    return jax.tree.map(lambda g, w: abs(g * w), net.gradient(), net.params)


@score
def grasp(net: Pruned) -> Params:
    """What the norm of the gradient needs (GraSP), θ_i (Hg)_i, with g and H the gradient and Hessian of the loss.

    Both are taken in the kept weights that may be pruned: biases and norm scales are constants here, as in the authors'
    code. Scores are signed, and ``key`` is not used.

    **Sign.** Removing weight i changes ‖g‖²/2 by −θ_i (Hg)_i to first order, so the highest scores are the weights that
    ‖g‖ needs. The paper's scores are the negative of these, and it removes the highest.

    **Temperature.** The authors divide the outputs by 200 before the loss, which makes the loss nearly linear in them.
    For their scores pass ``lambda outputs, y: cross_entropy(outputs / 200, y)`` as the loss.

    Args:
        net: what is scored; in a call its parts come as ``(apply, loss, params, batch, mask=…, key=…)``.

    Returns:
        Scores of either sign shaped like the parameters.

    Raises:
        ValueError: as `snip`, where ``apply`` couples samples.

    Cost: about three gradients.
    Source: wang2020grasp, paths/score-forms.

    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> grasp(lambda w, x: x @ w, loss, jnp.array([1.0, -2.0]), (2 * jnp.eye(2), jnp.zeros(2))).tolist()
    [16.0, 64.0]
    """
    direction = net.zero_unless_kept(net.gradient())
    return jax.tree.map(jnp.multiply, net.hessian_product(direction), net.params)
