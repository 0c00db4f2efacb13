"""Objectives against references: dense formulas, real gradient descent, the plain kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import kernels, laws, linalg, masks, search, train
from sketchprune.search import mesh

N, D, BUDGET = 9, 12, 4
RNG = np.random.default_rng(5)
X = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32)
KEY = jax.random.key(7)


def test_objectives_of_linear_models():
    x, w, y = (jnp.asarray(RNG.normal(size=shape)) for shape in ((20, D), D, 20))
    start = jnp.asarray(RNG.normal(size=D))
    sample = jax.jit(laws.Multinomial(jnp.full(D, 1 / D), BUDGET).sample)
    drawn = [sample(jax.random.key(i)) for i in range(3)]
    some = jnp.stack([*drawn, jnp.zeros(D), (jnp.arange(D) % 3 == 0).astype(float)])

    def trained(mask):
        """By real gradient descent."""
        data, step = (x, y), optax.sgd(0.01)
        found, _ = train.fit(
            lambda w, x: x @ w, lambda f, y: jnp.sum((f - y) ** 2) / 2, start, data, step, 7, mask=mask
        )
        return jnp.sum((x @ found - y) ** 2)

    timing = {"steps": 7, "step_size": 0.01}
    cases = {
        "error": (lambda mask: jnp.sum((x @ (mask * w) - x @ w) ** 2), [search.linear_error(x, w)]),
        "limit": (
            lambda mask: jnp.sum((x @ linalg.limit(x, y, start, mask=mask) - y) ** 2),
            [search.training_error(x, y, start=start, keep=keep) for keep in (None, 5)],
        ),
        "steps": (trained, [search.training_error(x, y, start=start, keep=keep, **timing) for keep in (None, 5)]),
    }
    too_few = search.training_error(x, y, keep=3)

    @jax.jit
    @jax.vmap
    def every(mask):
        found = {name: (reference(mask), [one(mask) for one in ours]) for name, (reference, ours) in cases.items()}
        return found, search.linear_error(x, w)(mask > 0), too_few(mask)

    found, of_boolean, of_too_many = every(some)
    for expected, ours in found.values():
        for values in ours:
            np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    assert of_boolean[-1] == found["error"][1][0][-1]
    assert np.isnan(of_too_many[-1]) and (some[-1] > 0).sum() > 3


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def squared(outputs, y):
    return jnp.mean((outputs[:, 0] - y) ** 2)


def test_objectives_of_networks():
    params = {"in": jnp.asarray(RNG.normal(size=(D, 5)), jnp.float32), "out": jnp.ones((5, 1), jnp.float32)}
    data = X, jnp.ones(N, jnp.float32)
    law = laws.Poisson(jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), params), binary=True)
    step = optax.sgd(0.1)

    def trained(mask):
        fitted, _ = train.fit(network, squared, masks.apply(params, mask), data, step, 3, mask=mask)
        return squared(network(fitted, X), data[1])

    def kernel_error(mask):
        sketched = kernels.ntk_reference(network, params, X, mask=mask)
        return jnp.sum((sketched - kernels.ntk_reference(network, params, X)) ** 2)

    objectives = {
        search.initial_loss(network, squared, params, data): lambda mask: squared(
            network(masks.apply(params, mask), X), data[1]
        ),
        search.trained_loss(network, squared, params, data, step, 3): trained,
        search.ntk_error(network, params, X): kernel_error,
    }
    result = search.best(next(iter(objectives)), law, 256, key=KEY, num_best=2, mesh=mesh.over(jax.devices()[:1]))
    assert jax.tree.structure(result.masks) == jax.tree.structure(params)

    @jax.jit
    @jax.vmap
    def every(mask):
        return [(objective(mask), reference(mask)) for objective, reference in objectives.items()]

    keys = jnp.stack([search.mask_key(KEY, index) for index in range(16)])
    some = jax.jit(jax.vmap(law.sample))(keys)
    found = every(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), result.masks, some))
    for values, expected in found:
        np.testing.assert_allclose(values, expected, rtol=2e-5)
    _, expected = found[0]
    np.testing.assert_allclose(result.values, expected[:2], rtol=2e-5)
    assert result.values[0] <= expected[2:].min() * (1 + 1e-5)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="steps is 3 and step_size is None"):
        search.training_error(X, X[:, 0], steps=3)
    with pytest.raises(ValueError, match="keep is 0"):
        search.training_error(X, X[:, 0], keep=0)
