"""tangent/: training the linearised network, dense and pruned. The measured side trains by optax, always."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sketchprune import linearised, masks, train
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.tangent.cases import (
    ALL,
    MLP,
    NON_ZERO,
    SAMPLES,
    Network,
    Rng,
    Tangent,
    Weights,
    apply_with,
    complete,
    linearise,
    real,
    unflatten,
)  # fmt: skip
from theory.catalogue.tangent.sketches import BAR, masked_kernel, spectral_norm, squared
from theory.claim import Bound, Case, Claim, Identity, Sides, Source

LEE = Source("lee2019wide", "stated")
JACOT = Source("jacot2018ntk", "stated")


def half_squares(outputs: Float[Array, "n k"], targets: Float[Array, "n k1"]) -> Float[Array, ""]:
    """η‖f − y‖²/2: the step size η comes with the targets, so that one optimiser serves all instances."""
    return targets[0, -1] * squared(outputs - targets[:, :-1]) / 2


def with_step(y: Float[Array, "n k"], step: Float[Array, ""]) -> Float[Array, "n k1"]:
    return jnp.concatenate([y, jnp.broadcast_to(step, (len(y), 1))], axis=1)


Apply = Callable[[Weights, Array], Array]


def linear_model(network: Network) -> Apply:
    """The network linearised at its initial weights, as a function of weights."""
    return linearised.linearise(apply_with(network.activation), network.layers)


def trained(
    model: Apply, network: Network, y: Float[Array, "n k"], step: Float[Array, ""], steps: int, mask: Weights | None = None
) -> tuple[Float[Array, " N"], Float[Array, " steps"]]:
    """The outputs after ``steps`` steps of gradient descent on ½‖f − y‖², and ‖f − y‖² before each."""
    layers, losses = train.fit(
        model, half_squares, network.layers, (network.x, with_step(y, step)), optax.sgd(1.0), steps, mask=mask
    )
    return model(layers, network.x).ravel(), 2 * losses / step


# --- tangent/closed-form

STEPS = 30


def _closed_form(tangent: Tangent, _: Key) -> dict[str, Sides]:
    network, theta = tangent.network, tangent.kernel
    # Some instances oscillate, none diverges.
    step = 1.9 * network.density / jnp.sum(tangent.sizes)
    outputs, losses = trained(linear_model(network), network, network.y, step, STEPS)
    measured = jnp.concatenate([outputs, losses])

    def theory(step: Array) -> Array:
        reached = linearised.descent(theta, tangent.residual, 0 * tangent.residual, step, jnp.arange(STEPS + 1))
        return jnp.concatenate([network.y.ravel() + reached[-1], jnp.sum(reached[:-1] ** 2, axis=1)])

    size = squared(tangent.residual) + squared(tangent.outputs)
    scale = jnp.concatenate([jnp.full(outputs.shape, jnp.sqrt(size)), jnp.full(losses.shape, size)])
    right = Sides(measured, theory(step), scale=scale)
    return {"claim": right, "η/N for η": right._replace(theory=theory(step / tangent.outputs.size))}


CLOSED_FORM = Claim(
    id="tangent/closed-form",
    title="Gradient descent on the linearised network, in closed form",
    statement=r"f_t=y+(I-\eta\Theta)^t(f_0-y)",
    sources=(LEE, JACOT),
    kind=Identity(),
    cases=ALL,
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_closed_form,
    mutants=("η/N for η",),
    batch=128,
    note="η is the step size on the summed loss. Components: the outputs at the end, and the loss before each step.",
)


# --- tangent/pruned-spectrum

TIMES = (0, 1, 10, 100, 300)


def _draw_binary(tangent: Tangent, key: Key) -> Float[Array, " P"]:
    """Random pruning; on special instances the negative weights go."""
    flat = jnp.concatenate([layer.ravel() for layer in tangent.network.layers])
    random = masks.poisson(key, jnp.full_like(flat, tangent.network.density), binary=True)
    return jnp.where(tangent.network.special, (flat > 0).astype(flat.dtype), random)


def _pruned_spectrum(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    network, size = tangent.network, tangent.outputs.size
    dense, kept = tangent.kernel, masked_kernel(tangent, mask)
    values, vectors = jnp.linalg.eigh(kept)
    spectrum = jnp.linalg.eigvalsh(dense)
    alive = values > size * jnp.finfo(values.dtype).eps * spectrum[-1]
    least = jnp.min(jnp.where(alive, values, jnp.inf), initial=values[-1])
    step = 1 / jnp.where(values[-1] > 0, values[-1], 1)

    layers = unflatten(network, mask)
    _, losses = trained(linear_model(network), network, network.y, step, TIMES[-1] + 1, layers)
    # The start is the masked weights under the Jacobian of the dense ones.
    flat = jnp.concatenate([layer.ravel() for layer in network.layers])
    along = vectors.T @ (tangent.residual - tangent.jacobian @ ((1 - mask) * flat))
    limit, fades = squared(jnp.where(alive, 0, along)), squared(jnp.where(alive, along, 0))
    bound = limit + jnp.exp(-2 * step * least * jnp.array(TIMES)) * fades

    pruned = linearise(network.replace(layers=jax.tree.map(jnp.multiply, network.layers, layers)))
    again = jnp.linalg.eigvalsh(masked_kernel(pruned, mask))

    def sides(smaller: Array, larger: Array) -> Sides:
        return Sides(
            jnp.concatenate([smaller, losses[jnp.array(TIMES)]]),
            jnp.concatenate([larger, bound]),
            scale=jnp.concatenate([0 * smaller + spectrum[-1], 0 * bound + limit + fades]),
            trivial=jnp.concatenate([0 * smaller + jnp.nan, 0 * bound + limit + fades]),
        )

    return {
        "claim": sides(values, spectrum),
        "reversed": sides(spectrum, values),
        "J of the pruned network": sides(again, spectrum),
    }


def _positive(rng: Rng, dataset: Dataset) -> Network:
    """Raw pixels, whose negative weights are pruned: the units that were dead come to life."""
    x, y = real(rng, dataset, standardise=False)
    return complete(rng, x.reshape(SAMPLES, -1), y, MLP, special=True)


PRUNED_SPECTRUM = Claim(
    id="tangent/pruned-spectrum",
    title="Pruning lowers every eigenvalue of the kernel, and what is left sets the speed of training",
    statement=(
        r"\lambda_k(\Theta_S)\le\lambda_k(\Theta)\;\;\forall k,\qquad\|r_t\|^2\le\|(I-P_S)r_0\|^2"
        r"+e^{-2\eta\lambda^+t}\|P_Sr_0\|^2,\quad\eta\le\frac1{\lambda_{\max}(\Theta_S)}"
    ),
    sources=(BAR, LEE),
    kind=Bound(),
    cases=(*ALL, Case("raw-{data}", _positive)),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_pruned_spectrum,
    draw=_draw_binary,
    mutants=("reversed", "J of the pruned network"),
    batch=128,
    note=(
        "J is that of the dense network: the kernel of the pruned network itself can be larger. The residuals are "
        "those of the kept weights, trained by optax from the masked start."
    ),
)
