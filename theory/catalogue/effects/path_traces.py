"""Effects of the trace of the path kernel: what it has to do with training, and how far training moves it."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from sketchprune import paths, prune
from sketchprune.types import Key, Mask, Params, ScoreFn
from theory.catalogue.effects.rank_correlation import spearman
from theory.catalogue.effects.seeds import (
    COMPARED_AT,
    EARLY,
    STEPS,
    Seed,
    Trained,
    effect_claim,
    named_scores,
    stacked_scores,
    train_masks,
)
from theory.claim import Claim, Sides, Source

PRUNERS = named_scores(
    "random", "magnitude", "snip", "grasp", "synflow", "synflow_l2", "path_trace", "trace_drop", "ntk_sap"
)


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


# --- paths/trace-moves

FOLLOWED = named_scores("random", "magnitude", "snip", "synflow")


def _moves_trial(instance: Seed, key: Key) -> dict[str, Sides]:
    """Of each pruner, how far training moves the weights and the trace, both relative to their start."""
    score_key, train_key = jax.random.split(key)
    keep = prune.count(instance.params, COMPARED_AT)
    stack = jax.vmap(lambda score: prune.top(None, score, keep))(stacked_scores(instance, FOLLOWED, score_key))
    found = train_masks(instance, stack, train_key)

    def moves(mask: Mask, start: Params, end: Params) -> tuple[Array, Array]:
        before, after = (
            paths.trace(instance.apply, params, instance.x.shape[2:], mask=mask, log=True) for params in (start, end)
        )
        moved = optax.tree.norm(optax.tree.sub(end, start)) / optax.tree.norm(start)
        return moved, jnp.abs(jnp.expm1(after - before))

    return {"claim": Sides(*jax.vmap(moves)(found.masks, found.start, found.params))}


TRACE_MOVES = effect_claim(
    _moves_trial,
    id="paths/trace-moves",
    title="During training the trace of the path kernel changes less than the weights move, each relative to its start",
    statement=(
        r"\frac{\|\theta_T-\theta_0\|}{\|\theta_0\|}\ge"
        r"\frac{|\mathrm{Tr}\,\Pi(m\circ\theta_T)-\mathrm{Tr}\,\Pi(m\circ\theta_0)|}{\mathrm{Tr}\,\Pi(m\circ\theta_0)}"
    ),
    sources=(Source("gebhart2021paths"),),
    note=(
        f"After T = {STEPS} steps, averaged over the top masks of {', '.join(FOLLOWED)} at density {COMPARED_AT}. In a "
        "network of L layers the trace is of degree 2L − 2 in the weights, so it moves more than they do where all of "
        "them grow alike."
    ),
)
