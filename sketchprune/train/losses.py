"""Losses: one number from the outputs of a network and their targets."""

import optax
from jaxtyping import Array, Float, Int


def cross_entropy(outputs: Float[Array, "n k"], labels: Int[Array, "n"]) -> Float[Array, ""]:
    """The mean cross-entropy of class labels, −(1/n) Σ_j log softmax(f_j)[y_j].

    Args:
        outputs: [n, k], taken as logits.
        labels: [n], from 0 to k − 1.

    Returns:
        One number.

    >>> import jax.numpy as jnp
    >>> round(float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]))), 5)  # log 4
    1.38629
    """
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()
