"""Synthetic samples, and the preparation of features and targets."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sketchprune._boundary import checked
from sketchprune.types import Key


@checked
def gaussian(key: Key, n: int, d: int) -> Float[Array, "n d"]:
    """Samples of independent standard normal features, in JAX's default floating dtype.

    Args:
        key: The key.
        n: The number of samples.
        d: The number of features.

    Returns:
        [n, d].

    Example:
        >>> gaussian(jax.random.key(0), 3, 2).shape
        (3, 2)
    """
    return jax.random.normal(key, (n, d))


@checked
def standardise(x: Float[Array | np.ndarray, "n d"]) -> Float[Array, "n d"]:
    """Columns of mean 0 and variance 1, so of norm √n.

    (x − mean)/√(mean of squares of x − mean), whatever the size of the numbers: no square overflows or underflows.
    Constant columns become zero columns, exactly.

    Args:
        x: Samples [n, d].

    Returns:
        [n, d], in the dtype of x.

    Cost:
        n d.

    Example:
        >>> standardise(jnp.array([[1.0, 0.1], [3.0, 0.1]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    constant = x.max(0) == x.min(0)
    centred = jnp.where(constant, 0, x - x.mean(0))
    centred = centred / jnp.where(constant, 1, abs(centred).max(0))  # first, so that squares are of the order of 1
    return centred / jnp.where(constant, 1, jnp.sqrt(jnp.mean(centred**2, 0)))


@checked
def one_hot(y: Int[Array | np.ndarray, "n"], num_classes: int) -> Float[Array, "n num_classes"]:
    """Targets 1 in the column of the label and 0 elsewhere.

    Args:
        y: Labels [n].
        num_classes: The number of columns.

    Returns:
        [n, num_classes], in JAX's default floating dtype; a row of zeros for a label out of range.

    Example:
        >>> one_hot(jnp.array([1, 0]), 2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    return jax.nn.one_hot(y, num_classes)


@checked
def one_vs_rest(y: Int[Array | np.ndarray, "n"], label: int | Int[Array, ""]) -> Float[Array, "n"]:
    """Targets +1 where the label is the given one and −1 elsewhere.

    Args:
        y: Labels [n].
        label: The one that gets +1.

    Returns:
        [n], in JAX's default floating dtype.

    Example:
        >>> one_vs_rest(jnp.array([1, 0, 2]), 1).tolist()
        [1.0, -1.0, -1.0]
    """
    return jnp.where(jnp.asarray(y) == label, jnp.ones(()), -1)
