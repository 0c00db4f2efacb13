"""The papers' networks at their own sizes: their programs lower for a TPU, and they train for two steps."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from figures import _trained_paths, accuracy, layer_densities, sparse_to_sparse
from figures._config import Config
from figures._path_networks import everything, network
from sketchprune import paths, sweep, train
from sketchprune.data import Dataset
from sketchprune.sweep import Training

NETWORKS = ("vgg16", "resnet20")
PATH_NETWORKS = ("resnet20", "wide_resnet20")
"""Networks of one code and two widths, of which the wider one is tried."""
F64 = re.compile(r"tensor<[0-9x]+xf64>")
"""An array of 64 bits: a number may be, as the step size is."""


def cifar(samples):
    """Random images in the shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (samples, 32 * 32 * 3)).astype(np.float32)
    return Dataset(x, np.arange(samples) % 10, "cifar", 10, (32, 32, 3))


def test_the_networks_are_those_of_the_figures():
    config = Config(scale="paper", data=cifar(10))
    figures = (accuracy, layer_densities, sparse_to_sparse)
    assert {config.settings(figure.SETTINGS).network for figure in figures} == set(NETWORKS)
    assert set(config.settings(_trained_paths.SETTINGS).networks) == {"fc", *PATH_NETWORKS}


@pytest.mark.parametrize("network", NETWORKS)
def test_training_lowers_for_a_tpu(network):
    problem = sweep.problem(network, cifar(10), cifar(10), Training(2, batch_size=4))
    params = jax.eval_shape(problem.params, jax.random.key(0))
    mask = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, bool), params)

    def fit(params, mask, data, key):
        options = {"mask": mask, "key": key, "batch_size": problem.batch_size}
        return train.fit(problem.trained, train.cross_entropy, params, data, problem.optimizer, 2, **options)

    traced = jax.jit(fit).trace(params, mask, problem.train, jax.random.key(0))
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.convolution" in text
    assert not F64.search(text)


def test_a_network_of_the_paper_is_pruned_and_trained_for_two_steps():
    problem = sweep.problem("resnet20", cifar(4), cifar(4), Training(2, batch_size=2))
    half = dataclasses.replace(sweep.DENSE, score="half", draw=_half)
    (rows,) = sweep.run(problem, [half], [0.5], [0])
    dense, pruned = rows
    assert np.isfinite([dense.train_loss, pruned.train_loss]).all() and dense.train_loss != pruned.train_loss
    assert pruned.realised_density == pytest.approx(0.5, abs=0.01) and dense.steps == 2


def _half(apply, loss, params, batch, density, key):
    """Every second weight."""
    return jax.tree.map(lambda leaf: (jnp.arange(leaf.size) % 2 == 0).reshape(leaf.shape), params)


def test_the_path_kernel_of_a_network_lowers_for_a_tpu():
    net = network(PATH_NETWORKS[1], cifar(10), 10)
    params = jax.eval_shape(net.initial, jax.random.key(0))

    def traced(params):
        return paths.trace(net.apply, params, net.input_shape, mask=everything(params), log=True)

    text = jax.jit(traced).trace(params).lower(lowering_platforms=("tpu",)).as_text()
    assert not F64.search(text)


def losses_of_two_steps(apply, params, data, optimizer):
    """Of training half of the weights, by optimised code: convolutions take minutes without."""

    def losses(params, data):
        mask = _half(apply, None, params, None, None, None)
        return train.fit(apply, train.cross_entropy, params, data, optimizer, 2, mask=mask).losses

    options = {"xla_backend_optimization_level": 2, "xla_cpu_use_fusion_emitters": True}
    return jax.jit(losses, compiler_options=options)(params, data)


def test_vgg16_trains_for_two_steps():
    problem = sweep.problem("vgg16", cifar(2), cifar(2), Training(2, batch_size=2))
    params = problem.params(jax.random.key(0))
    before, after = losses_of_two_steps(problem.trained, params, problem.train, problem.optimizer)
    assert np.isfinite([before, after]).all() and after != before


def test_a_network_of_the_path_figures_trains_for_two_steps():
    net = network(PATH_NETWORKS[1], cifar(2), 2)
    params = net.initial(jax.random.key(0))
    before, after = losses_of_two_steps(net.apply, params, (net.x, net.y), _trained_paths.OPTIMIZER)
    assert np.isfinite([before, after]).all() and after != before
