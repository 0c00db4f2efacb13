"""Losses: one number from the outputs of a network and their targets."""

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sketchprune import _checks
from sketchprune._boundary import checked


@checked
def cross_entropy(outputs: Float[Array | np.ndarray, "n k"], labels: Int[Array | np.ndarray, "n"]) -> Float[Array, ""]:
    """The mean cross-entropy of class labels, −(1/n) Σ_j log softmax(f_j)[y_j].

    Args:
        outputs: [n, k], taken as logits.
        labels: [n], from 0 to k − 1.

    Returns:
        One number; NaN, with a gradient of NaN, where a label that is traced is out of range.

    Raises:
        ValueError: for a label out of range.

    >>> import jax.numpy as jnp
    >>> round(float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 3]))), 5)  # log 4
    1.38629
    """
    classes = outputs.shape[1]
    known = _checks.concrete(labels)
    if known is not None and known.size and not 0 <= known.min() <= known.max() < classes:
        raise ValueError(f"labels has entries from {known.min()} to {known.max()}; it takes 0 to {classes - 1}")
    exists = (labels >= 0) & (labels < classes)
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.where(exists, labels, 0))
    return (losses * jnp.where(exists, 1, jnp.asarray(jnp.nan, losses.dtype))).mean()
