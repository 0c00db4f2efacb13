"""Squared norms, and the linear model and squared loss with which linear and linearised models are trained."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune.types import Number


def predict(params: Float[Array, " d"], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Xw, with the arguments in the order that training takes."""
    return x @ params


def squared(values: Float[Array | np.ndarray, "..."]) -> Float[Array, ""]:
    """‖·‖²."""
    return jnp.sum(values**2)


def half_squares(outputs: Float[Array, "..."], y: Float[Array | np.ndarray, "..."]) -> Float[Array, ""]:
    """½‖f − y‖²."""
    return squared(outputs - y) / 2


def with_step(y: Float[Array | np.ndarray, "n *k"], step: Number) -> Float[Array, "n k1"]:
    """Targets of one output or several, with the step size η in a column of its own."""
    return jnp.concatenate([y.reshape(len(y), -1), jnp.broadcast_to(step, (len(y), 1))], axis=1)


def stepped_half_squares(outputs: Float[Array, "n *k"], targets: Float[Array | np.ndarray, "n k1"]) -> Float[Array, ""]:
    """η‖f − y‖²/2 for targets made by :func:`with_step`, so that one optimiser of step size 1 serves all instances."""
    return targets[0, -1] * half_squares(outputs.reshape(len(outputs), -1), targets[:, :-1])
