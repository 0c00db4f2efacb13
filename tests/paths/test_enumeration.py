"""Listed paths make the network and its Jacobian; input that does not fit is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import masks, paths
from tests.support import close, flat, normal


def test_paths_make_the_network_and_its_jacobian(small, mask):
    """f = Σ features·values and ∂f/∂θ = features · jacobian, on the kept columns."""
    x = normal(0, 3, *small.input_shape)

    @jax.jit
    def both(params, mask):
        found = small.paths(params, mask)
        masked = params if mask is None else masks.apply(params, mask)
        features = found.features(x.reshape(3, -1))
        jacobian = [w.reshape(*features.shape[:2], -1) for w in jax.jacrev(small.apply)(masked, x)]
        products = features @ found.values, features @ found.jacobian, found.kernel, found.gram
        return small.apply(masked, x), jnp.concatenate(jacobian, axis=2), found.jacobian, products

    outputs, columns, jacobian, (values, derivatives, kernel, gram) = both(small.params, mask)
    close(values, outputs)
    close(derivatives, columns * (1 if mask is None else flat(mask) != 0))
    close(kernel, jacobian @ jacobian.T)
    close(gram, jacobian.T @ jacobian)


def test_a_unit_at_zero_is_inactive():
    """ReLU has no slope there: weights into and out of a unit without inputs have no derivative, as in JAX."""
    weights, x = [jnp.array([[1.0, 0.0], [2.0, 0.0]]), jnp.array([[3.0], [4.0]])], jnp.ones((1, 2))
    found = paths.enumerate_paths(weights)
    dead = found.units[:, 1] == 1
    features = np.asarray(found.features(x))[0, 0]
    assert (features[dead] == 0).all() and (features[~dead] == 1).all()
    derivatives = jax.jacrev(lambda weights: jax.nn.relu(x @ weights[0]) @ weights[1])(weights)
    close(features @ found.jacobian, flat(derivatives))


def test_linear_networks_have_every_path_active():
    weights = [normal(0, 3, 4), normal(1, 4, 2), normal(2, 2, 2)]
    x = normal(3, 5, 3)
    units = []

    @jax.jit
    def both(weights):
        found = paths.enumerate_paths(weights)
        units.append(found.units)
        return found.features(x, linear=True) @ found.values, x @ weights[0] @ weights[1] @ weights[2]

    close(*both(weights))
    assert units[0].shape == (3 * 4 * 2 * 2, 4)


def test_enumeration_under_jit_and_vmap():
    weights = normal(0, 5, 2, 3), normal(1, 5, 3, 2)
    kept = np.random.default_rng(2).random((5, 2, 3)) < 0.5

    def gram(first, second, kept):
        return paths.enumerate_paths([first, second], [kept, None]).gram

    alone, every = jax.jit(gram), jax.jit(jax.vmap(gram))(*weights, kept)
    for at in range(5):
        close(every[at], alone(weights[0][at], weights[1][at], kept[at]))
    close(every[0], gram(weights[0][0], weights[1][0], kept[0]))


@pytest.mark.parametrize(
    ("weights", "masks", "message"),
    [
        ([np.ones((100, 100)), np.ones((100, 2))], None, "weights make 20000 paths; .* at most 10000"),
        ([np.ones((2, 3)), np.ones((2, 3))], None, r"weights\[1\] has 2 inputs; it takes the outputs .* \(3,\)"),
        ([np.ones((2, 3))], [np.ones((3, 2))], r"masks\[0\] has shape \(3, 2\); it takes .* \(2, 3\)"),
        ([np.ones((2, 3))], [], "masks has 0 entries; it takes one for each layer, 1"),
        ([np.ones(3)], None, r"weights has a layer of shape \(3,\)"),
        ([], None, "weights is empty"),
    ],
)
def test_enumeration_refuses(weights, masks, message):
    with pytest.raises(ValueError, match=message):
        paths.enumerate_paths(weights, masks)


def test_edges_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"kernel has shape \(2, 2, 1, 1\); it takes \(rows, columns, 3, features\)"):
        paths.convolution(jnp.ones((2, 2, 1, 1)), (4, 4, 3))
    with pytest.raises(ValueError, match=r"image_shape is \(2, 2, 1\)"):
        paths.average_pooling((2, 2, 1), (3, 3))
