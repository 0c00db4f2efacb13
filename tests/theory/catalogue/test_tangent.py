"""Claims of the tangent/ family: both of their sides against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, train
from theory.catalogue.squares import squared, stepped_half_squares, with_step
from theory.catalogue.tangent import trained_means
from theory.catalogue.tangent.cases import unflatten
from theory.catalogue.tangent.training import linear_model


@pytest.mark.parametrize("number", [0, 2, 3])
def test_training_errors_and_their_bounds(number):
    """Least squares on the kept columns, and the ridge regression in its textbook form."""
    case = trained_means.TRAINING_ERROR_RIDGE.cases[number]
    network = case.make(np.random.default_rng(1), data.load())

    @jax.jit
    def both(network, key):
        ridge = trained_means._ridge_bounds(network)
        kept = trained_means._draw_mask(ridge, key)
        return ridge, kept, trained_means.linear_errors(ridge.tangent, kept)

    ridge, kept, errors = jax.device_get(both(network, jax.random.key(0)))
    tangent = ridge.tangent
    jacobian, change = tangent.jacobian, network.y.ravel() - tangent.outputs
    rates = np.asarray(ridge.rates)
    inner = jacobian[:, rates < 1]
    penalty = (1 / rates[rates < 1] - 1) * np.sum(inner**2, axis=0)
    used = penalty > 0
    # Columns that are always kept are projected out.
    sure = jacobian[:, rates == 1]
    outside = np.eye(len(change)) - sure @ np.linalg.pinv(sure)
    inner = outside @ inner[:, used]
    ridged = np.linalg.inv(np.eye(len(change)) + inner / penalty[used] @ inner.T)
    weights = np.concatenate([layer.ravel() for layer in network.layers])
    targets = [outside @ change, outside @ (change + jacobian @ weights)]
    np.testing.assert_allclose(ridge.bounds, [y @ ridged @ y for y in targets], rtol=1e-8, atol=1e-10)
    chosen = jacobian[:, kept > 0]
    free = np.eye(len(change)) - chosen @ np.linalg.pinv(chosen)
    best = [np.sum((free @ y) ** 2) for y in (change, change + jacobian @ weights)]
    np.testing.assert_allclose(errors, best, atol=1e-3 * ridge.sizes.max())


def test_training_in_the_span_of_the_kept_columns_is_training_of_the_kept_weights():
    """Step for step, on a network where training is far from its end after all its steps."""
    network = trained_means.SPARSE_MLP.make(np.random.default_rng(6), data.load())
    network = jax.tree.map(jnp.asarray, network)
    model = linear_model(network)

    @jax.jit
    def both(key):
        ridge = trained_means._ridge_bounds(network)
        tangent, kept = ridge.tangent, trained_means._draw_mask(ridge, key)
        samples = network.x, with_step(network.y, trained_means.step_size(tangent, kept))
        mask = unflatten(network, kept)

        def error(start):
            def changed(change, x):
                return model(jax.tree.map(jnp.add, unflatten(network, start), change), x)

            none = jax.tree.map(jnp.zeros_like, network.layers)
            optimizer, steps = trained_means.OPTIMIZER, trained_means.STEPS
            change, _ = train.fit(changed, stepped_half_squares, none, samples, optimizer, steps, mask=mask)
            return squared(changed(change, network.x) - network.y)

        errors = jax.vmap(error)(trained_means.starts(tangent, kept))
        return errors, trained_means.linear_errors(tangent, kept), ridge.sizes

    errors, found, sizes = jax.device_get(both(jax.random.key(0)))
    assert errors.min() > 1e-6 * sizes.max(), errors
    np.testing.assert_allclose(found, errors, rtol=1e-8)
