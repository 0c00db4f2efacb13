"""A small network for training inside a source mask, and every method that finds a mask there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sketchprune import prune, train

SHAPES = {"bias": (6,), "first": (4, 6), "second": (6, 3)}
KEEP, STEPS, EVERY = 12, 9, 2
OPTIMIZER = optax.adamw(0.05, weight_decay=0.1)
"""It moves weights without a gradient."""


def network(params, x):
    return jnp.tanh(x @ params["first"] + params["bias"]) @ params["second"]


def mean_square(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def problem(seed=0):
    """Parameters, an Erdős–Rényi source, a mask of ``KEEP`` weights inside it, and data."""
    rng = np.random.default_rng(seed)
    params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in SHAPES.items()}
    source = {name: rng.random(shape) < 0.6 for name, shape in SHAPES.items()} | {"bias": np.ones(6, bool)}
    flat = np.concatenate([source["first"].ravel(), source["second"].ravel()])
    kept = np.zeros(42, bool)
    kept[rng.permutation(np.flatnonzero(flat))[:KEEP]] = True
    start = {"bias": source["bias"], "first": kept[:24].reshape(4, 6), "second": kept[24:].reshape(6, 3)}
    x = jnp.asarray(rng.standard_normal((20, 4)))
    source, start = jax.tree.map(jnp.asarray, (source, start))
    return params, source, start, (x, jnp.sin(x[:, :3]))


def edge_popup(apply, params, source, first, data, optimizer, steps, **options):
    options = {"keep": KEEP} | options
    return train.edge_popup(apply, mean_square, params, data, optimizer, steps, mask=source, **options)


def iterative_magnitude(apply, params, source, first, data, optimizer, steps, **options):
    options = {"keeps": [20, KEEP]} | options
    return train.iterative_magnitude(apply, mean_square, params, data, optimizer, steps, mask=source, **options)


def gradual_magnitude(apply, params, source, first, data, optimizer, steps, **options):
    keeps = prune.linear_schedule(20, KEEP, 1 + (steps > 3))
    options = {"keeps": keeps, "every": EVERY if steps else 0} | options
    return train.gradual_magnitude(apply, mean_square, params, data, optimizer, steps, mask=source, **options)


def dynamic(method, apply, params, source, first, data, optimizer, steps, **options):
    options = {"start": first, "every": EVERY, "until": steps, "fraction": 0.5} | options
    return method(apply, mean_square, params, data, optimizer, steps, mask=source, **options)


METHODS = {
    "edge-popup": edge_popup,
    "iterative": iterative_magnitude,
    "continued": functools.partial(iterative_magnitude, rewind=None),
    "rewound": functools.partial(iterative_magnitude, rewind=3),
    "gradual": gradual_magnitude,
    "rigl": functools.partial(dynamic, train.rigl),
    "evolutionary": functools.partial(dynamic, train.sparse_evolutionary),
}
"""``method(apply, params, source, first, data, optimizer, steps, *, key, **options) -> Ticket`` with KEEP weights."""


def counts(mask):
    """How many prunable weights each layer keeps."""
    return {name: int(np.count_nonzero(mask[name])) for name in ("first", "second")}
