"""Effects on trained networks: what the score of a mask, or its kernel, has to do with how the mask trains.

Each effect is a function of a table of scores, so that it can be claimed of other scores too. The claims of the
catalogue are these functions of the library's scores.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import laws, paths, prune, scores, sketch
from sketchprune.prune.samplers import Sampler
from sketchprune.types import Key, Mask, Params, ScoreFn, Scores
from theory.catalogue.effects.seeds import (
    EARLY,
    SCORED_SAMPLES,
    STEPS,
    Seed,
    Trained,
    effect_claim,
    stacked_scores,
    train_masks,
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


# --- sketch/randomised-beats-top, sketch/reweighted-beats-top

BINARY = prune.proportional(laws.FixedSize)
REWEIGHTED = prune.proportional(laws.Poisson)


def drawn_beats_top(
    sampler: Sampler, table: Mapping[str, ScoreFn] = DATA_FREE, *, id: str, title: str, note: str = ""
) -> Claim:
    """That a mask drawn in proportion to a score trains better than the mask of its highest values.

    Args:
        sampler: draws the mask.
        table: the scores.
        id: of the claim.
        title: of the claim.
        note: what a reader should know of the sampler.
    """

    def trial(instance: Seed, key: Key) -> dict[str, Sides]:
        draw_key, train_key = jax.random.split(key)

        def pair(score: Scores, keep: Array, key: Key) -> Mask:
            """The mask of the highest scores, and one drawn in proportion to them."""
            return jax.tree.map(
                lambda one, other: jnp.stack([one, other]), prune.top(None, score, keep), sampler(key, score, keep)
            )

        keeps = jnp.array([prune.count(instance.params, density) for density in DENSITIES])
        keys = jax.random.split(draw_key, (len(table), len(DENSITIES)))
        each_density = jax.vmap(pair, (None, 0, 0))
        pairs = jax.vmap(each_density, (0, None, 0))(stacked_scores(instance, table, key), keeps, keys)
        stack = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), pairs)
        top, drawn = train_masks(instance, stack, train_key).errors.reshape(-1, 2).T
        return {"claim": Sides(top, drawn)}

    return effect_claim(
        trial,
        id=id,
        title=title,
        statement=(
            r"\mathbb{E}\,\mathrm{err}(m_{\mathrm{top}(s)})\ge\mathbb{E}\,\mathrm{err}(m),\qquad "
            r"m\sim q\propto\text{score}"
        ),
        sources=(Source("bar2023sketching"),),
        note=(
            f"Test errors after {STEPS} steps, averaged over the scores {', '.join(table)} and the densities "
            f"{', '.join(map(str, DENSITIES))}. The controls, on the same seeds, say how much of it is left "
            f"without the score's choice of weights or without the weights themselves.{note}"
        ),
    )


RANDOMISED_BEATS_TOP = drawn_beats_top(
    BINARY,
    id="sketch/randomised-beats-top",
    title="After training, a 0/1 mask drawn in proportion to a data-free score beats the top of that score",
)
REWEIGHTED_BEATS_TOP = drawn_beats_top(
    REWEIGHTED,
    id="sketch/reweighted-beats-top",
    title="After training, a reweighted mask drawn in proportion to a data-free score beats the top of that score",
    note=" The masks are poisson masks, which are unbiased at initialisation.",
)


# --- paths/predicts-early-training, paths/predicts-test-error


def _early_loss(found: Trained) -> Array:
    return found.losses[:, :EARLY].mean(axis=1)


def _test_error(found: Trained) -> Array:
    return found.errors


def trace_predicts(
    outcome: Callable[[Trained], Array],
    table: Mapping[str, ScoreFn] = PRUNERS,
    *,
    id: str,
    title: str,
    outcome_name: str,
) -> Claim:
    """That among the masks of several scores a larger trace of the path kernel goes with a smaller outcome.

    Args:
        outcome: one number for each trained model.
        table: the scores.
        id: of the claim.
        title: of the claim.
        outcome_name: what the outcome is called in the note.
    """

    def trial(instance: Seed, key: Key) -> dict[str, Sides]:
        score_key, train_key = jax.random.split(key)
        keep = prune.count(instance.params, COMPARED_AT)
        stack = jax.vmap(lambda score: prune.top(None, score, keep))(stacked_scores(instance, table, score_key))
        found = train_masks(instance, stack, train_key)

        def trace(mask: Mask) -> Array:
            return paths.trace(instance.apply, instance.params, instance.x.shape[2:], mask=mask, log=True)

        return {"claim": Sides(spearman(jax.vmap(trace)(found.masks), -outcome(found)), jnp.zeros(()))}

    return effect_claim(
        trial,
        id=id,
        title=title,
        statement=r"\rho_{\mathrm{Spearman}}\big(\mathrm{Tr}\,\Pi(m\circ\theta),\,-\mathrm{loss}\big)\ge0",
        sources=(Source("gebhart2021paths"),),
        note=(
            f"Rank correlation over {', '.join(table)} at density {COMPARED_AT}, with {outcome_name}. Shuffled masks "
            "have their own trace; under re-drawn weights the trace is that of the weights which were scored."
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


PREDICTS_EARLY_TRAINING = trace_predicts(
    _early_loss,
    id="paths/predicts-early-training",
    title="Among pruners, a larger trace of the path kernel goes with faster early training",
    outcome_name=f"the mean loss of the first {EARLY} steps",
)
PREDICTS_TEST_ERROR = trace_predicts(
    _test_error,
    id="paths/predicts-test-error",
    title="Among pruners, a larger trace of the path kernel goes with a smaller test error",
    outcome_name=f"the test error after {STEPS} steps",
)


# --- tangent/efficiency-predictor-sampled, tangent/efficiency-predictor-top


def efficiency_predicts(table: Mapping[str, ScoreFn] = scores.SCORES, *, sampled: bool, id: str, title: str) -> Claim:
    """That among several scores one that sketches the tangent kernel better makes masks that train better.

    Args:
        table: the scores.
        sampled: whether masks are drawn in proportion to the score, or are those of its highest values.
        id: of the claim.
        title: of the claim.
    """

    def trial(instance: Seed, key: Key) -> dict[str, Sides]:
        score_key, train_key = jax.random.split(key)
        efficiency, drawn, top = masks_of_scores(instance, score_key, table)
        errors = train_masks(instance, drawn if sampled else top, train_key).errors
        return {"claim": Sides(spearman(efficiency, -errors), jnp.zeros(()))}

    kind_of_masks = "drawn in proportion to |score|" if sampled else "of the highest scores"
    return effect_claim(
        trial,
        id=id,
        title=title,
        statement=(
            r"\rho_{\mathrm{Spearman}}\Big(\frac1{1+\chi^2(p^*\|q)},\,-\mathrm{err}\Big)\ge0,\qquad "
            r"p^*_i\propto\|J_i\|^2,\quad q\propto|\text{score}|"
        ),
        sources=(Source("bar2023sketching"),),
        note=(
            f"Rank correlation over {', '.join(table)} at density {COMPARED_AT} with the test error after {STEPS} "
            f"steps, of binary masks of a fixed size {kind_of_masks}. Efficiency is that of tangent/score-efficiency "
            f"on the {SCORED_SAMPLES} images that the scores see: of the score itself, whatever the control does to "
            "its masks. `python -m figures score_efficiency` draws the table."
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
        return efficiency, BINARY(key, score, keep), prune.top(None, score, keep)

    return jax.vmap(one)(found, jax.random.split(mask_key, len(table)))


def score_law(score: Scores) -> Params:
    """The probabilities |score|/Σ|score|, 0 for what is never pruned or pruned already."""
    return sketch.data_free_probabilities(jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 0, leaf), score))


EFFICIENCY_PREDICTOR_SAMPLED = efficiency_predicts(
    sampled=True,
    id="tangent/efficiency-predictor-sampled",
    title="A pruning score that sketches the tangent kernel better draws masks with a smaller test error",
)
EFFICIENCY_PREDICTOR_TOP = efficiency_predicts(
    sampled=False,
    id="tangent/efficiency-predictor-top",
    title="A pruning score that sketches the tangent kernel better has top masks with a smaller test error",
)
