"""A small network to prune, and scores written by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from sketchprune import masks

SHAPES = {"a": (4, 6), "b": (6, 6), "c": (6, 2)}
BATCH = (jnp.ones((3, 4)), jnp.zeros((3, 2)))


def network(params, x):
    return jax.nn.relu(jax.nn.relu(x @ params["a"]) @ params["b"]) @ params["c"]


def biased(params, x):
    return network(params, x) + params["bias"]


def half_squares(outputs, y):
    return jnp.sum((outputs - y) ** 2) / 2


def weights(seed=0, **more):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in (SHAPES | more).items()}


PARAMS = weights()


def magnitude(apply, loss, params, batch, *, mask=None, key=None):
    """|θ|, by hand: the conventions of a score."""
    kept = jax.tree.map(jnp.ones_like, params) if mask is None else mask
    finite = jax.tree.map(lambda leaf, m: jnp.where(m != 0, abs(leaf), -jnp.inf), params, kept)
    return jax.tree.map(
        lambda pruned, leaf: leaf if pruned else jnp.full_like(leaf, jnp.inf), masks.prunable(params), finite
    )


def ties(apply, loss, params, batch, *, mask=None, key=None):
    """The same score for all weights."""
    return jax.tree.map(jnp.sign, magnitude(apply, loss, params, batch, mask=mask))


def kept(mask):
    """How many entries of a mask are not zero."""
    return sum(int(np.count_nonzero(leaf)) for leaf in jax.tree.leaves(mask))
