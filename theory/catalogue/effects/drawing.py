"""Effects of drawing a mask in proportion to a score, rather than keeping the highest scores."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import laws, prune, scores
from sketchprune.prune.samplers import Sampler
from sketchprune.types import Key, Mask, ScoreFn, Scores
from theory.catalogue.effects.seeds import (
    STEPS,
    Seed,
    Trained,
    drawn,
    effect_claim,
    named_scores,
    stacked,
    stacked_scores,
)
from theory.claim import Claim, Sides, Source
from theory.staged import Drawn

DATA_FREE = named_scores("magnitude", "synflow", "synflow_l2")
DENSITIES = (0.5, 0.1, 0.02)
"""The densities over which drawn masks are compared with those of the highest scores."""
LOW_DENSITIES = (0.1, 0.02)
"""Those of the comparisons that cost more."""

BINARY = prune.proportional(laws.FixedSize)
REWEIGHTED = prune.proportional(laws.Poisson)


Draw = Callable[[Seed, Key], Drawn]


def draw_pairs(sampler: Sampler, table: Mapping[str, ScoreFn], densities: Sequence[float]) -> Draw:
    """Draws the masks [scores · densities · 2] of the highest scores, and masks in proportion to the same scores.

    Args:
        sampler: draws the masks.
        table: the scores.
        densities: of the masks.
    """

    def draw(instance: Seed, key: Key) -> Drawn:
        draw_key, train_key, score_key = jax.random.split(key, 3)

        def pair(score: Scores, keep: Array, key: Key) -> Mask:
            return stacked(prune.top(None, score, keep), sampler(key, score, keep))

        keeps = jnp.array([prune.count(instance.params, density) for density in densities])
        keys = jax.random.split(draw_key, (len(table), len(densities)))
        each_density = jax.vmap(pair, (None, 0, 0))
        pairs = jax.vmap(each_density, (0, None, 0))(stacked_scores(instance, table, score_key), keeps, keys)
        return drawn(instance, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), pairs), train_key)

    return draw


def _errors_of_pairs(results: Trained, *shape: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The test errors of the first and of the second of each pair, of this shape."""
    errors = results.error.reshape(*shape, 2)
    return errors[..., 0], errors[..., 1]


def drawn_beats_top(
    sampler: Sampler,
    table: Mapping[str, ScoreFn] = DATA_FREE,
    *,
    few_seeds: bool = False,
    id: str,
    title: str,
    note: str = "",
) -> Claim:
    """That a mask drawn in proportion to a score trains better than the mask of its highest values.

    Args:
        sampler: draws the mask.
        table: the scores.
        few_seeds: whether the quick tier measures it on few seeds.
        id: of the claim.
        title: of the claim.
        note: what a reader should know of the sampler.
    """

    def compare(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
        return {"claim": Sides(*_errors_of_pairs(results, len(table), len(DENSITIES)))}

    return effect_claim(
        draw_pairs(sampler, table, DENSITIES),
        compare,
        few_seeds=few_seeds,
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
    few_seeds=True,
    id="sketch/reweighted-beats-top",
    title="After training, a reweighted mask drawn in proportion to a data-free score beats the top of that score",
    note=" The masks are poisson masks, which are unbiased at initialisation.",
)


# --- sketch/randomised-beats-top-iterative

ROUNDS = 100


def _iterative_pairs(instance: Seed, key: Key) -> Drawn:
    """The masks [densities · 2] of SynFlow in rounds that keep the highest scores, and in rounds that draw."""
    draw_key, train_key = jax.random.split(key)
    size = prune.size(instance.params)
    keeps = [
        prune.exponential_schedule(size, prune.count(instance.params, density), ROUNDS) for density in LOW_DENSITIES
    ]

    def pair(keeps: Array, key: Key) -> Mask:
        def pruned(sampler: Sampler | None) -> Mask:
            batch = (instance.x[0][:1], None)
            return prune.iterative(
                scores.synflow, instance.apply, None, instance.params, batch, keeps, key=key, sampler=sampler
            )

        return stacked(pruned(None), pruned(BINARY))

    pairs = jax.vmap(pair)(jnp.array(keeps), jax.random.split(draw_key, len(keeps)))
    return drawn(instance, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), pairs), train_key)


def _compare_pairs(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
    return {"claim": Sides(*_errors_of_pairs(results, -1))}


RANDOMISED_BEATS_TOP_ITERATIVE = effect_claim(
    _iterative_pairs,
    _compare_pairs,
    costly_draw=True,
    few_seeds=True,
    id="sketch/randomised-beats-top-iterative",
    title="After training, iterative SynFlow that draws the mask of each round beats the one that takes the top",
    statement=(
        r"\mathbb{E}\,\mathrm{err}(m^{(R)}_{\mathrm{top}})\ge\mathbb{E}\,\mathrm{err}(m^{(R)}),\qquad "
        r"m^{(r)}\sim q\propto\mathrm{SynFlow}(m^{(r-1)}\circ\theta)"
    ),
    sources=(Source("bar2023sketching"), Source("tanaka2020synflow")),
    note=(
        f"Test errors after {STEPS} steps, averaged over the densities {', '.join(map(str, LOW_DENSITIES))}, "
        f"each reached in {ROUNDS} rounds of exponentially shrinking counts. Masks are binary, of a fixed size."
    ),
)


# --- sketch/randomised-helps-data-free-more

WITH_DATA = named_scores("snip", "grasp")
"""Scores that see images and labels."""


def _compare_gains(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
    """What drawing gains over the top: with the data-free scores, and with those that see data."""
    top, by_chance = _errors_of_pairs(results, len(DATA_FREE | WITH_DATA), len(LOW_DENSITIES))
    gains = top - by_chance
    return {"claim": Sides(gains[: len(DATA_FREE)].mean(), gains[len(DATA_FREE) :].mean())}


RANDOMISED_HELPS_DATA_FREE_MORE = effect_claim(
    draw_pairs(BINARY, DATA_FREE | WITH_DATA, LOW_DENSITIES),
    _compare_gains,
    id="sketch/randomised-helps-data-free-more",
    title="Drawing a mask in proportion to the score gains more for data-free scores than for SNIP and GraSP",
    statement=(
        r"\mathbb{E}\big[\mathrm{err}(m_{\mathrm{top}(s)})-\mathrm{err}(m)\big]_{s\ \text{data-free}}\ge"
        r"\mathbb{E}\big[\mathrm{err}(m_{\mathrm{top}(s)})-\mathrm{err}(m)\big]_{s\ \text{of data}},"
        r"\qquad m\sim q\propto|s|"
    ),
    sources=(Source("bar2023sketching"),),
    note=(
        f"A difference of differences of test errors after {STEPS} steps, averaged over the densities "
        f"{', '.join(map(str, LOW_DENSITIES))}: of {', '.join(DATA_FREE)} on one side, and {', '.join(WITH_DATA)} on "
        "the other. Masks are binary, of a fixed size."
    ),
)
