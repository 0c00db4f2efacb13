"""tangent/: how far the kernel of one mask can be from the dense kernel in its worst direction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.tangent.cases import (  # fmt: skip
    NON_ZERO,
    Network,
    Rng,
    Tangent,
    cases,
    draw_network,
    linearise,
    mlp_on_gaussian,
)
from theory.catalogue.tangent.sketches import BAR, masked_kernel, spectral_norm
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Probability

BERNSTEIN = Source("tropp2015concentration", "stated")
DELTAS = (0.2, 0.05, 0.01)
"""Failure rates at which the tail is tested."""
MAX_BUDGET = 256
"""The largest budget of a tail; the bound is vacuous below about 50 draws."""


# --- tangent/sketch-spectral


def _draw_optimal(tangent: Tangent, key: Key) -> Float[Array, " P"]:
    return tangent.multinomial(tangent.optimal).sample(key)


def _spectral(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    theta = tangent.kernel
    s = tangent.network.budget
    trace = jnp.sum(tangent.sizes)
    norm = jnp.linalg.eigvalsh(theta)[-1]
    logarithm = jnp.log(2 * theta.shape[0] / jnp.array(DELTAS))
    measured = jnp.full(len(DELTAS), spectral_norm(masked_kernel(tangent, mask) - theta))

    def sides(logarithm: Array) -> Sides:
        bound = jnp.sqrt(2 * trace * norm * logarithm / s) + 2 / 3 * trace * logarithm / s
        return Sides(measured, bound, trivial=norm, delta=jnp.array(DELTAS))

    return {"claim": sides(logarithm), "ℓ/20 for ℓ": sides(logarithm / 20)}


ORTHOGONAL_SAMPLES = 16
ORTHOGONAL_BUDGET = 1024
"""Draws that make the second term of the bound a sixth of the first."""


def _orthogonal(rng: Rng, dataset: Dataset) -> Network:
    """A linear network on one-hot inputs: J = I, so that the error is the largest of N deviations of counts."""
    x, y = np.eye(ORTHOGONAL_SAMPLES), rng.standard_normal((ORTHOGONAL_SAMPLES, 1))
    network = draw_network(rng, x, y, ((ORTHOGONAL_SAMPLES, 1),), max_budget=ORTHOGONAL_BUDGET)
    return network.replace(budget=np.asarray(ORTHOGONAL_BUDGET))


SKETCH_SPECTRAL = Claim(
    id="tangent/sketch-spectral",
    title="The kernel of a multinomial mask is rarely far from the dense kernel in any direction",
    statement=(
        r"\mathbb{P}\Big(\|\hat\Theta-\Theta\|>\sqrt{\tfrac{2\,\mathrm{Tr}\,\Theta\,\|\Theta\|\,\ell}{s}}"
        r"+\tfrac23\,\tfrac{\mathrm{Tr}\,\Theta\,\ell}{s}\Big)\le\delta,\qquad\ell=\log\frac{2N}{\delta},\;"
        r"p_i\propto\|J_i\|^2"
    ),
    sources=(BERNSTEIN, BAR),
    kind=Probability(),
    cases=(*cases(max_budget=MAX_BUDGET), Case("orthogonal", _orthogonal)),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_spectral,
    draw=_draw_optimal,
    mutants=("ℓ/20 for ℓ",),
    batch=512,
    note="This is the matrix Bernstein inequality with variance TrΘ‖Θ‖. There are N = 10 predictions, and 16 "
    "in the orthogonal case, where the bound is nearly tight.",
)


# --- tangent/leverage-spectral

FAILURE_RATE = 0.05
MAX_LEVERAGE_BUDGET = 1024
DESCENT_STEPS = 100
"""Steps of training: several times λ_max/λ_min of most convolutional networks."""


class Leverage(NamedTuple):
    """What leverage sampling needs of a linearised network.

    Attributes:
        tangent: The linearised network.
        ridge: τ, which is zero on special instances.
        accuracy: ε.
        law: The probabilities p ∝ ℓ_i, [P].
        budget: The smallest number of draws s that the statement allows.
    """

    tangent: Tangent
    ridge: Array
    accuracy: Array
    law: Float[Array, " P"]
    budget: Array


def _leverage(network: Network) -> Leverage:
    tangent = linearise(network)
    theta = tangent.kernel
    size = tangent.outputs.size
    ridge = jnp.where(network.special, 0.0, 0.3 * network.density * jnp.sum(tangent.sizes) / size)
    accuracy = 0.4 + 0.5 * network.density
    solved = jnp.linalg.solve(theta + ridge * jnp.eye(size), tangent.jacobian)
    leverages = jnp.sum(tangent.jacobian * solved, axis=0)
    dimension = jnp.sum(leverages)
    least = 2 * dimension * (1 + accuracy / 3) * jnp.log(2 * size / FAILURE_RATE) / accuracy**2
    return Leverage(tangent, ridge, accuracy, leverages / dimension, jnp.ceil(least).astype(int))


def _regular(leverage: Leverage) -> Array:
    values = jnp.linalg.eigvalsh(leverage.tangent.kernel) + leverage.ridge
    return values[0] > 1e-9 * values[-1]


def _draw_leverage(leverage: Leverage, key: Key) -> tuple[Array, Array, Array]:
    """Masks of the claim and of its two mutants: by leverage, by norm, and by leverage with a tenth of the draws."""
    keys = jax.random.split(key, 3)

    def draw(key: Key, law: Array, budget: Array, most: int = MAX_LEVERAGE_BUDGET) -> Array:
        return laws.Multinomial(law, budget, max_budget=most).sample(key)

    return (
        draw(keys[0], leverage.law, leverage.budget),
        draw(keys[1], leverage.tangent.optimal, leverage.budget),
        draw(keys[2], leverage.law, leverage.budget // 10, MAX_LEVERAGE_BUDGET // 10),
    )


def _leverage_spectral(leverage: Leverage, outcome: tuple[Array, Array, Array]) -> dict[str, Sides]:
    tangent, ridge, accuracy, *_ = leverage
    theta = tangent.kernel
    values, vectors = jnp.linalg.eigh(theta)
    root = vectors / jnp.sqrt(values + ridge)  # (Θ + τI)^(−1/2), up to a rotation
    size = jnp.linalg.norm(tangent.residual)
    least = (1 - accuracy) * values[0] - accuracy * ridge  # what λ_min(Θ̂) is at least
    step = 1 / ((1 + accuracy) * (values[-1] + ridge))  # one over what λ_max(Θ̂) is at most
    slowest = (1 - step * jnp.maximum(least, 0)) ** DESCENT_STEPS * size

    def sides(mask: Float[Array, " P"]) -> Sides:
        sketched = masked_kernel(tangent, mask)
        apart = spectral_norm(root.T @ (sketched - theta) @ root)
        left = jax.lax.fori_loop(0, DESCENT_STEPS, lambda _, left: left - step * sketched @ left, tangent.residual)
        return Sides(
            jnp.stack([apart, least, jnp.linalg.norm(left)]),
            jnp.stack([accuracy, jnp.linalg.eigvalsh(sketched)[0], slowest]),
            trivial=jnp.stack([jnp.ones_like(size), jnp.nan * size, size]),
            delta=jnp.full(3, FAILURE_RATE),
        )

    return dict(zip(("claim", "p ∝ ‖J_i‖²", "s/10"), map(sides, outcome), strict=True))


def _two_blocks(rng: Rng, dataset: Dataset) -> Network:
    """Two samples are a hundred times fainter than the others, on pixels of their own; norms hardly sample these."""
    network = mlp_on_gaussian(rng, dataset, special=True, max_budget=MAX_BUDGET)
    first = (np.arange(network.x.shape[0]) < 3)[:, None]
    left = (np.arange(network.x.shape[1]) < network.x.shape[1] // 2)[None, :]
    return network.replace(x=network.x * np.where(first, left * 1.0, ~left * 0.01))


LEVERAGE_SPECTRAL = Claim(
    id="tangent/leverage-spectral",
    title="Sampling by leverage preserves every direction of the kernel, and so a rate of training",
    statement=(
        r"p_i\propto J_i^\top(\Theta+\tau I)^{-1}J_i,\;s\ge\frac{2d_\tau(1+\varepsilon/3)}{\varepsilon^2}"
        r"\log\frac{2N}{\delta}:\quad\mathbb{P}\big((1-\varepsilon)(\Theta+\tau I)\preceq\hat\Theta+\tau I"
        r"\preceq(1+\varepsilon)(\Theta+\tau I)\big)\ge1-\delta"
    ),
    sources=(BAR, BERNSTEIN),
    kind=Probability(),
    cases=(*cases(max_budget=MAX_BUDGET), Case("two-blocks", _two_blocks)),
    prepare=_leverage,
    hypotheses={
        **{name: (lambda leverage, holds=holds: holds(leverage.tangent)) for name, holds in NON_ZERO.items()},
        "Θ + τI is not singular": _regular,
        "the draws are enough": lambda leverage: leverage.budget <= MAX_LEVERAGE_BUDGET,
    },
    trial=_leverage_spectral,
    draw=_draw_leverage,
    mutants=("p ∝ ‖J_i‖²", "s/10"),
    batch=512,
    note=(
        "Components: the two-sided spectral error, at most ε, and two consequences for training. The rate: "
        "λ_min(Θ̂) ≥ λ = (1−ε)λ_min(Θ) − ετ. The residual after 100 steps of descent on the linearised outputs: at most "
        "(1−ηλ⁺)¹⁰⁰‖f_0−y‖ for η = 1/((1+ε)(λ_max(Θ)+τ)). That training the weights by optax takes these steps is "
        "tangent/closed-form. λ is positive on half of the convolutional networks, on few of the MLPs, and on two "
        "blocks, where τ = 0 and λ is too small to be seen in the steps."
    ),
)
