"""Claims of the paths/ family: their theory against path sums written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, paths
from theory.catalogue.paths.error import PRUNING_ERROR, flow_through


def paths_of(net):
    """For each path its start, and the weights that it uses, with the product of their sizes."""
    for units in np.ndindex(*net.widths):
        edges = list(zip(net.indices, net.coefficients, units, units[1:], strict=False))
        used = [index[i, j] for index, _, i, j in edges]
        yield units[0], used, np.prod([c[i, j] * abs(net.theta[index[i, j]]) for index, c, i, j in edges])


@pytest.mark.parametrize("number", [1, 4])
def test_a_mask_takes_the_paths_through_pruned_weights_from_the_path_norm(number):
    net = PRUNING_ERROR.cases[number].make(np.random.default_rng(number), data.load())
    u = abs(net.x[0])
    mean = abs(net.x).mean(axis=0)
    lost, flow = np.zeros(3), np.zeros(net.theta.size)
    for start, used, size in paths_of(net):
        lost += u[start] * size * (net.masks[:, used].min(axis=1) == 0)
        flow[used] += mean[start] * size

    @jax.jit
    def norm(theta, mask, u):
        return paths.path_norm(net.apply, theta, u.shape, 1, u=u, mask=mask)

    theta = jnp.asarray(net.theta)
    whole, *pruned = (norm(theta, mask, u) for mask in (net.kept, *net.masks))
    np.testing.assert_allclose([float(whole - each) for each in pruned], lost, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(flow_through(net), flow, rtol=1e-12)
    assert len({mask.sum() for mask in net.masks}) == 1
    top = np.argsort(-flow, kind="stable")[: int(net.masks[2].sum())]
    np.testing.assert_array_equal(np.flatnonzero(net.masks[2]), np.sort(top))
