"""Helpers that the tests of several folders share.

What every test may need stands here, and each other subject has a module of its own:

- ``networks``: networks of every kind that a kernel has to be right for, and masks for them
- ``path_networks``: small networks whose paths can be listed
- ``listed_masks``: every mask that a law can draw, and the expectations that follow
- ``data_files``: the files of MNIST and CIFAR, written from arrays
- ``pruning``: a small network to prune, and scores written by hand
- ``claims``: small claims of each kind (imports ``theory``, so tests of the library must not import it)
- ``command``: the command with a stand-in for the verifier (imports ``theory``)
- ``kills``: runs of ``verify`` that are killed and resumed; a script too
- ``sweeps``: a small sweep
- ``search_process``: the script of a search that runs in a process of its own
- ``kernel_process``: the script of one of two processes that compute a kernel
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from jaxtyping import config

# --- Hypothesis settings


def few(max_examples):
    """Hypothesis settings with this number of examples, the same ones in each run, and no time limit for one."""
    return settings(deadline=None, derandomize=True, max_examples=max_examples)


# --- Arrays and pytrees


def normal(seed, *shape, dtype=jnp.float64):
    """Standard normal numbers that depend on the seed and the shape alone."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def flat(tree):
    """All entries of a pytree in one NumPy vector. For concrete values; use ``ravel_pytree`` inside ``jit``."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def taken(tree, index):
    """Entry ``index`` of every leaf's leading axis."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def close(found, expected, rtol=1e-12):
    """Assert that two arrays agree to ``rtol`` times the largest entry expected."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * max(abs(expected).max(), 1e-300))


# --- Types


@contextlib.contextmanager
def without_type_checks():
    """Turn off the checks of annotations, so that a wrong argument reaches the library's own error message."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
