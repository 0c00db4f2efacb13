"""tangent/: the expected training error of a randomly pruned network, linearised or not, beside its ridge bound.

The measured side trains by optax.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sketchprune import laws, train
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.squares import predict, squared, stepped_half_squares, with_step
from theory.catalogue.tangent.cases import (  # fmt: skip
    CONV,
    NON_ZERO,
    OUTPUTS,
    SAMPLES,
    SIDE,
    Network,
    Rng,
    Tangent,
    Weights,
    apply_with,
    draw_network,
    linearise,
    real_samples,
    unflatten,
)
from theory.catalogue.tangent.sketches import BAR, masked_kernel
from theory.claim import Case, Claim, Sides
from theory.kinds import Expectation

# --- tangent/training-error-ridge

STEPS = 1000
"""Training takes at most this many steps. Where the gradient has not vanished by then, the error is larger."""
TOLERANCE = 1e-5
OPTIMIZER = optax.sgd(1.0, momentum=0.9, nesterov=True)


class Ridge(NamedTuple):
    """Bounds on the expected training error.

    The components of all arrays are for pruned weights that are frozen, and for pruned weights that are set to zero.

    Attributes:
        tangent: the linearised network.
        rates: [P], π, with which weights are kept.
        sizes: [2], the squared norms of the targets y − f_0 and y − f_0 + Jθ_0.
        bounds: [2].
        halved: [2], with half the penalty.
    """

    tangent: Tangent
    rates: Float[Array, " P"]
    sizes: Float[Array, "2"]
    bounds: Float[Array, "2"]
    halved: Float[Array, "2"]


def _weights(network: Network) -> Float[Array, " P"]:
    return jnp.concatenate([layer.ravel() for layer in network.layers])


def _ridge_bounds(network: Network) -> Ridge:
    tangent = linearise(network)
    change = -tangent.residual
    targets = jnp.stack([change, change + tangent.jacobian @ _weights(network)])
    # On special instances few weights are kept, and none for certain: then no target can be fitted for certain.
    rates = jnp.where(network.special, tangent.rates / 4, tangent.rates)

    def bounds(rates: Float[Array, " P"]) -> Float[Array, "2"]:
        law = laws.Poisson(rates)
        return jax.vmap(lambda y: law.training_bound(tangent.jacobian, y))(targets)

    # Halving D: 1/π' − 1 = (1/π − 1)/2.
    return Ridge(tangent, rates, jnp.sum(targets**2, axis=1), bounds(rates), bounds(2 * rates / (1 + rates)))


def _draw_mask(ridge: Ridge, key: Key) -> Float[Array, " P"]:
    return laws.Poisson(ridge.rates, binary=True).sample(key)


def starts(tangent: Tangent, kept: Float[Array, " P"]) -> Float[Array, "2 P"]:
    """The weights from which training starts: pruned ones frozen as they are, or set to zero."""
    weights = _weights(tangent.network)
    return jnp.stack([weights, kept * weights])


def step_size(tangent: Tangent, kept: Float[Array, " P"]) -> Float[Array, ""]:
    """One over Gershgorin's bound on the largest eigenvalue of the pruned kernel."""
    largest = jnp.max(jnp.sum(abs(masked_kernel(tangent, kept)), axis=1))
    return 1 / jnp.where(largest > 0, largest, 1)


def linear_errors(tangent: Tangent, kept: Float[Array, " P"]) -> Float[Array, "2"]:
    """‖f − y‖² of the linearised network after training the kept weights, from either start.

    Gradient descent with momentum is the same in all orthonormal coordinates, and never leaves the span of the kept
    rows of J. So N numbers are trained, the coordinates in that span, instead of P weights.
    """
    step = step_size(tangent, kept)
    columns = jnp.linalg.qr((kept * tangent.jacobian).T, mode="r").T

    def error(start: Float[Array, " P"]) -> Float[Array, ""]:
        target = tangent.jacobian @ (_weights(tangent.network) - start) - tangent.residual
        found, *_ = train.converge(
            predict,
            stepped_half_squares,
            jnp.zeros(columns.shape[1], columns.dtype),
            (columns, with_step(target, step)),
            OPTIMIZER,
            STEPS,
            tolerance=TOLERANCE * jnp.sqrt(step) * jnp.linalg.norm(target),
        )
        return squared(columns @ found - target)

    return jax.vmap(error)(starts(tangent, kept))


def _ridge(ridge: Ridge, kept: Float[Array, " P"]) -> dict[str, Sides]:
    measured = linear_errors(ridge.tangent, kept)
    right = Sides(measured, ridge.bounds, scale=ridge.sizes, range=ridge.sizes)
    return {
        "claim": right,
        "D/2 for D": right._replace(theory=ridge.halved),
        "without Jθ₀": right._replace(theory=ridge.bounds[0] + 0 * ridge.bounds),
    }


COARSE = SIDE // 2
SMALL_MLP = ((COARSE**2, 6), (6, 6), (6, OUTPUTS))


def _mlp_on_real(rng: Rng, dataset: Dataset, *, special: bool = False) -> Network:
    """An MLP on images of half the resolution."""
    x, y = real_samples(rng, dataset)
    coarse = x.reshape(SAMPLES, COARSE, 2, COARSE, 2).mean(axis=(2, 4))
    return draw_network(rng, coarse.reshape(SAMPLES, -1), y, SMALL_MLP, special=special)


def _sparse_mlp_on_real(rng: Rng, dataset: Dataset) -> Network:
    """The same MLP with a quarter of the rates. At the full ones enough weights are certain for the bound to be 0."""
    return _mlp_on_real(rng, dataset, special=True)


def _conv_on_real(rng: Rng, dataset: Dataset) -> Network:
    return draw_network(rng, *real_samples(rng, dataset), CONV, activation="tanh")


def _orthogonal(rng: Rng, dataset: Dataset, *, special: bool = False) -> Network:
    """A linear model with orthogonal columns, for which both bounds are equalities; its initial weights almost fit."""
    rows, columns = 8, 6
    x = np.linalg.qr(rng.standard_normal((rows, columns)))[0] * rng.uniform(0.5, 2, columns)
    network = draw_network(rng, x, np.zeros((rows, 1)), ((columns, 1),), special=special)
    y = x @ network.layers[0]
    return network.replace(y=y + 0.1 * np.linalg.norm(y) * rng.standard_normal(y.shape))


def _sparse_orthogonal(rng: Rng, dataset: Dataset) -> Network:
    """The same with a quarter of the rates."""
    return _orthogonal(rng, dataset, special=True)


SPARSE_MLP = Case("sparse-mlp-{data}", _sparse_mlp_on_real)
CONVOLUTION = Case("conv-{data}", _conv_on_real)

TRAINING_ERROR_RIDGE = Claim(
    id="tangent/training-error-ridge",
    title="The expected training error of a pruned linearised network is at most that of a ridge regression",
    statement=(
        r"\mathbb{E}\,\|Ju_\infty-y'\|^2\le y'^\top(I+JD^{-1}J^\top)^{-1}y',"
        r"\qquad D=\operatorname{diag}\big((\tfrac1{\pi_i}-1)\|J_i\|^2\big)"
    ),
    sources=(BAR,),
    kind=Expectation("at most"),
    cases=(SPARSE_MLP, CONVOLUTION, Case("orthogonal", _orthogonal), Case("sparse-orthogonal", _sparse_orthogonal)),
    trial=_ridge,
    prepare=_ridge_bounds,
    draw=_draw_mask,
    hypotheses={name: lambda ridge, holds=holds: holds(ridge.tangent) for name, holds in NON_ZERO.items()},
    mutants=("D/2 for D", "without Jθ₀"),
    batch=256,
    note=(
        "J is that of the dense network, and the mask is drawn by the poisson law. The kept weights are trained, from "
        "no change, until the gradient vanishes. Components: pruned weights frozen at their initial values, "
        "y' = y − f₀; and set to zero, y' = y − f₀ + Jθ₀. Deviations are relative to ‖y'‖²."
    ),
)


# --- tangent/training-error-ridge-network

NETWORK_STEPS = 200
NETWORK_OPTIMIZER = optax.adam(0.05)
"""Gradient descent at the step size of the linearised network may diverge, since the network's kernel moves."""


def network_errors(tangent: Tangent, kept: Float[Array, " P"]) -> Float[Array, "2"]:
    """‖f − y‖² of the network itself after training the kept weights, from either start."""
    network = tangent.network
    apply = apply_with(network.activation)
    step, mask = step_size(tangent, kept), unflatten(network, kept)

    def error(start: Float[Array, " P"]) -> Float[Array, ""]:
        def changed(change: Weights, x: Array) -> Array:
            return apply(jax.tree.map(jnp.add, unflatten(network, start), change), x)

        none = jax.tree.map(jnp.zeros_like, network.layers)
        change, *_ = train.converge(
            changed,
            stepped_half_squares,
            none,
            (network.x, with_step(network.y, step)),
            NETWORK_OPTIMIZER,
            NETWORK_STEPS,
            mask=mask,
            tolerance=TOLERANCE * jnp.sqrt(step) * jnp.linalg.norm(changed(none, network.x) - network.y),
        )
        return squared(changed(change, network.x) - network.y)

    return jax.vmap(error)(starts(tangent, kept))


def _network_ridge(ridge: Ridge, kept: Float[Array, " P"]) -> dict[str, Sides]:
    return {"claim": Sides(network_errors(ridge.tangent, kept), ridge.bounds, scale=ridge.sizes)}


TRAINING_ERROR_RIDGE_NETWORK = Claim(
    id="tangent/training-error-ridge-network",
    title="Outside the theorem: the training error of the pruned network itself beside the bound of its linearisation",
    statement=(
        r"\mathbb{E}\,\|f(m\circ\theta_\infty)-y\|^2\overset{?}{\le}y'^\top(I+JD^{-1}J^\top)^{-1}y',"
        r"\qquad D=\operatorname{diag}\big((\tfrac1{\pi_i}-1)\|J_i\|^2\big)"
    ),
    sources=(BAR,),
    kind=Expectation("at most"),
    cases=(Case("mlp-{data}", _mlp_on_real, long=True), SPARSE_MLP, replace(CONVOLUTION, long=True)),
    trial=_network_ridge,
    prepare=_ridge_bounds,
    draw=_draw_mask,
    hypotheses={name: lambda ridge, holds=holds: holds(ridge.tangent) for name, holds in NON_ZERO.items()},
    expected=None,
    batch=256,
    note=(
        "An observation: the bound is a theorem on the linearised network (tangent/training-error-ridge), and says "
        "nothing of the network, whose kernel moves. Masks, components and targets are as there, and so is the start; "
        "the network is trained by 200 steps of Adam."
    ),
)
