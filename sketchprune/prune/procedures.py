"""Pruning at initialisation with a score and a sampler: at once, or round by round.

``keep`` is one number for all layers together, or a pytree like the parameters with one number for each leaf, so that
each layer is pruned by itself (:func:`layer_counts`). Leaves that are never pruned have the count 0 there.

With ``groups`` whole groups of weights are kept or pruned, such as channels (:func:`sketchprune.masks.group_scores`),
and ``keep`` counts groups. To count them, pass ``masks.group_scores(params, groups)`` to :func:`size`, :func:`count` or
:func:`layer_counts` in place of the parameters.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree

from sketchprune import _checks, masks
from sketchprune._boundary import checked
from sketchprune._coupling import check_samples_apart
from sketchprune._static import static
from sketchprune.laws.counts import Keeps, check_leaves, check_rounds
from sketchprune.prune._facts import ScoreFacts, check_counts, check_scores, kept_counts, score_facts
from sketchprune.prune.samplers import Sampler, top
from sketchprune.types import ApplyFn, Count, Groups, Key, LossFn, Mask, Params, Prunable, ScoreFn, Scores

Keep = Count | PyTree[Count]


@checked
def one_shot(
    score: ScoreFn,
    apply: ApplyFn | None,
    loss: LossFn | None,
    params: Params,
    batch: Any,
    keep: Keep,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    sampler: Sampler | None = None,
    prunable: Prunable = None,
    groups: Groups | None = None,
) -> Mask:
    """Scores once and selects once: by default the ``keep`` highest scores.

    Works under jit and vmap, where ``keep`` may be traced and values are not checked. Bind options of a score with
    ``functools.partial``.

    Args:
        score: one of :mod:`sketchprune.scores`, or any function with their signature.
        apply: the network.
        loss: the loss; None for a score that does not use it.
        params: the parameters.
        batch: inputs and targets.
        keep: how many weights (or groups) are kept, in all or for each leaf.
        mask: what is pruned already: the pruned network is scored, and pruned further.
        key: for the score and the sampler, which each get a part of it.
        sampler: `top` by default, or one made by `proportional`.
        prunable: which leaves may be pruned, as for `masks.prunable`; passed on to the score.
        groups: what is pruned as a whole, as for `masks.group_scores`; None for single weights.

    Returns:
        A mask, as the sampler makes it.

    Raises:
        ValueError: for scores that are NaN (naming the leaf), all zero, or infinite where they should rank weights; for
            an empty leaf; for a ``keep`` that is too large; and without a key where the sampler draws.

    Cost: one score. Compiled once for each score (with its options), apply and loss.

    >>> from sketchprune import scores
    >>> batch = (jnp.ones((1, 3)), None)
    >>> one_shot(scores.synflow, lambda w, x: x @ w, None, jnp.array([1.0, -3.0, 2.0]), batch, 2).tolist()
    [False, True, True]
    """
    check_leaves(params)
    _check_samples_apart(score, apply, params, batch)
    score_key, sampler_key = _split(key)
    chosen = masks.prunable(params, prunable)
    functions = {"score": static(score), "apply": static(apply), "loss": static(loss)}
    scores, facts = _scored(params, batch, mask, score_key, prunable=_static_choice(chosen, prunable), **functions)
    check_scores(scores, facts, keep, "", chosen)
    return select(scores, keep, key=sampler_key, sampler=sampler, prunable=chosen, groups=groups)


@checked
def iterative(
    score: ScoreFn,
    apply: ApplyFn | None,
    loss: LossFn | None,
    params: Params,
    batch: Any,
    keeps: Keeps,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    sampler: Sampler | None = None,
    prunable: Prunable = None,
    groups: Groups | None = None,
) -> Mask:
    """Scores and selects round after round, each time scoring the network that is left.

    Runs as a loop over one compiled round. Under jit or vmap it is one ``lax.scan``, in which values are not checked
    and convolutions are many times slower on a CPU.

    Args:
        score: as for `one_shot`.
        apply: the network.
        loss: the loss; None for a score that does not use it.
        params: the parameters.
        batch: inputs and targets.
        keeps: how many weights (or groups) are left after each round, in all or for each leaf: `exponential_schedule`,
            `linear_schedule` or `one_at_a_time_schedule`.
        mask: what is pruned already. If it is a sketch, each round scores the weights that are left at its values.
        key: for the score and the sampler, which get another part of it in each round.
        sampler: `top` by default, or another one that keeps exact counts. Of a sketch, the values are dropped.
        prunable: as for `one_shot`.
        groups: as for `one_shot`.

    Returns:
        A boolean mask.

    Raises:
        ValueError: as `one_shot`, naming the round; for counts that grow; and for a sampler that kept another number of
            weights than it was asked for.

    Cost: one score for each round.
    Source: tanaka2020synflow, paths/critical-compression.

    >>> from sketchprune import scores
    >>> batch, w = (jnp.ones((1, 3)), None), jnp.array([1.0, -3.0, 2.0])
    >>> iterative(scores.synflow, lambda w, x: x @ w, None, w, batch, [2, 1]).tolist()
    [False, True, False]
    """
    check_leaves(params)
    _check_samples_apart(score, apply, params, batch)
    chosen = masks.prunable(params, prunable)
    counted = jax.eval_shape(lambda params: _counted(params, groups, chosen), params)
    keeps = check_rounds(keeps, jax.tree.map(lambda leaf, pruned: leaf.size if pruned else 0, counted, chosen))
    rounds = len(jax.tree.leaves(keeps)[0])
    if mask is not None:
        jax.eval_shape(masks.apply, params, mask)  # raises where their shapes differ
    sampler = sampler or top
    functions = {"score": static(score), "apply": static(apply), "loss": static(loss), "sampler": static(sampler)}
    options = {"prunable": _static_choice(chosen, prunable), "groups": groups}
    run = functools.partial(_round, params, batch, mask, **options, **functions)
    left = jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), bool), params)

    def arguments(number: int | Array) -> tuple[Key | None, Keep]:
        """The key and the counts of a round."""
        at = jax.tree.map(lambda counts: counts[number], keeps)
        return (None if key is None else jax.random.fold_in(key, number)), at

    if any(map(_checks.traced, jax.tree.leaves((params, batch, mask, key, keeps)))):
        return lax.scan(lambda left, number: (run(left, *arguments(number))[0], None), left, jnp.arange(rounds))[0]
    for number in range(rounds):
        round_key, keep = arguments(number)
        left, facts, kept = run(left, round_key, keep)
        where = f" in round {number + 1} of {rounds}"
        check_scores(params, facts, keep, where, chosen)
        check_counts(params, facts, kept, keep, sampler, where, "weights" if groups is None else "groups")
    return left


@checked
def select(
    scores: Scores,
    keep: Keep,
    *,
    key: Key | None = None,
    sampler: Sampler | None = None,
    prunable: Prunable = None,
    groups: Groups | None = None,
) -> Mask:
    """A mask from scores, over all layers together or layer by layer.

    Args:
        scores: a pytree of floats.
        keep: one count; or one for each leaf, which is then pruned by itself with a key of its own. Leaves that are
            never pruned are kept whole.
        key: for the sampler.
        sampler: `top` by default.
        prunable: which leaves may be pruned, for ``keep`` by layer and for groups: what the scores were taken with.
        groups: what is kept or pruned as a whole, as for `masks.group_scores`; None for single weights. In a group that
            is kept, weights that are pruned already stay so.

    Returns:
        A mask, as the sampler makes it.

    Raises:
        ValueError: as the sampler, for a ``keep`` of another structure, and as `masks.group_scores`.

    Cost: that of the sampler.

    >>> scores = {"first": jnp.array([[3.0, 4.0]]), "second": jnp.array([[1.0], [2.0]])}
    >>> mask = select(scores, {"first": 1, "second": 1})
    >>> mask["first"].tolist(), mask["second"].tolist()
    ([[False, True]], [[False], [True]])
    >>> select(jnp.array([[3.0, 4.0], [1.0, 5.0]]), 1, groups="columns").tolist()
    [[False, True], [False, True]]
    """
    sampler = sampler or top
    if groups is not None:
        chosen = masks.prunable(scores, prunable)
        kept = select(_counted(scores, groups, chosen), keep, key=key, sampler=sampler, prunable=chosen)
        return masks.spread(kept, scores)
    if jax.tree.structure(keep) == jax.tree.structure(0):
        return sampler(key, scores, keep)
    _checks.same_structure("keep", keep, "params, or one number", scores)
    leaves, structure = jax.tree.flatten(scores)
    touched, counts = jax.tree.leaves(masks.prunable(scores, prunable)), jax.tree.leaves(keep)
    keys = [None] * len(leaves) if key is None else list(jax.random.split(key, len(leaves)))
    parts = [
        sampler(*part) if pruned else jnp.ones(part[1].shape, bool)
        for pruned, part in zip(touched, zip(keys, leaves, counts, strict=True), strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def _check_samples_apart(score: ScoreFn, apply: ApplyFn | None, params: Params, batch: Any) -> None:
    """Refuses what a score of :mod:`sketchprune.scores` refuses, which it cannot see inside a compiled program."""
    uses = getattr(score.func if isinstance(score, functools.partial) else score, "uses", "params")
    if uses != "params" and apply is not None and isinstance(batch, Sequence) and hasattr(batch[0], "shape"):
        check_samples_apart(apply, params, batch[0])


@functools.partial(jax.jit, static_argnames=("score", "apply", "loss", "prunable"))
def _scored(params, batch, mask, key, *, score, apply, loss, prunable) -> tuple[Scores, ScoreFacts]:
    """The scores, and what is wrong with them."""
    chosen, option = _choice(params, prunable)
    scores = score(apply, loss, params, batch, mask=mask, key=key, **option)
    return scores, score_facts(scores, mask, chosen)


@functools.partial(jax.jit, static_argnames=("score", "apply", "loss", "sampler", "prunable", "groups"))
def _round(
    params, batch, mask, left, key, keep, *, score, apply, loss, sampler, prunable, groups
) -> tuple[Mask, ScoreFacts, Int[Array, "leaves"]]:
    """One round: what is left of the mask, what is wrong with the scores, and how many weights each leaf keeps."""
    score_key, sampler_key = _split(key)
    # The weights of a sketch stay: jnp.where keeps the dtype of the mask, which masks.apply on it would not.
    mask = left if mask is None else jax.tree.map(lambda kept, m: jnp.where(kept, m, jnp.zeros_like(m)), left, mask)
    chosen, option = _choice(params, prunable)
    scores = score(apply, loss, params, batch, mask=mask, key=score_key, **option)
    counted = _counted(scores, groups, chosen)
    drawn = select(counted, keep, key=sampler_key, sampler=sampler, prunable=chosen)
    selected = jax.tree.map(lambda m: m != 0, drawn)
    facts, kept = score_facts(scores, mask, chosen), kept_counts(selected, chosen)
    if groups is None:
        return selected, facts, kept
    available = kept_counts(jax.tree.map(jnp.isfinite, counted), chosen)
    return masks.spread(selected, scores), facts._replace(available=available), kept


def _counted(tree: Any, groups: Groups | None, chosen: PyTree[bool]) -> Any:
    """What ``keep`` counts: the weights, or the groups that they make."""
    return tree if groups is None else masks.group_scores(tree, groups, prunable=chosen)


def _static_choice(chosen: PyTree[bool], prunable: Prunable) -> tuple[bool, ...] | None:
    """Which leaves may be pruned, as a static argument; None for the default, which scores need not be told."""
    return None if prunable is None else tuple(jax.tree.leaves(chosen))


def _choice(params: Params, prunable: tuple[bool, ...] | None) -> tuple[PyTree[bool], dict[str, PyTree[bool]]]:
    """Which leaves may be pruned, and the option that tells it to a score."""
    if prunable is None:
        return masks.prunable(params), {}
    chosen = jax.tree.structure(params).unflatten(prunable)
    return chosen, {"prunable": chosen}


def _split(key: Key | None) -> tuple[Key | None, Key | None]:
    """A key for the score and one for the sampler."""
    return (None, None) if key is None else tuple(jax.random.split(key))
