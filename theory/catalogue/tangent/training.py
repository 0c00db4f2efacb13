"""tangent/: training the linearised network, dense and pruned. The measured side trains by optax, always."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
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
    complete,
    linearise,
    mlp_on_gaussian,
    real,
    unflatten,
)
from theory.catalogue.tangent.sketches import BAR, masked_kernel
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound, Identity

LEE = Source("lee2019wide", "stated")
JACOT = Source("jacot2018ntk", "stated")


Apply = Callable[[Weights, Array], Array]


def linear_model(network: Network) -> Apply:
    """The network linearised at its initial weights, as a function of weights."""
    return linearised.linearise(apply_with(network.activation), network.layers)


def trained(
    model: Apply,
    network: Network,
    y: Float[Array, "n k"],
    step: Float[Array, ""],
    steps: int,
    mask: Weights | None = None,
) -> tuple[Float[Array, " N"], Float[Array, " steps"]]:
    """The outputs after ``steps`` steps of gradient descent on ½‖f − y‖², and ‖f − y‖² before each."""
    data = network.x, with_step(y, step)
    layers, losses = train.fit(model, stepped_half_squares, network.layers, data, optax.sgd(1.0), steps, mask=mask)
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
    random = laws.Poisson(jnp.full_like(flat, tangent.network.density), binary=True).sample(key)
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


# --- tangent/trajectory

FLOW_TIMES = (0.1, 0.5, 1.0, 3.0, 10.0, 20.0)
"""Times of the flow, in units of one over the smaller least eigenvalue; of the descent: ``DESCENT_STEPS``."""
DESCENT_STEPS = (1, 10, 100, 300)


def _draw_sketch(tangent: Tangent, key: Key) -> Float[Array, " P"]:
    return laws.Poisson(tangent.rates).sample(key)


def _trajectory(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    network, dense, sketched = tangent.network, tangent.kernel, masked_kernel(tangent, mask)
    spectra = jnp.stack([jnp.linalg.eigvalsh(dense), jnp.linalg.eigvalsh(sketched)])
    least, largest = jnp.maximum(jnp.min(spectra), 0), jnp.max(spectra)
    # On special instances the residual points where the two kernels differ most: one step attains the bound.
    values, vectors = jnp.linalg.eigh(sketched - dense)
    worst = vectors[:, jnp.argmax(abs(values))] * jnp.linalg.norm(tangent.residual)
    residual = jnp.where(network.special, worst, tangent.residual)
    apart, size = jnp.max(abs(values)), jnp.linalg.norm(residual)

    times = jnp.array(FLOW_TIMES) / jnp.maximum(least, 1e-3 * largest)
    flows = [linearised.flow(kernel, residual, 0 * residual, times) for kernel in (dense, sketched)]

    step, y = 1 / largest, (tangent.outputs - residual).reshape(network.y.shape)
    model = linear_model(network)
    root = unflatten(network, jnp.sqrt(mask))

    def weighted(layers: Weights, x: Array) -> Array:
        """The linearised network in coordinates whose kernel is Θ̂: each weight moves by √m of its own."""
        moved = jax.tree.map(lambda w, start, factor: start + factor * (w - start), layers, network.layers, root)
        return model(moved, x)

    steps = jnp.array(DESCENT_STEPS)
    descents = [
        jnp.stack([trained(each, network, y, step, count)[0] for count in DESCENT_STEPS]) for each in (model, weighted)
    ]
    measured = jnp.concatenate(
        [jnp.linalg.norm(ours - theirs, axis=1) for ours, theirs in ((flows[0], flows[1]), (descents[0], descents[1]))]
    )

    def flow_bound(times: Array, factor: float = 1.0) -> Array:
        return times * jnp.exp(-factor * least * times) * apart * size

    bounds = step * steps * (1 - step * least) ** (steps - 1) * apart * size
    scale = jnp.concatenate([0 * times, size + 0 * bounds])

    def sides(first: Array, second: Array) -> Sides:
        return Sides(measured, jnp.concatenate([first, second]), scale=scale, trivial=2 * size + 0 * measured)

    return {
        "claim": sides(flow_bound(times), bounds),
        "2λ for λ": sides(flow_bound(times, 2.0), bounds),
        "flow for one step": sides(flow_bound(times), jnp.where(steps == 1, flow_bound(step * steps), bounds)),
    }


def _aligned(rng: Rng, dataset: Dataset) -> Network:
    return mlp_on_gaussian(rng, dataset, special=True)


TRAJECTORY = Claim(
    id="tangent/trajectory",
    title="How far training with a sketched kernel strays from training with the dense one",
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
        "λ is the smaller least eigenvalue (Duhamel's formula). The flow is in closed form; the descent trains both "
        "linearised networks by optax, the sketched one in coordinates scaled by the root of the mask."
    ),
)
