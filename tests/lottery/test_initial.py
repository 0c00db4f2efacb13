"""He's initial weights at a density: their variance, and that a masked ReLU layer keeps its inputs' mean square."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, lottery, masks
from tests.support import close, taken

KEY = jax.random.key(0)
PARAMS = {
    "bias": jnp.full(40, 3.0, jnp.float32),
    "conv": jnp.zeros((3, 3, 20, 40), jnp.float32),
    "dense": jnp.zeros((300, 40), jnp.float32),
}
DENSITIES = {"bias": 1.0, "conv": 0.3, "dense": 0.05}


def test_weights_have_the_variance_of_the_formula():
    drawn = jax.device_get(lottery.he_normal(KEY, PARAMS, DENSITIES))
    assert drawn["bias"].tolist() == PARAMS["bias"].tolist()
    for name, fan_in in (("conv", 180), ("dense", 300)):
        leaf = drawn[name]
        assert leaf.dtype == np.float32 and leaf.shape == PARAMS[name].shape
        squares = leaf.astype(float) ** 2 * DENSITIES[name] * fan_in / 2  # of mean 1 and deviation √2
        assert abs(squares.mean() - 1) < 5 * np.sqrt(2 / leaf.size)
        assert abs(leaf.mean()) < 5 * leaf.std() / np.sqrt(leaf.size)


def test_a_masked_relu_layer_keeps_the_mean_square():
    """E relu(x·(m∘w))² = ‖x‖²/k at any density, over masks and weights."""
    fan_in, units, density = 50, 4000, 0.1
    x = jnp.asarray(np.random.default_rng(0).standard_normal(fan_in))
    layer = {"w": jnp.zeros((fan_in, units))}
    law = laws.ErdosRenyi({"w": density}, ((fan_in, units),))
    weights = masks.apply(lottery.he_normal(KEY, layer, law.densities), law.sample(jax.random.key(1)))
    squares = np.asarray(jax.nn.relu(x @ weights["w"]) ** 2)
    assert abs(squares.mean() - jnp.mean(x**2)) < 5 * squares.std() / np.sqrt(units)


def test_it_is_a_pure_function_of_the_key():
    once, again, other = (lottery.he_normal(key, PARAMS, DENSITIES) for key in (KEY, KEY, jax.random.key(1)))
    for name in ("conv", "dense"):
        assert np.array_equal(once[name], again[name]) and not np.array_equal(once[name], other[name])
    # A leaf's draws depend on its place alone: halving its density multiplies it by √2 and changes no other leaf.
    denser = lottery.he_normal(KEY, PARAMS, DENSITIES | {"conv": 0.15})
    close(denser["conv"], np.sqrt(2) * np.asarray(once["conv"]), 1e-6)
    assert np.array_equal(denser["dense"], once["dense"])


def test_jit_and_vmap():
    keys = jax.random.split(KEY, 3)
    densities = {"bias": jnp.ones(3), "conv": jnp.array([0.1, 0.5, 1.0]), "dense": jnp.array([1.0, 0.5, 0.1])}
    together = jax.jit(jax.vmap(lottery.he_normal, (0, None, 0)))(keys, PARAMS, densities)
    for at in range(3):
        alone = lottery.he_normal(keys[at], PARAMS, taken(densities, at))
        for name in PARAMS:
            close(together[name][at], alone[name], 1e-6)


@pytest.mark.parametrize(
    ("densities", "message"),
    [
        ({"bias": 1.0, "conv": 0.0, "dense": 1.0}, r"densities is 0.0; it takes a number in \(0, 1\]"),
        ({"bias": 1.0, "conv": 0.5, "dense": 1.5}, r"densities is 1.5; it takes a number in \(0, 1\]"),
        ({"conv": 0.5, "dense": 0.5}, "densities has no leaf .*; it takes the structure of params"),
    ],
)
def test_bad_densities_are_refused(densities, message):
    with pytest.raises(ValueError, match=message):
        lottery.he_normal(KEY, PARAMS, densities)
