"""lottery/: a trained network approximated by nothing but a mask of a random sparse network."""

import itertools
from typing import Any

import jax
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

WIDTHS = (4, 3, 2)
SAMPLES = 64
UNITS = 40
"""Units of the source for each input; about 16 products of each sign are left of them."""
DENSITIES = (0.9, 0.9, 0.8, 0.8)
MAX_ITEMS = 16
TOLERANCE = 0.02
"""An error of a weight that is near enough, relative to the largest weight of its layer."""
STEPS, STEP = 200, 0.5


class Target(struct.PyTreeNode):
    """A trained network without biases, and the samples on which it is run.

    Attributes:
        kernels: of both layers, [inputs, units].
        x: [samples, inputs], in [−1, 1].
    """

    kernels: tuple[Any, ...]
    x: Any


def _run(kernels: Any, x: Float[Array, "n inputs"]) -> Float[Array, "n units"]:
    for kernel in kernels[:-1]:
        x = jax.nn.relu(x @ kernel)
    return x @ kernels[-1]


def _strong_ticket(target: Target, key: Key) -> dict[str, Sides]:
    source_key, mask_key = jax.random.split(key)
    kernels = target.kernels
    source = lottery.random_source(source_key, kernels, UNITS, signed=True)
    keys = jax.random.split(mask_key, len(source))
    masks = [
        jax.random.bernoulli(one, density, kernel.shape)
        for one, density, kernel in zip(keys, DENSITIES, source, strict=True)
    ]
    tolerance = TOLERANCE * jnp.stack([jnp.max(abs(kernel)) for kernel in kernels])
    sizes = lottery.largest_activations(kernels, target.x)
    ticket = lottery.strong_ticket(
        kernels, source, masks, sizes, signed=True, max_items=MAX_ITEMS, tolerance=tolerance
    )  # fmt: skip
    chosen = [kernel * kept * mask for kernel, kept, mask in zip(source, ticket.masks, masks, strict=True)]

    def missed(x: Float[Array, "n inputs"]) -> Float[Array, "n units"]:
        return _run(chosen, x) - _run(kernels, x)

    # Inputs at the corners of the cube, to which the slope of the error points.
    slope = jax.grad(lambda x: jnp.sum(missed(x) ** 2))(target.x)
    corners = jnp.where(slope > 0, 1.0, -1.0)
    measured = jnp.stack([jnp.max(abs(missed(target.x))), jnp.max(abs(missed(corners)))])
    everywhere = lottery.perturbation_bound(kernels, ticket.weight_errors, lottery.activation_bounds(kernels, 1.0))
    right = Sides(
        measured,
        jnp.stack([ticket.error_bounds[-1], everywhere[-1]]),
        trivial=jnp.stack([jnp.max(abs(_run(kernels, target.x))), jnp.max(abs(_run(kernels, corners)))]),
    )
    return {"claim": right, "no propagation": right._replace(theory=jnp.full(2, jnp.max(ticket.weight_errors)))}


def _trained(rng: Rng, x: np.ndarray, y: np.ndarray) -> Target:
    """Gradient descent on squares, from a random start."""
    first, second = (rng.standard_normal(shape) * (2 / shape[0]) ** 0.5 for shape in itertools.pairwise(WIDTHS))
    for _ in range(STEPS):
        hidden = np.maximum(x @ first, 0)
        residual = (hidden @ second - y) / len(x)
        back = (residual @ second.T) * (hidden > 0)
        first, second = first - STEP * x.T @ back, second - STEP * hidden.T @ residual
    return Target((first, second), x)


def _gaussian(rng: Rng, dataset: Dataset) -> Target:
    x = np.clip(rng.standard_normal((SAMPLES, WIDTHS[0])) / 2, -1, 1)
    return _trained(rng, x, np.stack([abs(x[:, 0]), x[:, 1] * x[:, 2]], axis=1))


def _images(rng: Rng, dataset: Dataset) -> Target:
    """Which of two halves of the classes an image is of, from a few centred pixels."""
    x, labels = pixels(rng, dataset, SAMPLES, WIDTHS[0])
    half = labels % 2 == 0
    return _trained(rng, np.clip(x - x.mean(axis=0), -1, 1), np.stack([half, ~half], axis=1).astype(float))


def _chain(rng: Rng, dataset: Dataset) -> Target:
    """One input, one unit in each layer, positive weights, and x = 1: errors of the same sign add up to the bound."""
    first, second = rng.uniform(0.5, 2, (2, 1, 1))
    return Target((first, second), np.ones((1, 1)))


STRONG_TICKET = Claim(
    id="lottery/strong-ticket",
    title="A trained network is approximated by only masking a random sparse network",
    statement=(
        r"|f_{m\circ\mathrm{source}}(x)-f_{\mathrm{target}}(x)|\le e_L,\quad e_l\le\max_i\|W_{l,i}\|_1\,e_{l-1}"
        r"+\varepsilon_l\,n_{l-1}\,(B_{l-1}+e_{l-1})"
    ),
    sources=(Source("pensia2020subsetsum"), Source("gadhikar2023random")),
    kind=Bound(),
    cases=(Case("gaussian", _gaussian), Case("{data}", _images), Case("chain", _chain)),
    trial=_strong_ticket,
    mutants=("no propagation",),
    batch=8,
    note=(
        "ε_l is the largest error of a weight of layer l that the mask achieves: each weight is the first subset sum "
        "of at most 16 random products that is near enough. Components: the largest error on the samples, then on "
        "corners of the cube to which the slope of the error points, each with activations B_l to match. A chain of "
        "single units attains the bound where the errors of its two weights have the same sign."
    ),
)
