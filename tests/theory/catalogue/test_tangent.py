"""Claims of the tangent/ family: both of their sides against NumPy."""

import jax
import numpy as np
import pytest

from sketchprune import data
from theory.catalogue.tangent import trained_means, training


@pytest.mark.parametrize("number", [0, 2, 3])
def test_training_errors_and_their_bounds(number):
    """Least squares on the kept columns, and the ridge regression in its textbook form."""
    case = trained_means.TRAINING_ERROR_RIDGE.cases[number]
    network = case.make(np.random.default_rng(1), data.load())

    @jax.jit
    def both(network, key):
        ridge = trained_means._ridge_bounds(network)
        kept = trained_means._draw_mask(ridge, key)
        return ridge, kept, trained_means.trained_errors(ridge.tangent, kept, training.linear_model(network))

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
