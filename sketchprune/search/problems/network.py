"""Problems of a network at its random initial parameters."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from sketchprune import kernels, laws, masks, models, train
from sketchprune.data import Dataset
from sketchprune.search import objectives
from sketchprune.search.objectives import Objective
from sketchprune.search.problems._law import expectation, law_of_sizes, realised_density, with_markov
from sketchprune.search.problems.setting import Problem, Setting
from sketchprune.types import ApplyFn, Key, Mask, Params, Prunable

_NUM_SAMPLES = {"initial-loss": 256, "trained-loss": 256, "ntk-error": 16}
"""How many samples of the data each objective uses."""


class _Network(NamedTuple):
    """A network and its data.

    Attributes:
        apply: the network as the tangent kernel reads it.
        run: the same network as it runs fastest.
        params: its parameters.
        x: inputs.
        y: labels.
        chosen: which leaves may be pruned.
    """

    apply: ApplyFn
    run: ApplyFn
    params: Params
    x: Float[Array, "n ..."]
    y: Array
    chosen: PyTree[bool]

    def prunable(self, tree: PyTree) -> list[Array]:
        """The leaves that may be pruned, of a tree like the parameters."""
        chosen = jax.tree.leaves(self.chosen)
        return [leaf for leaf, prune in zip(jax.tree.leaves(tree), chosen, strict=True) if prune]

    def with_prunable(self, tree: PyTree, leaves: list[Array]) -> PyTree:
        """A tree like the parameters, with these leaves in place of those that may be pruned."""
        given = iter(leaves)
        return jax.tree.map(lambda leaf, prune: next(given) if prune else leaf, tree, self.chosen)


def network_problem(setting: Setting, dataset: Dataset, prunable: Prunable = None) -> Problem:
    """The problem of a setting whose model is a network.

    Args:
        setting: from :func:`sketchprune.search.problems.completed`.
        dataset: the data that it names.
        prunable: as for :func:`sketchprune.masks.prunable`.

    Returns:
        The law, the objective, and what theory says of them.

    Raises:
        ValueError: as :func:`sketchprune.search.problems.problem`.
    """
    network = _model(setting, dataset, prunable)
    law, keep = law_of_sizes(setting, network.prunable(_sizes(setting, network)))
    weights = network.prunable(network.params)
    all_ones = jax.tree.map(jnp.ones_like, network.params)

    def mask(key: Key) -> Mask:
        return network.with_prunable(all_ones, law.sample(key))

    objective = functools.partial(_objective, setting, network)
    return Problem(
        law=mask,
        objective=objective(jnp.float32),
        objective_float64=lambda mask: objective(jnp.float64)(mask),
        keep=keep,
        weights=sum(leaf.size for leaf in weights),
        density=realised_density(law),
        theory=_theory(setting, network, law),
        zero_mask=network.with_prunable(all_ones, [jnp.zeros_like(leaf) for leaf in weights]),
    )


def _model(setting: Setting, dataset: Dataset, prunable: Prunable) -> _Network:
    """The network of the setting, and samples of the data with features scaled to at most 1."""
    rng = np.random.default_rng(setting.seed)
    count = min(len(dataset.x), _NUM_SAMPLES[setting.objective])
    chosen = rng.choice(len(dataset.x), count, replace=False)
    pixels = (dataset.images if setting.model == "lenet" else dataset.x)[chosen]
    x = jnp.asarray(pixels / (np.abs(dataset.x).max() or 1), jnp.float32)
    y = jnp.asarray(dataset.y[chosen], jnp.int32)
    model = fastest = models.mlp(64, 64, dataset.num_classes)
    if setting.model == "lenet":
        # Under many masks a convolution has many kernels, which a CPU evaluates slowly in loops and fast as products
        # with patches. The tangent kernel needs to see convolutions.
        model, fastest = (models.lenet(dataset.num_classes, patches=patches) for patches in (False, True))
    apply, params = models.initial(model, jax.random.key(setting.seed), x)
    run, _ = models.initial(fastest, jax.random.key(setting.seed), x)
    return _Network(apply, run, params, x, y, masks.prunable(params, prunable))


def _sizes(setting: Setting, network: _Network) -> PyTree:
    """What the law is in proportion to."""
    if setting.probabilities == "optimal":
        return kernels.column_norms(network.apply, network.params, network.x[: _NUM_SAMPLES["ntk-error"]])
    return jax.tree.map(jnp.abs if setting.probabilities == "data-free" else jnp.ones_like, network.params)


def _objective(setting: Setting, network: _Network, dtype: Any) -> Objective:
    """The objective of the setting, in a dtype."""
    x = jnp.asarray(network.x, dtype)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), network.params)
    if setting.objective == "ntk-error":
        return objectives.ntk_error(network.apply, params, x)
    loss, batch = train.cross_entropy, (x, network.y)
    if setting.objective == "initial-loss":
        return objectives.initial_loss(network.run, loss, params, batch)
    assert setting.steps is not None and setting.step_size is not None
    return objectives.trained_loss(network.run, loss, params, batch, optax.adam(setting.step_size), setting.steps)


def _theory(setting: Setting, network: _Network, law: Any) -> dict[str, float]:
    """The expectation of the tangent kernel's error under a reweighted mask; nothing is known of the losses."""
    if setting.objective != "ntk-error" or setting.binary:  # the error of 0/1 masks takes all pairs of weights
        return {}
    return with_markov(expectation(law, _tangent_items(network)))


def _tangent_items(network: _Network) -> laws.Items:
    """The items J_iJ_iᵀ of the prunable weights."""
    every = kernels.ntk_items(network.apply, network.params, network.x)
    zeros = jax.tree.map(jnp.zeros_like, network.params)
    prunable = jax.tree.map(lambda leaf, prune: np.full(leaf.shape, prune), network.params, network.chosen)

    def combination(coefficients: list[Array]) -> Float[Array, ""]:
        return every.combination(network.with_prunable(zeros, coefficients))

    def gram() -> Float[Array, "d d"]:
        chosen = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(prunable)])
        return every.gram()[chosen][:, chosen]

    return laws.Items(network.prunable(every.squares), combination, gram)
