"""tangent/: how good a pruning score is as a law for sketching the tangent kernel. One number ranks all scores."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import scores, sketch
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.squares import half_squares, squared
from theory.catalogue.tangent.cases import (  # fmt: skip
    NON_ZERO,
    OUTPUTS,
    PIXELS,
    SAMPLES,
    Network,
    Rng,
    Tangent,
    Weights,
    draw_network,
    linearise,
    patches,
    real_samples,
    tiny_on_real,
)
from theory.catalogue.tangent.sketches import BAR, DKM, masked_kernel
from theory.claim import Case, Claim, Sides
from theory.kinds import Expectation

UNIFORM_SHARE = 0.5
"""The part γ of a mixed law that is uniform. A bare |score| may come arbitrarily close to zero where J does not."""


class Scored(NamedTuple):
    """A linearised network and the probabilities that each score gives.

    Attributes:
        tangent: The network at its initial weights.
        laws: Two laws for each score, in the order of :data:`sketchprune.scores.SCORES`: the mixed one,
            (1−γ)|score|/Σ|score| + γ/P, and the bare one, |score|/Σ|score|. Where an entry of the score is zero the
            mixed law stands in for the bare one.
    """

    tangent: Tangent
    laws: Float[Array, "laws P"]


def relu_network(layers: Weights, x: Array) -> Float[Array, "n k"]:
    """The network of the cases with ReLU, which for a convolution takes the tiles of the images instead of the images.

    It applies nothing but products, activations and reshapes, which every score can read.
    """
    first, *rest = layers
    x = x.reshape(*x.shape[:-2], -1) @ first.reshape(-1, first.shape[-1]) if first.ndim == 3 else x @ first
    for layer in rest:
        x = jax.nn.relu(x).reshape(len(x), -1) @ layer
    return x


def score_laws(network: Network) -> Float[Array, "laws P"]:
    """The laws of every score's absolute values, each mixed with the uniform law and bare."""
    key = jax.random.fold_in(jax.random.key(0), network.budget)
    x = jnp.asarray(network.x)
    if network.layers[0].ndim == 3:
        x = patches(x, network.layers[0].shape[:2])

    def law(score: Any) -> Array:
        found = score(relu_network, half_squares, network.layers, (x, network.y), key=key)
        sizes = abs(jnp.concatenate([leaf.ravel() for leaf in found]))
        bare = sizes / jnp.sum(sizes)
        mixed = (1 - UNIFORM_SHARE) * bare + UNIFORM_SHARE / sizes.size
        return jnp.stack([mixed, jnp.where(jnp.all(sizes > 0), bare, mixed)])

    return jnp.concatenate([law(score) for score in scores.SCORES.values()])


def _prepare(network: Network) -> Scored:
    return Scored(linearise(network), score_laws(network))


def _draw(scored: Scored, key: Key) -> Float[Array, "laws P"]:
    def draw(key: Key, law: Array) -> Array:
        return scored.tangent.multinomial(law).sample(key)

    return jax.vmap(draw)(jax.random.split(key, len(scored.laws)), scored.laws)


def _enumerate(scored: Scored) -> tuple[Array, Array]:
    every, chances = jax.vmap(lambda law: scored.tangent.multinomial(law).outcomes())(scored.laws)
    return every.swapaxes(0, 1), chances.T


def _trial(scored: Scored, outcome: Float[Array, "laws P"]) -> dict[str, Sides]:
    tangent = scored.tangent
    s = tangent.network.budget
    theta = tangent.kernel
    trace = jnp.sum(tangent.sizes)
    measured = jax.vmap(lambda mask: squared(masked_kernel(tangent, mask) - theta))(outcome)
    least = trace**2 - squared(theta)
    efficiency = jax.vmap(lambda law: sketch.efficiency(tangent.optimal, law))(scored.laws)
    chi_square = 1 / efficiency - 1
    # (Tr²/s)(1 − ‖Θ‖²/Tr² + χ²) without κ, whose denominator is a rounding error when the kernel has rank one.
    right = Sides(measured, (least + trace**2 * chi_square) / s, scale=trace**2 * (1 + chi_square) / s)
    return {"claim": right, "χ² for κχ²": right._replace(theory=least * (1 + chi_square) / s)}


MLP = ((PIXELS, 3), (3, 3), (3, OUTPUTS))
CONV = ((3, 3, 2), (3 * 3 * 2, OUTPUTS))


def _mlp_on_gaussian(rng: Rng, dataset: Dataset) -> Network:
    x = rng.standard_normal((SAMPLES, PIXELS))
    y = rng.standard_normal((SAMPLES, OUTPUTS))
    return draw_network(rng, x, y, MLP, max_budget=1)


def _mlp_on_real(rng: Rng, dataset: Dataset) -> Network:
    x, y = real_samples(rng, dataset)
    return draw_network(rng, x.reshape(SAMPLES, -1), y, MLP, max_budget=1)


def _conv_on_real(rng: Rng, dataset: Dataset) -> Network:
    return draw_network(rng, *real_samples(rng, dataset), CONV, max_budget=1)


def _tiny_on_real(rng: Rng, dataset: Dataset) -> Network:
    """The smallest network, with ReLU and several draws instead of one."""
    return tiny_on_real(rng, dataset).replace(activation="relu")


SCORE_EFFICIENCY = Claim(
    id="tangent/score-efficiency",
    title="One number ranks all pruning scores as sketches of the tangent kernel",
    statement=(
        r"\mathbb{E}\,\|\hat\Theta-\Theta\|_F^2=\frac{(\mathrm{Tr}\,\Theta)^2-\|\Theta\|_F^2}{s}\,(1+\kappa\chi^2),\quad"
        r"\chi^2=\chi^2(p^*\|q)=\frac1{\mathrm{efficiency}(q)}-1,\quad"
        r"\kappa=\frac{(\mathrm{Tr}\,\Theta)^2}{(\mathrm{Tr}\,\Theta)^2-\|\Theta\|_F^2}"
    ),
    sources=(DKM, BAR),
    kind=Expectation(),
    cases=(
        Case("mlp-gaussian", _mlp_on_gaussian, enumerable=True), Case("mlp-{data}", _mlp_on_real, enumerable=True),
        Case("conv-{data}", _conv_on_real, enumerable=True), Case("small-{data}", _tiny_on_real, enumerable=True),
    ),
    prepare=_prepare,
    hypotheses={
        name: (lambda scored, holds=holds: holds(scored.tangent)) for name, holds in NON_ZERO.items()
    } | {"every score is defined": lambda scored: jnp.isfinite(scored.laws).all()},
    trial=_trial,
    draw=_draw,
    outcomes=_enumerate,
    mutants=("χ² for κχ²",),
    batch=8,
    note=(
        f"Components: two laws for each of {', '.join(scores.SCORES)}, one mixed half and half with the uniform law "
        "and one bare. Where the score has an entry 0, which J may not have, both are mixed. All outcomes of one draw "
        "are enumerated, and of up to four draws in the smallest network. One draw is enough because the draws of a "
        "mask are independent and identically distributed."
    ),
)  # fmt: skip
