"""tangent/: training the linearised network, dense and pruned. The measured side always trains by optax."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sketchprune import laws, train
from sketchprune.data import Dataset
from sketchprune.kernels import linearised
from sketchprune.types import Key
from theory.catalogue.squares import squared, stepped_half_squares, with_step
from theory.catalogue.tangent.cases import (  # fmt: skip
    ALL,
    MLP,
    NON_ZERO,
    SAMPLES,
    Network,
    Rng,
    Tangent,
    Weights,
    apply_with,
    draw_network,
    linearise,
    mlp_on_gaussian,
    real_samples,
    unflatten,
)
from theory.catalogue.tangent.sketches import BAR, masked_kernel
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound, Identity

LEE = Source("lee2019wide", "stated")
JACOT = Source("jacot2018ntk", "stated")

Apply = Callable[[Weights, Array], Array]


def linear_model(network: Network) -> Apply:
    """The network linearised at its initial weights, as ``apply(layers, x)``."""
    return linearised.linearise(apply_with(network.activation), network.layers)


def descend(
    model: Apply,
    network: Network,
    y: Float[Array | np.ndarray, "n k"],
    step: Float[Array, ""],
    steps: int,
    mask: Weights | None = None,
) -> tuple[Float[Array, " N"], Float[Array, " steps"]]:
    """The outputs after ``steps`` steps of gradient descent on ½‖f − y‖², and the loss ‖f − y‖² before each step."""
    data = network.x, with_step(y, step)
    layers, losses = train.fit(model, stepped_half_squares, network.layers, data, optax.sgd(1.0), steps, mask=mask)
    return model(layers, network.x).ravel(), 2 * losses / step


# --- tangent/closed-form

STEPS = 30


def _closed_form(tangent: Tangent, _: Key) -> dict[str, Sides]:
    network = tangent.network
    theta = tangent.kernel
    # With this step size some instances oscillate, and none diverges.
    step = 1.9 * network.density / jnp.sum(tangent.sizes)
    outputs, losses = descend(linear_model(network), network, network.y, step, STEPS)
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
    """A random binary mask; on special instances the one that prunes the negative weights."""
    weights = _joined(tangent.network.layers)
    random = laws.Poisson(jnp.full_like(weights, tangent.network.density), binary=True).sample(key)
    return jnp.where(tangent.network.special, (weights > 0).astype(weights.dtype), random)


def _joined(layers: Weights) -> Float[Array, " P"]:
    """All weights as one vector."""
    return jnp.concatenate([layer.ravel() for layer in layers])


def _pruned_spectrum(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    spectrum = jnp.linalg.eigvalsh(tangent.kernel)
    values, vectors = jnp.linalg.eigh(masked_kernel(tangent, mask))
    losses, bound, start = _pruned_training(tangent, mask, values, vectors, spectrum[-1])
    masked = unflatten(tangent.network, mask)
    pruned = linearise(tangent.network.replace(layers=jax.tree.map(jnp.multiply, tangent.network.layers, masked)))
    reevaluated = jnp.linalg.eigvalsh(masked_kernel(pruned, mask))

    def sides(smaller: Array, larger: Array) -> Sides:
        return Sides(
            jnp.concatenate([smaller, losses]),
            jnp.concatenate([larger, bound]),
            scale=jnp.concatenate([0 * smaller + spectrum[-1], 0 * bound + start]),
            trivial=jnp.concatenate([0 * smaller + jnp.nan, 0 * bound + start]),
        )

    return {
        "claim": sides(values, spectrum),
        "reversed": sides(spectrum, values),
        "J of the pruned network": sides(reevaluated, spectrum),
    }


def _pruned_training(
    tangent: Tangent, mask: Float[Array, " P"], values: Array, vectors: Array, largest: Array
) -> tuple[Float[Array, " t"], Float[Array, " t"], Float[Array, ""]]:
    """‖r_t‖² when the kept weights are trained, its bound, and ‖r_0‖²; from the spectrum of the pruned kernel."""
    network = tangent.network
    alive = values > tangent.outputs.size * jnp.finfo(values.dtype).eps * largest
    least = jnp.min(jnp.where(alive, values, jnp.inf), initial=values[-1])
    step = 1 / jnp.where(values[-1] > 0, values[-1], 1)
    _, losses = descend(linear_model(network), network, network.y, step, TIMES[-1] + 1, unflatten(network, mask))
    # Training starts at the masked weights, under the Jacobian of the dense ones.
    along = vectors.T @ (tangent.residual - tangent.jacobian @ ((1 - mask) * _joined(network.layers)))
    stays = squared(jnp.where(alive, 0, along))
    fades = squared(jnp.where(alive, along, 0))
    bound = stays + jnp.exp(-2 * step * least * jnp.array(TIMES)) * fades
    return losses[jnp.array(TIMES)], bound, stays + fades


def _positive(rng: Rng, dataset: Dataset) -> Network:
    """An MLP on raw pixels whose negative weights are pruned: units that were dead become active."""
    x, y = real_samples(rng, dataset, standardise=False)
    return draw_network(rng, x.reshape(SAMPLES, -1), y, MLP, special=True)


PRUNED_SPECTRUM = Claim(
    id="tangent/pruned-spectrum",
    title="Pruning lowers every eigenvalue of the kernel, and the remaining ones set the speed of training",
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
        "J is that of the dense network; the kernel of the pruned network itself can be larger. The residuals are "
        "those of training the kept weights by optax, from the masked weights."
    ),
)


# --- tangent/trajectory

FLOW_TIMES = (0.1, 0.5, 1.0, 3.0, 10.0, 20.0)
"""Times of the flow, in units of one over the smaller least eigenvalue."""
DESCENT_STEPS = (1, 10, 100, 300)
"""Numbers of steps after which the descent is compared."""


def _draw_sketch(tangent: Tangent, key: Key) -> Float[Array, " P"]:
    return laws.Poisson(tangent.rates).sample(key)


def _trajectory(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    dense = tangent.kernel
    sketched = masked_kernel(tangent, mask)
    spectra = jnp.stack([jnp.linalg.eigvalsh(dense), jnp.linalg.eigvalsh(sketched)])
    least = jnp.maximum(jnp.min(spectra), 0)
    largest = jnp.max(spectra)
    values, vectors = jnp.linalg.eigh(sketched - dense)
    # On special instances the residual points where the two kernels differ most, so that one step attains the bound.
    worst = vectors[:, jnp.argmax(abs(values))] * jnp.linalg.norm(tangent.residual)
    residual = jnp.where(tangent.network.special, worst, tangent.residual)
    size = jnp.linalg.norm(residual)
    apart = jnp.max(abs(values)) * size  # ‖Θ−Θ̂‖‖f_0−y‖

    times = jnp.array(FLOW_TIMES) / jnp.maximum(least, 1e-3 * largest)
    flows = [linearised.flow(kernel, residual, 0 * residual, times) for kernel in (dense, sketched)]
    step = 1 / largest
    steps = jnp.array(DESCENT_STEPS)
    descents = _descents(tangent, mask, residual, step)
    measured = jnp.concatenate(
        [jnp.linalg.norm(flows[0] - flows[1], axis=1), jnp.linalg.norm(descents[0] - descents[1], axis=1)]
    )

    def flow_bound(times: Array, factor: float = 1.0) -> Array:
        return times * jnp.exp(-factor * least * times) * apart

    def sides(flow: Array, descent: Array) -> Sides:
        scale = jnp.concatenate([0 * flow, size + 0 * descent])
        return Sides(measured, jnp.concatenate([flow, descent]), scale=scale, trivial=2 * size + 0 * measured)

    flow = flow_bound(times)
    descent = step * steps * (1 - step * least) ** (steps - 1) * apart
    return {
        "claim": sides(flow, descent),
        "2λ for λ": sides(flow_bound(times, 2.0), descent),
        "flow for one step": sides(flow, jnp.where(steps == 1, flow_bound(step * steps), descent)),
    }


def _descents(
    tangent: Tangent, mask: Float[Array, " P"], residual: Float[Array, " N"], step: Float[Array, ""]
) -> list[Float[Array, "t N"]]:
    """The outputs of both linearised networks, dense and sketched, after training from this residual."""
    network = tangent.network
    y = (tangent.outputs - residual).reshape(network.y.shape)
    dense = linear_model(network)
    root = unflatten(network, jnp.sqrt(mask))

    def sketched(layers: Weights, x: Array) -> Array:
        """The linearised network in coordinates whose kernel is Θ̂: each weight's change is scaled by √m."""
        moved = jax.tree.map(lambda w, start, factor: start + factor * (w - start), layers, network.layers, root)
        return dense(moved, x)

    return [
        jnp.stack([descend(model, network, y, step, count)[0] for count in DESCENT_STEPS])
        for model in (dense, sketched)
    ]


def _aligned(rng: Rng, dataset: Dataset) -> Network:
    """An MLP whose residual points where dense and sketched kernel differ most."""
    return mlp_on_gaussian(rng, dataset, special=True)


TRAJECTORY = Claim(
    id="tangent/trajectory",
    title="How far training with a sketched kernel can be from training with the dense kernel",
    statement=(
        r"\|f_t-\hat f_t\|\le te^{-\lambda t}\|\Theta-\hat\Theta\|\|f_0-y\|,\qquad\text{descent:}\;\;"
        r"\eta t(1-\eta\lambda)^{t-1}\|\Theta-\hat\Theta\|\|f_0-y\|"
    ),
    sources=(BAR, LEE),
    kind=Bound(),
    cases=(*ALL, Case("aligned", _aligned)),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_trajectory,
    draw=_draw_sketch,
    mutants=("2λ for λ", "flow for one step"),
    batch=128,
    note=(
        "λ is the smaller of the two least eigenvalues (Duhamel's formula). The flow is in closed form. The descent "
        "trains both linearised networks by optax, the sketched one in coordinates scaled by the root of the mask."
    ),
)
