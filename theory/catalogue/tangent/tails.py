"""tangent/: how far the kernel of one mask strays in its worst direction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.tangent.cases import NON_ZERO, Network, Rng, Tangent, cases, linearise, mlp_on_gaussian
from theory.catalogue.tangent.sketches import BAR, masked_kernel, spectral_norm
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Probability

BERNSTEIN = Source("tropp2015concentration", "stated")
DELTAS = (0.2, 0.05, 0.01)
"""Failure rates at which the tail is tested."""
MOST = 256
"""The largest budget of a tail: under about 50 draws the bound is vacuous."""


# --- tangent/sketch-spectral


def _draw_optimal(tangent: Tangent, key: Key) -> Float[Array, " P"]:
    return laws.Multinomial(tangent.optimal, tangent.network.budget, max_budget=MOST).sample(key)


def _spectral(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    theta, s = tangent.kernel, tangent.network.budget
    trace, norm = jnp.sum(tangent.sizes), jnp.linalg.eigvalsh(theta)[-1]
    logarithm = jnp.log(2 * theta.shape[0] / jnp.array(DELTAS))
    measured = jnp.full(len(DELTAS), spectral_norm(masked_kernel(tangent, mask) - theta))

    def sides(logarithm: Array) -> Sides:
        bound = jnp.sqrt(2 * trace * norm * logarithm / s) + 2 / 3 * trace * logarithm / s
        return Sides(measured, bound, trivial=norm, delta=jnp.array(DELTAS))

    return {"claim": sides(logarithm), "ℓ/20 for ℓ": sides(logarithm / 20)}


SKETCH_SPECTRAL = Claim(
    id="tangent/sketch-spectral",
    title="The kernel of a multinomial mask is rarely far off in any direction",
    statement=(
        r"\mathbb{P}\Big(\|\hat\Theta-\Theta\|>\sqrt{\tfrac{2\,\mathrm{Tr}\,\Theta\,\|\Theta\|\,\ell}{s}}"
        r"+\tfrac23\,\tfrac{\mathrm{Tr}\,\Theta\,\ell}{s}\Big)\le\delta,\qquad\ell=\log\frac{2N}{\delta},\;"
        r"p_i\propto\|J_i\|^2"
    ),
    sources=(BERNSTEIN, BAR),
    kind=Probability(),
    cases=cases(most=MOST),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_spectral,
    draw=_draw_optimal,
    mutants=("ℓ/20 for ℓ",),
    batch=512,
    note="Matrix Bernstein, with variance TrΘ‖Θ‖. N = 10 predictions.",
)


# --- tangent/leverage-spectral

FAILURE = 0.05
LEVERAGE_MOST = 1024
DESCENT = 100
"""Steps of training: several times λ_max/λ_min of most convolutional networks."""


class Leverage(NamedTuple):
    """What leverage sampling needs of a linearised network.

    Attributes:
        tangent: the linearised network.
        ridge: τ; zero on special instances.
        accuracy: ε.
        law: [P], p ∝ ℓ_i.
        budget: s, the least that the statement allows.
    """

    tangent: Tangent
    ridge: Array
    accuracy: Array
    law: Float[Array, " P"]
    budget: Array


def _leverage(network: Network) -> Leverage:
    tangent = linearise(network)
    theta, size = tangent.kernel, tangent.outputs.size
    ridge = jnp.where(network.special, 0.0, 0.3 * network.density * jnp.sum(tangent.sizes) / size)
    accuracy = 0.4 + 0.5 * network.density
    solved = jnp.linalg.solve(theta + ridge * jnp.eye(size), tangent.jacobian)
    leverages = jnp.sum(tangent.jacobian * solved, axis=0)
    dimension = jnp.sum(leverages)
    least = 2 * dimension * (1 + accuracy / 3) * jnp.log(2 * size / FAILURE) / accuracy**2
    return Leverage(tangent, ridge, accuracy, leverages / dimension, jnp.ceil(least).astype(int))


def _regular(leverage: Leverage) -> Array:
    values = jnp.linalg.eigvalsh(leverage.tangent.kernel) + leverage.ridge
    return values[0] > 1e-9 * values[-1]


def _draw_leverage(leverage: Leverage, key: Key) -> tuple[Array, Array, Array]:
    keys = jax.random.split(key, 3)

    def draw(key: Key, law: Array, budget: Array, most: int = LEVERAGE_MOST) -> Array:
        return laws.Multinomial(law, budget, max_budget=most).sample(key)

    by_norm = leverage.tangent.optimal
    return (
        draw(keys[0], leverage.law, leverage.budget),
        draw(keys[1], by_norm, leverage.budget),
        draw(keys[2], leverage.law, leverage.budget // 10, LEVERAGE_MOST // 10),
    )


def _leverage_spectral(leverage: Leverage, outcome: tuple[Array, Array, Array]) -> dict[str, Sides]:
    tangent, ridge, accuracy, *_ = leverage
    theta = tangent.kernel
    values, vectors = jnp.linalg.eigh(theta)
    root = vectors / jnp.sqrt(values + ridge)
    promised = (1 - accuracy) * values[0] - accuracy * ridge
    # The other side of the statement: λ_max(Θ̂) is at most one over this.
    step, size = 1 / ((1 + accuracy) * (values[-1] + ridge)), jnp.linalg.norm(tangent.residual)
    slowest = (1 - step * jnp.maximum(promised, 0)) ** DESCENT * size

    def sides(mask: Float[Array, " P"]) -> Sides:
        sketched = masked_kernel(tangent, mask)
        apart = spectral_norm(root.T @ (sketched - theta) @ root)
        left = jax.lax.fori_loop(0, DESCENT, lambda _, left: left - step * sketched @ left, tangent.residual)
        return Sides(
            jnp.stack([apart, promised, jnp.linalg.norm(left)]),
            jnp.stack([accuracy, jnp.linalg.eigvalsh(sketched)[0], slowest]),
            trivial=jnp.stack([jnp.ones_like(size), jnp.nan * size, size]),
            delta=jnp.full(3, FAILURE),
        )

    return dict(zip(("claim", "p ∝ ‖J_i‖²", "s/10"), map(sides, outcome), strict=True))


def _two_blocks(rng: Rng, dataset: Dataset) -> Network:
    """Two samples are a hundred times fainter, on pixels of their own: norms hardly ever sample those."""
    network = mlp_on_gaussian(rng, dataset, special=True, most=MOST)
    first = (np.arange(network.x.shape[0]) < 3)[:, None]
    left = (np.arange(network.x.shape[1]) < network.x.shape[1] // 2)[None, :]
    return network.replace(x=network.x * np.where(first, left * 1.0, ~left * 0.01))


LEVERAGE_SPECTRAL = Claim(
    id="tangent/leverage-spectral",
    title="Sampling by leverage keeps every direction of the kernel, hence a training rate",
    statement=(
        r"p_i\propto J_i^\top(\Theta+\tau I)^{-1}J_i,\;s\ge\frac{2d_\tau(1+\varepsilon/3)}{\varepsilon^2}"
        r"\log\frac{2N}{\delta}:\quad\mathbb{P}\big((1-\varepsilon)(\Theta+\tau I)\preceq\hat\Theta+\tau I"
        r"\preceq(1+\varepsilon)(\Theta+\tau I)\big)\ge1-\delta"
    ),
    sources=(BAR, BERNSTEIN),
    kind=Probability(),
    cases=(*cases(most=MOST), Case("two-blocks", _two_blocks)),
    prepare=_leverage,
    hypotheses={
        **{name: (lambda leverage, holds=holds: holds(leverage.tangent)) for name, holds in NON_ZERO.items()},
        "Θ + τI is not singular": _regular,
        "the draws are enough": lambda leverage: leverage.budget <= LEVERAGE_MOST,
    },
    trial=_leverage_spectral,
    draw=_draw_leverage,
    mutants=("p ∝ ‖J_i‖²", "s/10"),
    batch=128,
    note=(
        "Components: the two-sided spectral error, at most ε, and what follows for training: the rate "
        "λ_min(Θ̂) ≥ λ = (1−ε)λ_min(Θ) − ετ, and the residual after 100 steps of descent on the linearised outputs, at "
        "most (1−ηλ⁺)¹⁰⁰‖f_0−y‖ for η = 1/((1+ε)(λ_max(Θ)+τ)). That optax's training of the weights takes these steps "
        "is tangent/closed-form. λ is positive on half of the convolutional networks, on few of the MLPs, and on two "
        "blocks, where τ = 0 and it is too small to be seen in the steps."
    ),
)
