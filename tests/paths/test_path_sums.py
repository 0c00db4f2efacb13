"""Every operation that a network is made of acts on sums over paths as it does on numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sketchprune import paths
from tests.support import close

WEIGHTS = np.array([[0.5, -1.5], [0.0, 2.0], [-0.75, 1.25]])
INPUT = np.array([0.5, 2.0, 1.5])
FIXED = np.array([2.0, -3.0])

OPERATIONS = {
    "product": lambda y, c: y * c,
    "quotient": lambda y, c: y / c,
    "sum": lambda y, c: y + y[:, ::-1] * c,
    "padding": lambda y, c: jnp.pad(y, ((0, 0), (1, 0)))[:, :2] * c,
    "reversal": lambda y, c: y[:, ::-1] * c,
    "slice": lambda y, c: y[:, 1:] * c[1:],
    "gather": lambda y, c: y[:, np.array([1, 1])] * c,
    "dynamic slice": lambda y, c: lax.dynamic_slice_in_dim(y, 1, 1, axis=1) * c[:1],
    "transposition": lambda y, c: (y.T * c[:, None]).T,
    "selection": lambda y, c: jnp.where(np.array([True, False]), y * c, y),
    "selection of zeros": lambda y, c: jnp.where(np.array([True, False]), y, 0) * c,
    "concatenation": lambda y, c: jnp.concatenate([y * c, y[:, :1]], axis=1),
    "cumulative sum": lambda y, c: jnp.cumsum(y, axis=1) * c,
    "total": lambda y, c: jnp.sum(y * c, axis=1, keepdims=True),
    "relu": lambda y, c: jax.nn.relu(y) * c,
    "nested calls": lambda y, c: jax.jit(jax.checkpoint(lambda y: jax.nn.relu(y) * c))(y),
    "another dtype": lambda y, c: y.astype(jnp.float32).astype(y.dtype) * c,
}
"""Functions of a layer's outputs and of fixed coefficients."""


def test_operations_on_path_sums():
    """Without activations, a network at |θ|³ and |c|³ sums to R_3(θ; u)."""

    @jax.jit
    def both(weights, u):
        norms, sums = [], []
        for operation in OPERATIONS.values():

            def apply(weights, x, operation=operation):
                return operation(x @ weights, FIXED)

            norms.append(paths.path_norm(apply, weights, (3,), 3, u=u))
            sums.append(jnp.sum(operation(u[None] @ abs(weights) ** 3, abs(FIXED) ** 3)))
        return norms, sums

    norms, sums = both(WEIGHTS, INPUT)
    for name, norm, expected in zip(OPERATIONS, norms, sums, strict=True):
        np.testing.assert_allclose(norm, expected, rtol=1e-14, err_msg=name)


def test_differences_and_negations_change_no_path():
    def apply(weights, x):
        y = x @ weights
        return y[:, ::-1] * 2.0 - (-y)

    norm = paths.path_norm(apply, jnp.asarray(WEIGHTS), (3,), 2, u=INPUT)
    close(norm, (4 + 1) * np.sum(INPUT @ WEIGHTS**2))
