"""Instances that only some of many seeds make: what verification with 50 seeds found wrong in single ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data
from theory.catalogue.sketch import training
from theory.catalogue.sketch.cases import draw_instance
from theory.catalogue.tangent import sketches, speed
from theory.catalogue.tangent.cases import Tangent


def test_training_may_keep_columns_of_zeros_alone():
    """The kernel is then zero, and the error stays what it is at any step size."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 64))
    x[:, :3] = 0
    instance = draw_instance(rng, x, rng.standard_normal(20))
    mask = np.zeros(64)
    mask[:3] = 1
    with jax.enable_x64(True):
        sides = jax.jit(lambda *a: training._at_t(*a)["claim"])(jax.tree.map(jnp.asarray, instance), jnp.asarray(mask))
    expected = np.full(len(training.TIMES), instance.y @ instance.y)
    np.testing.assert_allclose(sides.measured, expected, rtol=1e-12)
    np.testing.assert_allclose(sides.theory, expected, rtol=1e-12)


def test_an_expected_error_near_rounding_is_not_admissible():
    """Measured as ‖Θ̂−Θ‖², it would be a difference of numbers that are 10⁶ times as large."""
    network = sketches.SMALL.make(np.random.default_rng(0), data.load())
    weights = network.tilt.size
    admissible = []
    with jax.enable_x64(True):
        for rate in (0.5, 1 - 1e-9, 1.0):
            given = network.replace(beta=np.asarray(1.0), density=np.asarray(rate))
            tangent = Tangent(given, np.eye(weights), np.zeros(weights))  # columns of one length: all rates are equal
            admissible.append(bool(sketches._above_rounding(tangent)))
    assert admissible == [True, False, True]


@pytest.mark.parametrize("seed", range(20))
def test_every_instance_of_two_weights_trains_faster_when_pruned(seed):
    """The counterexample to the claim for a fixed residual, by NumPy: each instance shows it, whatever the seed."""
    network = speed._two_weights(np.random.default_rng(seed), data.load())
    tangent = Tangent(network, network.x, np.zeros(2))  # the model is linear, and its weights are zero
    jacobian, residual = network.x, -network.y.ravel()
    rate, one = np.asarray(tangent.rates)
    assert one == 1
    times = np.array(speed.TIMES) / np.linalg.eigvalsh(jacobian @ jacobian.T)[-1]

    def decay(mask):
        values, vectors = np.linalg.eigh(jacobian * mask @ jacobian.T)
        return np.exp(-2 * np.outer(times, values)) @ (vectors.T @ residual) ** 2

    pruned = rate * decay([1, 1]) + (1 - rate) * decay([0, 1])
    assert np.max(decay([rate, 1]) - pruned) > 1e-4 * residual @ residual
