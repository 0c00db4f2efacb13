"""Effects of the trace of the path kernel: what it has to do with training, and how far training moves it."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
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
    drawn,
    effect_claim,
    named_scores,
    stacked_scores,
)
from theory.claim import Claim, Sides, Source
from theory.staged import Drawn

PRUNERS = named_scores(
    "random", "magnitude", "snip", "grasp", "synflow", "synflow_l2", "path_trace", "trace_drop", "ntk_sap"
)


@functools.cache  # so that claims about the same scores share a program
def _draw_top(table: tuple[tuple[str, ScoreFn], ...]) -> Callable[[Seed, Key], Drawn]:
    """Draws the masks of the highest scores."""

    def draw(instance: Seed, key: Key) -> Drawn:
        score_key, train_key = jax.random.split(key)
        keep = prune.count(instance.params, COMPARED_AT)
        found = stacked_scores(instance, dict(table), score_key)
        return drawn(instance, jax.vmap(lambda score: prune.top(None, score, keep))(found), train_key)

    return draw


def _early_loss(found: Trained) -> Array:
    return found.losses[:, :EARLY].mean(axis=1)


def _test_error(found: Trained) -> Array:
    return found.error


def trace_predicts(
    outcome: Callable[[Trained], Array],
    table: Mapping[str, ScoreFn] = PRUNERS,
    *,
    needs: str,
    id: str,
    title: str,
    outcome_name: str,
) -> Claim:
    """That among the masks of several scores a larger trace of the path kernel goes with a smaller outcome.

    Args:
        outcome: one number for each trained model.
        table: the scores.
        needs: the field of the trained models that the outcome takes.
        id: of the claim.
        title: of the claim.
        outcome_name: what the outcome is called in the note.
    """

    def compare(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
        def trace(mask: Mask) -> Array:
            return paths.trace(instance.apply, instance.params, instance.x.shape[2:], mask=mask, log=True)

        return {"claim": Sides(spearman(jax.vmap(trace)(results.mask), -outcome(results)), jnp.zeros(()))}

    return effect_claim(
        _draw_top(tuple(table.items())),
        compare,
        needs=("mask", needs),
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
    needs="losses",
    id="paths/predicts-early-training",
    title="Among pruners, a larger trace of the path kernel goes with faster early training",
    outcome_name=f"the mean loss of the first {EARLY} steps",
)
PREDICTS_TEST_ERROR = trace_predicts(
    _test_error,
    needs="error",
    id="paths/predicts-test-error",
    title="Among pruners, a larger trace of the path kernel goes with a smaller test error",
    outcome_name=f"the test error after {STEPS} steps",
)


# --- paths/trace-moves

FOLLOWED = ("random", "magnitude", "snip", "synflow")
"""The pruners whose masks are followed through training."""


def _select_followed(stack: Mask) -> Mask:
    rows = np.array([list(PRUNERS).index(name) for name in FOLLOWED])
    return jax.tree.map(lambda leaf: leaf[rows], stack)


def _compare_moves(instance: Seed, results: Trained, known: None) -> dict[str, Sides]:
    """Of each pruner, how far training moves the weights and the trace, both relative to their start."""

    def moves(mask: Mask, start: Params, end: Params) -> tuple[Array, Array]:
        before, after = (
            paths.trace(instance.apply, params, instance.x.shape[2:], mask=mask, log=True) for params in (start, end)
        )
        moved = optax.tree.norm(optax.tree.sub(end, start)) / optax.tree.norm(start)
        return moved, jnp.abs(jnp.expm1(after - before))

    return {"claim": Sides(*jax.vmap(moves)(results.mask, results.start, results.params))}


TRACE_MOVES = effect_claim(
    _draw_top(tuple(PRUNERS.items())),
    _compare_moves,
    needs=("mask", "start", "params"),
    select=_select_followed,
    few_seeds=True,
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
