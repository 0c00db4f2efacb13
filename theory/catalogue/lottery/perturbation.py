"""lottery/: how far a network's activations move when its weights do."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from sketchprune import lottery
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.lottery.inputs import Rng, pixels
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound

WIDTHS = (8, 6, 5, 3)
SHAPES = tuple(itertools.pairwise(WIDTHS))
SAMPLES = 16


class Perturbed(struct.PyTreeNode):
    """A network of three layers, and how its weights are changed.

    Attributes:
        weights: [P], the kernels [inputs, units] of all layers, one after the other.
        moves: [P], the change of each weight in units of the ε of its layer; what exceeds 1 is cut off.
        epsilons: [3], the largest change of a weight of each layer.
        slope: the activation is φ(h) = h for h > 0 and slope · h below, |slope| ≤ 1: 0 is ReLU, −1 is |h|.
        x: [samples, inputs].
    """

    weights: Any
    moves: Any
    epsilons: Any
    slope: Any
    x: Any

    def layers(self, entries: Float[Array | np.ndarray, " P"]) -> list[Any]:
        """The entries as one matrix for each layer."""
        ends = np.cumsum([rows * columns for rows, columns in SHAPES])
        parts = jnp.split(entries, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, SHAPES, strict=True)]

    def activations(self, kernels: list[Float[Array, "_ _"]]) -> list[Float[Array, "samples _"]]:
        """The inputs, the hidden activations of each layer, and the outputs, which have no activation."""
        found = [jnp.asarray(self.x)]
        for kernel in kernels[:-1]:
            before = found[-1] @ kernel
            found.append(jnp.where(before > 0, before, self.slope * before))
        return [*found, found[-1] @ kernels[-1]]


def _perturbation(net: Perturbed, _: Key) -> dict[str, Sides]:
    kernels = net.layers(net.weights)
    moves = net.layers(jnp.clip(net.moves, -1, 1))
    moved = [kernel + epsilon * move for kernel, epsilon, move in zip(kernels, net.epsilons, moves, strict=True)]
    before, after = net.activations(kernels), net.activations(moved)
    measured = jnp.stack([jnp.max(abs(new - old)) for new, old in zip(after[1:], before[1:], strict=True)])
    sizes = jnp.stack([jnp.max(abs(layer)) for layer in before[:-1]])
    right = Sides(measured, lottery.perturbation_bound(kernels, net.epsilons, sizes))

    error, without = jnp.zeros(()), []
    for kernel, epsilon, size in zip(kernels, net.epsilons, sizes, strict=True):
        error = jnp.max(jnp.sum(abs(kernel), axis=0)) * error + epsilon * len(kernel) * size
        without.append(error)
    return {"claim": right, "no cross term": right._replace(theory=jnp.stack(without))}


def _draw(rng: Rng, x: np.ndarray, *, moves: np.ndarray | None = None) -> Perturbed:
    kernels = [rng.standard_normal(shape) / shape[0] ** 0.5 for shape in SHAPES]
    weights = np.concatenate([kernel.ravel() for kernel in kernels])
    return Perturbed(
        weights=weights,
        moves=rng.uniform(-1, 1, weights.size) if moves is None else moves,
        epsilons=10 ** rng.uniform(-3, 0, len(SHAPES)),
        slope=np.asarray(rng.choice([0.0, 1.0, -1.0, 0.1])),
        x=x,
    )


def _random(rng: Rng, dataset: Dataset) -> Perturbed:
    return _draw(rng, rng.standard_normal((SAMPLES, WIDTHS[0])))


def _growing(rng: Rng, dataset: Dataset) -> Perturbed:
    """Every weight grows by ε, on inputs that are not negative."""
    net = _draw(rng, abs(rng.standard_normal((SAMPLES, WIDTHS[0]))))
    return net.replace(moves=np.sign(net.weights))


def _equal(rng: Rng, dataset: Dataset) -> Perturbed:
    """Equal positive weights in each layer, equal inputs, and each weight moves by +ε: equality."""
    net = _draw(rng, np.full((SAMPLES, WIDTHS[0]), rng.uniform(0.5, 2)))
    weights = [np.full(rows * columns, rng.uniform(0.1, 1)) for rows, columns in SHAPES]
    return net.replace(weights=np.concatenate(weights), moves=np.ones_like(net.moves))


def _images(rng: Rng, dataset: Dataset) -> Perturbed:
    return _draw(rng, pixels(rng, dataset, SAMPLES, WIDTHS[0])[0])


PERTURBATION = Claim(
    id="lottery/perturbation",
    title="How far a network moves when each of its weights moves by at most ε",
    statement=r"e_l\le\max_i\|W_{l,i}\|_1\,e_{l-1}+\varepsilon_l\,n_{l-1}\,(B_{l-1}+e_{l-1}),\qquad e_0=0",
    sources=(Source("pensia2020subsetsum"), Source("gadhikar2023random")),
    kind=Bound(search=("moves", "x")),
    cases=(
        Case("random", _random),
        Case("growing-weights", _growing),
        Case("equal-weights", _equal),
        Case("{data}", _images),
    ),
    trial=_perturbation,
    mutants=("no cross term",),
    note=(
        "e_l is the largest change of an activation of layer l, and B_l the largest activation before the change. The "
        "activation has φ(0) = 0 and Lipschitz constant 1. Components: the layers. Equal positive weights, changes and "
        "inputs give equality."
    ),
)
