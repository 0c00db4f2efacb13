"""Effects of the efficiency with which a score sketches the tangent kernel on how its masks train."""

import functools
import operator
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import prune, scores, sketch
from sketchprune.types import Key, Mask, Params, ScoreFn, Scores
from theory.catalogue.effects.drawing import BINARY
from theory.catalogue.effects.rank_correlation import spearman
from theory.catalogue.effects.seeds import (
    COMPARED_AT,
    SCORED_SAMPLES,
    STEPS,
    Seed,
    Trained,
    drawn,
    effect_claim,
    stacked_scores,
)
from theory.claim import Claim, Sides, Source
from theory.staged import Drawn


def efficiency_predicts(
    table: Mapping[str, ScoreFn] = scores.SCORES, *, sampled: bool, few_seeds: bool = False, id: str, title: str
) -> Claim:
    """That among several scores one that sketches the tangent kernel better makes masks that train better.

    Args:
        table: the scores.
        sampled: whether masks are drawn in proportion to the score, or are those of its highest values.
        few_seeds: whether the quick tier measures it on few seeds.
        id: of the claim.
        title: of the claim.
    """

    def compare(instance: Seed, results: Trained, efficiency: Array) -> dict[str, Sides]:
        return {"claim": Sides(spearman(efficiency, -results.error), jnp.zeros(()))}

    kind_of_masks = "drawn in proportion to |score|" if sampled else "of the highest scores"
    return effect_claim(
        _draw(tuple(table.items())),
        compare,
        select=operator.itemgetter("sampled" if sampled else "top"),
        few_seeds=few_seeds,
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


@functools.cache  # so that claims about the same scores share a program
def _draw(table: tuple[tuple[str, ScoreFn], ...]) -> Callable[[Seed, Key], Drawn]:
    """Draws both masks of each score; what is known of them are the efficiencies of the scores."""

    def draw(instance: Seed, key: Key) -> Drawn:
        score_key, train_key = jax.random.split(key)
        efficiency, sampled, top = masks_of_scores(instance, score_key, dict(table))
        return drawn(instance, {"sampled": sampled, "top": top}, train_key, efficiency)

    return draw


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
    few_seeds=True,
    id="tangent/efficiency-predictor-top",
    title="A pruning score that sketches the tangent kernel better has top masks with a smaller test error",
)
