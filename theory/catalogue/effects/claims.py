"""Effects on trained networks: what the score of a mask, or its kernel, has to do with how the mask trains.

Each effect is a function of a table of scores, so that it can be claimed of other scores too. The claims of the
catalogue are these functions of the library's scores.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import laws, paths, prune, scores, sketch
from sketchprune.types import Key, Mask, Params, ScoreFn, Scores
from theory.catalogue.effects.seeds import (
    EARLY,
    SCORED_SAMPLES,
    STEPS,
    Seed,
    effect_claim,
    stacked_scores,
    train_masks,
    tree_where,
)
from theory.claim import Claim, Sides, Source


def _named(*names: str) -> dict[str, ScoreFn]:
    """Some of the library's scores."""
    return {name: scores.SCORES[name] for name in names}


DATA_FREE = _named("magnitude", "synflow", "synflow_l2")
PRUNERS = _named("random", "magnitude", "snip", "grasp", "synflow", "synflow_l2", "path_trace", "trace_drop", "ntk_sap")
DENSITIES = (0.5, 0.1, 0.02)
"""The densities over which drawn masks are compared with those of the highest scores."""
COMPARED_AT = 0.1
"""The density at which pruners, or scores, are compared with each other."""


# --- sketch/randomised-beats-top

BINARY, REWEIGHTED = range(2)
_DRAW_BINARY = prune.proportional(laws.FixedSize)
_DRAW_REWEIGHTED = prune.proportional(laws.Poisson)


def randomised_beats_top(table: Mapping[str, ScoreFn] = DATA_FREE, *, id: str = "sketch/randomised-beats-top") -> Claim:
    """That a mask drawn in proportion to a score trains better than the mask of its highest values."""

    def trial(instance: Seed, key: Key) -> dict[str, Sides]:
        draw_key, train_key = jax.random.split(key)

        def pair(score: Scores, keep: Array, key: Key) -> Mask:
            """The mask of the highest scores, and one drawn in proportion to them."""
            binary, reweighted = _DRAW_BINARY(key, score, keep), _DRAW_REWEIGHTED(key, score, keep)
            drawn = tree_where(instance.arm == BINARY, binary, reweighted)
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), prune.top(None, score, keep), drawn)

        keeps = jnp.array([prune.count(instance.params, density) for density in DENSITIES])
        keys = jax.random.split(draw_key, (len(table), len(DENSITIES)))
        each_density = jax.vmap(pair, (None, 0, 0))
        pairs = jax.vmap(each_density, (0, None, 0))(stacked_scores(instance, table, key), keeps, keys)
        stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), pairs)
        top, drawn = train_masks(instance, stack, train_key).errors.reshape(-1, 2).T
        return {"claim": Sides(top, drawn)}

    return effect_claim(
        trial,
        ("fixed size, binary", "poisson, reweighted"),
        id=id,
        title="After training, a mask drawn in proportion to a data-free score beats the top of that score",
        statement=(
            r"\mathbb{E}\,\mathrm{err}(m_{\mathrm{top}(s)})\ge\mathbb{E}\,\mathrm{err}(m),\qquad "
            r"m\sim q\propto\text{score}"
        ),
        sources=(Source("bar2023sketching"),),
        note=(
            f"Test errors after {STEPS} steps, averaged over the scores {', '.join(table)} and the densities "
            f"{', '.join(map(str, DENSITIES))}. Read the cases one by one: those of the controls say how much of the "
            "difference is left without the score's choice of weights or without the weights themselves."
        ),
    )


RANDOMISED_BEATS_TOP = randomised_beats_top()


# --- paths/convergence-predictor

EARLY_TRAINING, TEST_ERROR = range(2)


def convergence_predictor(table: Mapping[str, ScoreFn] = PRUNERS, *, id: str = "paths/convergence-predictor") -> Claim:
    """That among the masks of several scores a larger trace of the path kernel goes with better training."""

    def trial(instance: Seed, key: Key) -> dict[str, Sides]:
        score_key, train_key = jax.random.split(key)
        keep = prune.count(instance.params, COMPARED_AT)
        stack = jax.vmap(lambda score: prune.top(None, score, keep))(stacked_scores(instance, table, score_key))
        found = train_masks(instance, stack, train_key)

        def trace(mask: Mask) -> Array:
            return paths.trace(instance.apply, instance.params, instance.x.shape[2:], mask=mask, log=True)

        early = found.losses[:, :EARLY].mean(axis=1)
        outcome = jnp.where(instance.arm == EARLY_TRAINING, early, found.errors)
        return {"claim": Sides(spearman(jax.vmap(trace)(found.masks), -outcome), jnp.zeros(()))}

    return effect_claim(
        trial,
        ("early training", "test error"),
        id=id,
        title="Among pruners, a larger trace of the path kernel goes with faster early training and smaller test error",
        statement=r"\rho_{\mathrm{Spearman}}\big(\mathrm{Tr}\,\Pi(m\circ\theta),\,-\mathrm{loss}\big)\ge0",
        sources=(Source("gebhart2021paths"),),
        note=(
            f"Rank correlation over {', '.join(table)} at density {COMPARED_AT}: with the mean loss of the first "
            f"{EARLY} steps, and with the test error after {STEPS}. Shuffled masks have their own trace; under "
            "re-drawn weights the trace is that of the weights which were scored."
        ),
    )


def spearman(a: Float[Array, "n"], b: Float[Array, "n"]) -> Float[Array, ""]:
    """Spearman's rank correlation; tied entries share their mean rank. 0 where one of the two is constant."""

    def centred_ranks(values: Array) -> Array:
        below = values[None, :] < values[:, None]
        equal = values[None, :] == values[:, None]
        ranks = below.sum(1) + equal.sum(1) / 2
        return ranks - ranks.mean()

    a, b = centred_ranks(a), centred_ranks(b)
    norm = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.where(norm > 0, jnp.sum(a * b) / jnp.where(norm > 0, norm, 1), 0.0)


CONVERGENCE_PREDICTOR = convergence_predictor()


# --- tangent/efficiency-predictor

SAMPLED, TOP = range(2)


def efficiency_predictor(
    table: Mapping[str, ScoreFn] = scores.SCORES, *, id: str = "tangent/efficiency-predictor"
) -> Claim:
    """That among several scores one that sketches the tangent kernel better makes masks that train better."""

    def trial(instance: Seed, key: Key) -> dict[str, Sides]:
        score_key, train_key = jax.random.split(key)
        efficiency, sampled, top = masks_of_scores(instance, score_key, table)
        errors = train_masks(instance, tree_where(instance.arm == SAMPLED, sampled, top), train_key).errors
        return {"claim": Sides(spearman(efficiency, -errors), jnp.zeros(()))}

    return effect_claim(
        trial,
        ("sampled", "top"),
        id=id,
        title="Among pruning scores, one that sketches the tangent kernel better goes with smaller test error",
        statement=(
            r"\rho_{\mathrm{Spearman}}\Big(\frac1{1+\chi^2(p^*\|q)},\,-\mathrm{err}\Big)\ge0,\qquad "
            r"p^*_i\propto\|J_i\|^2,\quad q\propto|\text{score}|"
        ),
        sources=(Source("bar2023sketching"),),
        note=(
            f"Rank correlation over {', '.join(table)} at density {COMPARED_AT} with the test error after {STEPS} "
            "steps, of binary masks of a fixed size drawn in proportion to |score| and of the top of the score. "
            f"Efficiency is that of tangent/score-efficiency on the {SCORED_SAMPLES} images that the scores see: of "
            "the score itself, whatever the control does to its masks. `python -m figures score_efficiency` draws the "
            "table."
        ),
    )


def masks_of_scores(
    instance: Seed, key: Key, table: Mapping[str, ScoreFn] = scores.SCORES
) -> tuple[Float[Array, "scores"], Mask, Mask]:
    """How well each score sketches the tangent kernel, and two masks that it makes.

    Args:
        instance: the seed.
        key: for the scores and for drawing masks.
        table: the scores; "ntk_trace", which makes the optimal law, must be among them.

    Returns:
        The efficiency of each score on the images that it saw; a mask drawn in proportion to it; and the mask of its
        highest values.
    """
    score_key, mask_key = jax.random.split(key)
    names = list(table)
    if "ntk_trace" not in names:
        raise ValueError(f"table is {names}; it takes one with ntk_trace, which makes the optimal law")
    keep = prune.count(instance.params, COMPARED_AT)
    found = stacked_scores(instance, table, score_key)
    optimal = score_law(jax.tree.map(lambda leaf: leaf[names.index("ntk_trace")], found))

    def one(score: Scores, key: Key) -> tuple[Array, Mask, Mask]:
        efficiency = sketch.efficiency(optimal, score_law(score))
        return efficiency, _DRAW_BINARY(key, score, keep), prune.top(None, score, keep)

    return jax.vmap(one)(found, jax.random.split(mask_key, len(table)))


def score_law(score: Scores) -> Params:
    """The probabilities |score|/Σ|score|, 0 for what is never pruned or pruned already."""
    return sketch.data_free_probabilities(jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 0, leaf), score))


EFFICIENCY_PREDICTOR = efficiency_predictor()
