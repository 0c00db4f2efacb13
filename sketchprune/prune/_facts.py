"""What scores and masks turned out to be: found inside a compiled program, refused outside it where it is wrong."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from sketchprune import _checks
from sketchprune._arithmetic import count_true
from sketchprune.types import Mask, Params, Scores


class ScoreFacts(NamedTuple):
    """Facts about scores, leaf by leaf.

    Attributes:
        undefined: whether some are NaN.
        infinite: whether some are infinite that mean neither "never pruned" nor "pruned already".
        informative: whether some are finite and differ from zero.
        available: how many weights that may be pruned have a finite score.
    """

    undefined: Bool[Array, "leaves"]
    infinite: Bool[Array, "leaves"]
    informative: Bool[Array, "leaves"]
    available: Int[Array, "leaves"]


def score_facts(scores: Scores, mask: Mask | None, prunable: PyTree[bool]) -> ScoreFacts:
    """Facts about the scores of a network pruned by the mask."""
    mask = jax.tree.map(jnp.ones_like, scores) if mask is None else mask
    leaves = zip(*map(jax.tree.leaves, (scores, mask, prunable)), strict=True)
    counts = [
        count_true(
            jnp.isnan(score),
            ((score == jnp.inf) | ((score == -jnp.inf) & (kept != 0))) & pruned,
            jnp.isfinite(score) & (score != 0),
            jnp.isfinite(score) & pruned,
        )
        for score, kept, pruned in leaves
    ]
    undefined, infinite, informative, available = jnp.stack(counts, axis=1)
    return ScoreFacts(undefined > 0, infinite > 0, informative > 0, available)


def kept_counts(mask: Mask, prunable: PyTree[bool]) -> Int[Array, "leaves"]:
    """How many weights of each leaf the mask keeps; 0 for leaves that are never pruned."""
    leaves = zip(*map(jax.tree.leaves, (mask, prunable)), strict=True)
    return jnp.concatenate([count_true((kept != 0) & pruned) for kept, pruned in leaves])


def check_scores(tree: Params, facts: ScoreFacts, keep: Any, where: str, prunable: PyTree[bool]) -> None:
    """Refuses scores that select nothing, in all layers together or in one with a count of its own; not under a trace.

    Args:
        tree: a pytree of the parameters' structure, for the names of leaves.
        facts: of the scores.
        keep: one count, or one for each leaf.
        where: which round, for the message.
        prunable: which leaves may be pruned.
    """
    names = leaf_names(tree)
    for kind, found in ("NaN", facts.undefined), ("infinite", facts.infinite):
        known = _checks.concrete(found)
        if known is not None and known.any():
            raise ValueError(f"{names[int(known.argmax())]} has {kind} entries{where}; it takes finite numbers")
    informative = _checks.concrete(facts.informative)
    if informative is None:
        return
    fault = f"are all zero{where}; it takes some that differ, since these select nothing"
    if not informative.any():
        raise ValueError(f"scores {fault}")
    if jax.tree.structure(keep) == jax.tree.structure(tree):
        counts = map(_checks.concrete, jax.tree.leaves(keep))
        for name, tells, count, pruned in zip(names, informative, counts, jax.tree.leaves(prunable), strict=True):
            if pruned and not tells and count is not None and count.any():
                raise ValueError(f"{name} {fault}")


def check_counts(tree: Params, facts: ScoreFacts, kept: Any, keep: Any, sampler: Any, where: str, what: str) -> None:
    """Refuses a round that kept another number of weights or groups than it was asked for.

    Args:
        tree: a pytree of the parameters' structure, for the names of leaves.
        facts: of the scores.
        kept: how many weights (or groups) of each leaf were kept.
        keep: how many were asked for: one count, or one for each leaf.
        sampler: for the message.
        where: which round, for the message.
        what: what is counted, "weights" or "groups".
    """
    kept, available = np.asarray(kept), np.asarray(facts.available)
    if jax.tree.structure(keep) == jax.tree.structure(0):
        rows = [("", keep, kept.sum(), available.sum())]
    else:
        rows = zip((f" of {name}" for name in leaf_names(tree)), jax.tree.leaves(keep), kept, available, strict=True)
    for label, wanted, found, most in rows:
        if wanted > most:
            raise ValueError(f"keeps is {wanted}{where}{label}; it takes at most {most}, which is all that can be kept")
        if wanted != found:
            raise ValueError(
                f"sampler is {sampler}, which kept {found} {what}{where}{label} where {wanted} were asked for; it "
                f"takes one that keeps exact counts (a draw can only keep {what} whose score is not zero)"
            )


def leaf_names(tree: PyTree) -> list[str]:
    """What messages call the scores of each leaf."""
    return [f"scores{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
