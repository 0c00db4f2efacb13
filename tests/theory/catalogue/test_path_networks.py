"""The instances of the paths/ family are the networks that they should be, and their listed paths are right."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, paths
from theory.catalogue.paths.cases import ALL, CLEAR
from theory.catalogue.paths.listing import list_paths, path_features
from theory.catalogue.paths.networks import WIDTHS

digits = cache(data.load)


def rng(*seed):
    return np.random.default_rng([7, *seed])


@jax.jit
def listing(net):
    found = list_paths(net)
    return found, path_features(net, found), net.run(net.masked, net.x)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_the_listed_paths_are_those_of_the_library(case):
    """In another order: the same values, Jacobian and features; and the pre-activations are clear of zero."""
    net = case.make(rng(), digits())
    theirs = []

    @jax.jit
    def library(theta, kept, x):
        layers = [
            paths.Edges(theta, index, c, c.shape[1:])
            for index, c in zip(net.indices, net.coefficients, strict=True)
        ]  # fmt: skip
        found = paths.enumerate_paths(layers, [kept] * 3)
        theirs.append(found.units)
        return found.values, found.jacobian, found.features(x)

    values, jacobian, their_features = jax.device_get(library(net.theta, net.kept, net.x))
    (units,) = theirs
    # There each layer has weights of its own, so that a path's derivatives are in three blocks of columns.
    blocks = jacobian.reshape(len(units), 3, -1).sum(axis=1)
    found, features, (outputs, preactivations) = jax.device_get(listing(net))
    at = np.ravel_multi_index(units.T, WIDTHS)
    np.testing.assert_allclose(found.values[at], values, rtol=1e-13)
    np.testing.assert_allclose(found.jacobian[at], blocks, rtol=1e-13)
    assert not np.delete(found.jacobian, at, axis=0).any()
    present = found.uses[at].sum(axis=1) == 3
    np.testing.assert_allclose(
        features[:, at] * present, their_features.reshape(len(features), -1) * present, rtol=1e-13
    )
    np.testing.assert_allclose(features @ found.values, outputs.ravel(), atol=1e-13)
    for layer in preactivations:
        assert not ((abs(layer) > 0) & (abs(layer) < CLEAR * abs(layer).max())).any()


def test_the_convolution_is_one():
    """Edge by edge: strides, padding, shared kernels and the mean over positions are those of jax.lax."""
    net = next(case for case in ALL if case.name.startswith("conv")).make(rng(1), digits())

    def convolve(x, kernel, stride, padding):
        return jax.lax.conv_general_dilated(x, kernel, (stride,), [padding], dimension_numbers=("NWC", "WIO", "NWC"))

    @jax.jit
    def both(net):
        first = jax.nn.relu(convolve(net.x[..., None], net.masked[:8].reshape(4, 1, 2), 3, (1, 1)))
        second = jax.nn.relu(convolve(first, net.masked[8:16].reshape(2, 2, 2), 1, (1, 0)))
        expected = second.mean(axis=1) @ net.masked[16:20].reshape(2, 2)
        return net.run(net.masked, net.x)[0], expected

    np.testing.assert_allclose(*both(jax.tree.map(jnp.asarray, net)), atol=1e-13)
