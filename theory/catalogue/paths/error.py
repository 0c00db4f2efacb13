"""paths/: what pruning changes in the outputs of a network, bounded by what it takes from the path norm."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import paths
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import Rng, draw_network, gaussian, pixels
from theory.catalogue.paths.kernel import GEBHART
from theory.catalogue.paths.networks import CONVOLUTIONAL, DENSE, Net, Topology
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound

# --- paths/pruning-error


class Pruning(Net):
    """A dense network, whose ``kept`` are all the weights that it has, and masks that prune it.

    Attributes:
        masks: [3, P], of one size: a random one, the largest weights, and the largest SynFlow scores.
    """

    masks: Any


def _prune(net: Net) -> Pruning:
    """The dense network with its random mask, and with two that keep as many weights."""
    used = net.in_layer.sum(axis=0)
    scores = (abs(net.theta), flow_through(net.replace(kept=used)))
    masks = [net.kept]
    for score in scores:
        highest = np.argsort(-np.where(used > 0, score, -np.inf), kind="stable")[: int(net.kept.sum())]
        masks.append(np.isin(np.arange(used.size), highest).astype(float))
    values = {field.name: getattr(net, field.name) for field in fields(net)}
    return Pruning(**values | {"kept": used}, masks=np.stack(masks))


def flow_through(net: Net) -> np.ndarray:
    """Σ_{p∋i} |v_p| u_p for each weight, u the mean of |x|: its SynFlow score on the data."""
    weights = net.theta * net.kept
    matrices = [abs(c * weights[index]) for index, c in zip(net.indices, net.coefficients, strict=True)]
    reached = [abs(net.x).mean(axis=0)]
    for matrix in matrices:
        reached.append(reached[-1] @ matrix)
    flow = np.zeros(net.theta.size)
    onward = np.ones(net.widths[-1])
    for matrix, index, start in zip(matrices[::-1], net.indices[::-1], reached[-2::-1], strict=True):
        np.add.at(flow, index, start[:, None] * matrix * onward)
        onward = matrix @ onward
    return flow


def _pruning_error(net: Pruning, _: Key) -> dict[str, Sides]:
    whole = net.apply(net.masked, net.x)
    pruned = jax.vmap(lambda mask: net.apply(net.theta * mask, net.x))(net.masks)
    errors = jnp.sum(abs(whole - pruned), axis=2)
    everything = jnp.concatenate([net.kept[None], net.masks])

    def norm(mask: Array, sample: Array) -> Array:
        return paths.path_norm(net.apply, net.theta, sample.shape, 1, u=abs(sample), mask=mask)

    norms = jax.vmap(jax.vmap(norm, (None, 0)), (0, None))(everything, net.x)

    def linear(mask: Array, x: Array, power: int) -> Float[Array, " n"]:
        """R_q at x, by matrices; x may be negative."""
        for matrix in net.matrices(net.theta * mask):
            x = x @ abs(matrix) ** power
        return jnp.sum(x, axis=1)

    def sides(norms: Float[Array, "4 n"]) -> Sides:
        """Each mask on each sample, and on average over the samples."""
        drops = norms[0] - norms[1:]
        measured, theory, scale = (
            jnp.concatenate([each, jnp.mean(each, axis=1, keepdims=True)], axis=1)
            for each in (errors, drops, jnp.broadcast_to(jnp.sum(abs(whole), axis=1) + abs(norms[0]), errors.shape))
        )
        return Sides(measured, theory, scale=scale)

    return {
        "claim": sides(norms),
        "½": sides(norms / 2),
        "R₂ for R₁": sides(jax.vmap(lambda mask: linear(mask, abs(net.x), 2))(everything)),
        "u = x": sides(jax.vmap(lambda mask: linear(mask, net.x, 1))(everything)),
    }


def _draw(rng: Rng, x: Callable[[], np.ndarray], topology: Topology) -> Net:
    return draw_network(rng, x, topology, density=rng.uniform(0.3, 0.9))


def _mlp_gaussian(rng: Rng, dataset: Dataset) -> Pruning:
    return _prune(_draw(rng, lambda: gaussian(rng), DENSE))


def _mlp_real(rng: Rng, dataset: Dataset) -> Pruning:
    return _prune(_draw(rng, lambda: pixels(rng, dataset), DENSE))


def _conv_real(rng: Rng, dataset: Dataset) -> Pruning:
    return _prune(_draw(rng, lambda: pixels(rng, dataset), CONVOLUTIONAL))


def _positive(rng: Rng, dataset: Dataset, topology: Topology = DENSE) -> Pruning:
    """Positive weights on plain pixels, which are not negative: for every mask the bound is an equality."""
    net = _draw(rng, lambda: pixels(rng, dataset, standardise=False), topology)
    return _prune(net.replace(theta=abs(net.theta)))


def _positive_convolution(rng: Rng, dataset: Dataset) -> Pruning:
    return _positive(rng, dataset, CONVOLUTIONAL)


PRUNING_ERROR = Claim(
    id="paths/pruning-error",
    title="Pruning changes the outputs by at most what it takes from the path norm",
    statement=r"\|f_\theta(x)-f_{m\circ\theta}(x)\|_1\le R_1(\theta;|x|)-R_1(m\circ\theta;|x|)",
    sources=(Source("tanaka2020synflow"), GEBHART, Source("gonon2024pathmetrics")),
    kind=Bound(search=("theta", "x")),
    cases=(
        Case("mlp-gaussian", _mlp_gaussian),
        Case("mlp-{data}", _mlp_real),
        Case("conv-{data}", _conv_real),
        Case("positive-mlp-{data}", _positive),
        Case("positive-conv-{data}", _positive_convolution),
    ),
    trial=_pruning_error,
    mutants=("½", "R₂ for R₁", "u = x"),
    batch=128,
    note=(
        "Removing a weight changes the outputs by at most the sum of |v_p||x_p| over the paths through it, which is "
        "what R₁ loses. Masks: random, the largest weights, and the largest SynFlow scores. Components: each mask on "
        "each sample, and on average over the samples. With the mean of |x| as input, SynFlow therefore bounds the "
        "mean change of the outputs, and of every loss that is 1-Lipschitz in the norm ‖·‖₁."
    ),
)
