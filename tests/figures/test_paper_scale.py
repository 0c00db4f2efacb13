"""The papers' networks at their own sizes: their programs lower for a TPU, and they train for two steps."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from figures import accuracy, layer_densities, sparse_to_sparse
from figures._config import Config
from sketchprune import sweep, train
from sketchprune.data import Dataset
from sketchprune.sweep import Training

NETWORKS = ("vgg16", "resnet20")


def cifar(samples):
    """Random images in the shape of CIFAR-10."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (samples, 32 * 32 * 3)).astype(np.float32)
    return Dataset(x, np.arange(samples) % 10, "cifar", 10, (32, 32, 3))


def test_the_networks_are_those_of_the_figures():
    config = Config(scale="paper", data=cifar(10))
    figures = (accuracy, layer_densities, sparse_to_sparse)
    assert {config.settings(figure.SETTINGS).network for figure in figures} == set(NETWORKS)


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
    assert not re.search(r"tensor<[0-9x]+xf64>", text)  # the step size alone is a number in 64 bits


def test_a_network_of_the_paper_is_pruned_and_trained_for_two_steps():
    problem = sweep.problem("resnet20", cifar(10), cifar(10), Training(2, batch_size=4))
    half = dataclasses.replace(sweep.DENSE, score="half", draw=_half)
    (rows,) = sweep.run(problem, [half], [0.5], [0])
    dense, pruned = rows
    assert np.isfinite([dense.train_loss, pruned.train_loss]).all() and dense.train_loss != pruned.train_loss
    assert pruned.realised_density == pytest.approx(0.5, abs=0.01) and dense.steps == 2


def _half(apply, loss, params, batch, density, key):
    """Every second weight."""
    return jax.tree.map(lambda leaf: (jnp.arange(leaf.size) % 2 == 0).reshape(leaf.shape), params)
