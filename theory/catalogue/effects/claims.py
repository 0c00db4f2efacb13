"""Effects on trained networks: what a mask's score, or its kernel, has to do with how the mask trains."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import paths, prune, scores, sketch
from sketchprune.types import Key, Mask, Params, Scores
from theory.catalogue.effects.seeds import EARLY, STEPS, Seed, effect, either, scored, trained
from theory.claim import Sides, Source

# --- sketch/randomised-beats-top

DATA_FREE = ("magnitude", "synflow", "synflow_l2")
DENSITIES = (0.5, 0.1, 0.02)
BINARY, REWEIGHTED = range(2)


def _beats(instance: Seed, key: Key) -> dict[str, Sides]:
    draw, rest = jax.random.split(key)

    def pair(score: Scores, keep: Array, key: Key) -> Mask:
        """The top of the score, and a mask drawn in proportion to it."""
        binary, reweighted = prune.fixed_size(key, score, keep), prune.poisson(key, score, keep)
        drawn = either(instance.arm == BINARY, binary, reweighted)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), prune.top(None, score, keep), drawn)

    keeps = jnp.array([prune.count(instance.params, density) for density in DENSITIES])
    keys = jax.random.split(draw, (len(DATA_FREE), len(DENSITIES)))
    pairs = jax.vmap(jax.vmap(pair, (None, 0, 0)), (0, None, 0))(scored(instance, DATA_FREE, key), keeps, keys)
    stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), pairs)
    top, drawn = trained(instance, stack, rest).errors.reshape(-1, 2).T
    return {"claim": Sides(top, drawn)}


RANDOMISED_BEATS_TOP = effect(
    "fixed size, binary",
    "poisson, reweighted",
    id="sketch/randomised-beats-top",
    title="After training, a mask drawn in proportion to a data-free score beats the top of that score",
    statement=(
        r"\mathbb{E}\,\mathrm{err}(m_{\mathrm{top}(s)})\ge\mathbb{E}\,\mathrm{err}(m),\qquad m\sim q\propto\text{score}"
    ),
    sources=(Source("bar2023sketching"),),
    trial=_beats,
    note=(
        f"Test errors after {STEPS} steps, averaged over the scores {', '.join(DATA_FREE)} and the densities "
        f"{', '.join(map(str, DENSITIES))}. Read the cases one by one: those of the controls say how much of the "
        "difference is left without the score's choice of weights or without the weights themselves. "
    ),
)


# --- paths/convergence-predictor

PRUNERS = ("random", "magnitude", "snip", "grasp", "synflow", "synflow_l2", "path_trace", "trace_drop", "ntk_sap")
COMPARED_AT = 0.1
"""The density at which pruners, or scores, are compared."""


def spearman(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Rank correlation, tied entries sharing their mean rank; 0 where one of the two is constant."""

    def ranks(values: Array) -> Array:
        below = values[None, :] < values[:, None]
        equal = values[None, :] == values[:, None]
        ranked = below.sum(1) + equal.sum(1) / 2
        return ranked - ranked.mean()

    a, b = ranks(a), ranks(b)
    norm = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.where(norm > 0, jnp.sum(a * b) / jnp.where(norm > 0, norm, 1), 0.0)


def _predicts(instance: Seed, key: Key) -> dict[str, Sides]:
    draw, rest = jax.random.split(key)
    keep = prune.count(instance.params, COMPARED_AT)
    stack = jax.vmap(lambda score: prune.top(None, score, keep))(scored(instance, PRUNERS, draw))
    found = trained(instance, stack, rest)

    def trace(mask: Mask) -> Array:
        return paths.trace(instance.apply, instance.params, instance.x.shape[2:], mask=mask, log=True)

    outcome = jnp.where(instance.arm == 0, found.losses[:, :EARLY].mean(axis=1), found.errors)
    return {"claim": Sides(spearman(jax.vmap(trace)(found.masks), -outcome), jnp.zeros(()))}


CONVERGENCE_PREDICTOR = effect(
    "early training",
    "test error",
    id="paths/convergence-predictor",
    title="Among pruners, a larger trace of the path kernel goes with faster early training and smaller test error",
    statement=r"\rho_{\mathrm{Spearman}}\big(\mathrm{Tr}\,\Pi(m\circ\theta),\,-\mathrm{loss}\big)\ge0",
    sources=(Source("gebhart2021paths"),),
    trial=_predicts,
    note=(
        f"Rank correlation over {', '.join(PRUNERS)} at density {COMPARED_AT}: with the mean loss of the first "
        f"{EARLY} steps, and with the test error after {STEPS}. Shuffled masks have their own trace; under re-drawn "
        "weights the trace is that of the weights which were scored."
    ),
)


# --- tangent/efficiency-predictor

SAMPLED, TOP = range(2)


def law(score: Scores) -> Params:
    """|score|/Σ|score|; what is never pruned, or pruned already, has no part in it."""
    return sketch.data_free_probabilities(jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 0, leaf), score))


def masks_of_scores(instance: Seed, key: Key) -> tuple[Float[Array, " scores"], Mask, Mask]:
    """Of every score: its efficiency on the images that it saw, a mask in proportion to it, and the mask of its top."""
    score_key, mask_key = jax.random.split(key)
    names, keep = list(scores.SCORES), prune.count(instance.params, COMPARED_AT)
    found = scored(instance, names, score_key)
    optimal = law(jax.tree.map(lambda leaf: leaf[names.index("ntk_trace")], found))

    def one(score: Scores, key: Key) -> tuple[Array, Mask, Mask]:
        efficiency = sketch.efficiency(optimal, law(score))
        return efficiency, prune.fixed_size(key, score, keep), prune.top(None, score, keep)

    return jax.vmap(one)(found, jax.random.split(mask_key, len(names)))


def _ranks(instance: Seed, key: Key) -> dict[str, Sides]:
    draw, rest = jax.random.split(key)
    efficiency, sampled, top = masks_of_scores(instance, draw)
    errors = trained(instance, either(instance.arm == SAMPLED, sampled, top), rest).errors
    return {"claim": Sides(spearman(efficiency, -errors), jnp.zeros(()))}


EFFICIENCY_PREDICTOR = effect(
    "sampled",
    "top",
    id="tangent/efficiency-predictor",
    title="Among pruning scores, one that sketches the tangent kernel better goes with smaller test error",
    statement=(
        r"\rho_{\mathrm{Spearman}}\Big(\frac1{1+\chi^2(p^*\|q)},\,-\mathrm{err}\Big)\ge0,\qquad "
        r"p^*_i\propto\|J_i\|^2,\quad q\propto|\text{score}|"
    ),
    sources=(Source("bar2023sketching"),),
    trial=_ranks,
    note=(
        f"Rank correlation over {', '.join(scores.SCORES)} at density {COMPARED_AT} with the test error after {STEPS} "
        "steps, of binary masks of a fixed size drawn in proportion to |score| and of the top of the score. Efficiency "
        "is that of tangent/score-efficiency on the 64 images that the scores see: of the score itself, whatever the "
        "control does to its masks. `python -m figures score_efficiency` draws the table."
    ),
)
