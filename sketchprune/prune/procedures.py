"""Pruning at initialisation: a score, a sampler and how many weights to keep; at once, or round by round.

``keep`` is one number for all layers together, or a pytree like the parameters with one number a leaf: then each
layer is pruned by itself (:func:`layer_counts`). What is never pruned has the count 0 there.

A sampler is ``sampler(key, scores, keep) -> Mask``: :func:`top`, :func:`fixed_size`, :func:`multinomial` or
:func:`poisson`. The last three draw in proportion to |score|, so that a score that cannot be one side of zero
only (GraSP) is a law as well. They never keep what is pruned already, and always keep what is never pruned.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from sketchprune import _checks, laws, masks, sketch
from sketchprune._arithmetic import count_true
from sketchprune._static import static
from sketchprune.prune import counts as _counts
from sketchprune.prune.counts import count as count
from sketchprune.prune.counts import exponential as exponential
from sketchprune.prune.counts import layer_counts as layer_counts
from sketchprune.prune.counts import linear as linear
from sketchprune.prune.counts import one_at_a_time as one_at_a_time
from sketchprune.prune.counts import size as size
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, Scores

Keep = int | Int[Array, ""] | PyTree[int | Int[Array, ""]]
ScoreFn = Callable[..., Scores]
Sampler = Callable[[Any, Scores, Any], Mask]
_DRAWS = "since the sampler draws"


def one_shot(
    score: ScoreFn,
    apply: ApplyFn,
    loss: LossFn | None,
    params: Params,
    batch: Batch,
    keep: Keep,
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    sampler: Sampler | None = None,
) -> Mask:
    """Score once, select once: by default the ``keep`` highest scores.

    ``score`` is one of :mod:`sketchprune.scores` or has their signature; with ``mask`` the pruned network is scored
    and pruned further. ``key`` is split for the score and the sampler. Works under jit and vmap with a static or
    traced ``keep`` (:func:`multinomial` needs ``max_budget`` for that). ValueError, naming the leaf, for NaN scores,
    for infinite ones of weights that may be pruned and are not yet, and for empty leaves; for scores that are all
    zero, which select nothing, in all or in a layer with a count of its own; for too large a ``keep``; and without a
    key where the sampler needs one. One score.
    Compiled once for each score, apply and loss; options bound by functools.partial are compared by value.

    >>> from sketchprune import scores
    >>> batch = (jnp.ones((1, 3)), None)
    >>> one_shot(scores.synflow, lambda w, x: x @ w, None, jnp.array([1.0, -3.0, 2.0]), batch, 2)
    Array([False,  True,  True], dtype=bool)
    """
    _counts.check_leaves(params)
    score_key, sampler_key = _split(key)
    scores, facts = _scored(static(score), static(apply), static(loss), params, batch, mask, score_key)
    _check_facts(scores, facts, keep, "")
    return select(scores, keep, key=sampler_key, sampler=sampler or top)


def iterative(
    score: ScoreFn,
    apply: ApplyFn,
    loss: LossFn | None,
    params: Params,
    batch: Batch,
    keeps: Sequence[int] | Int[Array | np.ndarray, "rounds"] | PyTree[Int[Array | np.ndarray, "rounds"]],
    *,
    mask: Mask | None = None,
    key: Key | None = None,
    sampler: Sampler | None = None,
) -> Mask:
    """Score and select, round after round, each time scoring the network that is left.

    ``keeps`` says how many weights are left after each round, exactly: :func:`exponential`, :func:`linear` or
    :func:`one_at_a_time`. The sampler is :func:`top` (by default) or :func:`fixed_size`, which keep exact counts.
    With a sketch as ``mask`` each round scores at its weights, those that are left; the mask returned selects.
    Runs as a loop over one compiled round; under jit or vmap as one lax.scan, whose convolutions are many times
    slower on a CPU. ValueError as :func:`one_shot`, naming the round, and for counts that grow. One score a round.
    Source: tanaka2020synflow, paths/critical-compression.

    >>> from sketchprune import scores
    >>> batch, w = (jnp.ones((1, 3)), None), jnp.array([1.0, -3.0, 2.0])
    >>> iterative(scores.synflow, lambda w, x: x @ w, None, w, batch, one_at_a_time(3, 1))
    Array([False,  True, False], dtype=bool)
    """
    sampler = sampler or top
    if sampler not in (top, fixed_size):
        raise ValueError(f"sampler is {sampler}; it takes top or fixed_size, which keep exact counts")
    _counts.check_leaves(params)
    keeps = _check_rounds(keeps, params)
    rounds = len(jax.tree.leaves(keeps)[0])
    if mask is not None:
        jax.eval_shape(masks.apply, params, mask)  # raises where their shapes differ
    run = functools.partial(_round, static(score), static(apply), static(loss), sampler, params, batch, mask)
    left = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)

    def now(number: int | Array) -> tuple[Key | None, Keep]:
        at = jax.tree.map(lambda counts: counts[number], keeps)
        return (None if key is None else jax.random.fold_in(key, number)), at

    if _traced((params, batch, mask, key, keeps)):
        return lax.scan(lambda left, number: (run(left, *now(number))[0], None), left, jnp.arange(rounds))[0]
    for number in range(rounds):
        key_now, keep = now(number)
        left, facts = run(left, key_now, keep)
        where = f" in round {number + 1} of {rounds}"
        _check_facts(params, facts, keep, where)
        kept, wanted = int(facts.kept), sum(map(int, jax.tree.leaves(keep)))
        if kept != wanted:
            raise ValueError(f"keeps is {wanted}{where}; it takes at most {kept}, which is all that can be kept")
    return left


def select(scores: Scores, keep: Keep, *, key: Key | None = None, sampler: Sampler | None = None) -> Mask:
    """A mask from scores, over all layers together or layer by layer.

    A pytree ``keep`` gives each leaf its own count and its own key. Leaves that are never pruned are kept whole.
    ValueError as the sampler raises, and for a ``keep`` of another structure.

    >>> scores = {"first": jnp.array([[3.0, 4.0]]), "second": jnp.array([[1.0], [2.0]])}
    >>> jax.tree.map(jnp.ravel, select(scores, {"first": 1, "second": 1}))
    {'first': Array([False,  True], dtype=bool), 'second': Array([False,  True], dtype=bool)}
    """
    sampler = sampler or top
    if jax.tree.structure(keep) == jax.tree.structure(0):
        return sampler(key, scores, keep)
    if jax.tree.structure(keep) != jax.tree.structure(scores):
        raise ValueError(f"keep is {keep}; it takes a number, or one for each leaf of params")
    leaves, structure = jax.tree.flatten(scores)
    prunable, counts = jax.tree.leaves(masks.prunable(scores)), jax.tree.leaves(keep)
    keys = [None] * len(leaves) if key is None else list(jax.random.split(key, len(leaves)))
    parts = [
        sampler(*part) if pruned else jnp.ones(part[1].shape, bool)
        for pruned, part in zip(prunable, zip(keys, leaves, counts, strict=True), strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def top(key: Key | None, scores: Scores, keep: int | Int[Array, ""]) -> Mask:
    """The ``keep`` highest scores, ties by index: :func:`sketchprune.masks.keep_top`. Does not use ``key``.

    >>> top(None, jnp.array([0.5, 2.0, 0.5]), 2)
    Array([ True,  True, False], dtype=bool)
    """
    del key
    return masks.keep_top(scores, keep)


def fixed_size(key: Key | None, scores: Scores, keep: int | Int[Array, ""]) -> Mask:
    """Exactly ``keep`` weights, drawn one after another in proportion to |score|: a boolean mask.

    ValueError when fewer scores than that are not zero. See :class:`sketchprune.laws.FixedSize`.

    >>> fixed_size(jax.random.key(0), jnp.array([0.3, 0.0, -0.7]), 2)
    Array([ True, False,  True], dtype=bool)
    """
    return _with_whole_leaves(scores, laws.FixedSize(_weights(scores), keep).sample(_checks.needed(key, _DRAWS)))


def multinomial(
    key: Key | None,
    scores: Scores,
    keep: int | Int[Array, ""],
    *,
    max_budget: int | None = None,
    binary: bool = False,
) -> Mask:
    """The sampling sketch of ``keep`` draws with p ∝ |score|: at most so many weights, scaled by c_i/(s p_i).

    A traced ``keep`` needs ``max_budget``, a bound on it. ``binary`` keeps the weights as they are. See
    :class:`sketchprune.laws.Multinomial`.

    >>> multinomial(jax.random.key(0), jnp.array([0.0, 2.0]), 3)
    Array([0., 1.], dtype=float64)
    """
    probabilities = sketch.data_free_probabilities(_weights(scores))
    law = laws.Multinomial(probabilities, keep, max_budget=max_budget, binary=binary)
    return _with_whole_leaves(scores, law.sample(_checks.needed(key, _DRAWS)))


def poisson(key: Key | None, scores: Scores, keep: int | Int[Array, ""], *, binary: bool = False) -> Mask:
    """Each weight by itself at a rate π ∝ |score| up to 1, ``keep`` of them on average, scaled by 1/π_i.

    ``binary`` keeps them as they are. See :class:`sketchprune.laws.Poisson`.

    >>> poisson(jax.random.key(0), jnp.array([0.0, 2.0]), 1)
    Array([0., 1.], dtype=float64)
    """
    law = laws.Poisson.proportional(_weights(scores), keep, binary=binary)
    return _with_whole_leaves(scores, law.sample(_checks.needed(key, _DRAWS)))


class _Facts(NamedTuple):
    undefined: Bool[Array, "leaves"]
    """Which leaves have a NaN score."""
    infinite: Bool[Array, "leaves"]
    """Which leaves have an infinite score that does not say never pruned or pruned already: it overflowed."""
    telling: Bool[Array, "leaves"]
    """Which leaves have a finite score that differs from zero."""
    kept: Int[Array, ""]
    """How many weights of those that may be pruned the mask keeps."""


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _scored(score, apply, loss, params, batch, mask, key) -> tuple[Scores, _Facts]:
    scores = score(apply, loss, params, batch, mask=mask, key=key)
    return scores, _facts(scores, mask, jax.tree.map(jnp.isfinite, scores))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _round(score, apply, loss, sampler, params, batch, mask, left, key, keep) -> tuple[Mask, _Facts]:
    """What is left after a round, of what the rounds before left of the mask."""
    score_key, sampler_key = _split(key)
    # The weights of a sketch stay: jnp.where keeps the dtype of the mask, which masks.apply on it would not.
    mask = left if mask is None else jax.tree.map(lambda kept, m: jnp.where(kept, m, jnp.zeros_like(m)), left, mask)
    scores = score(apply, loss, params, batch, mask=mask, key=score_key)
    selected = select(scores, keep, key=sampler_key, sampler=sampler)
    return selected, _facts(scores, mask, selected)


def _facts(scores: Scores, mask: Mask | None, selected: Mask) -> _Facts:
    """Of scores at a mask and of what they selected."""
    mask = jax.tree.map(jnp.ones_like, scores) if mask is None else mask
    leaves = zip(*map(jax.tree.leaves, (scores, mask, selected, masks.prunable(scores))), strict=True)
    undefined, infinite, telling, kept = jnp.stack(
        [
            count_true(
                jnp.isnan(score),
                ((score == jnp.inf) | ((score == -jnp.inf) & (before != 0))) & pruned,
                jnp.isfinite(score) & (score != 0),
                (after != 0) & pruned,
            )
            for score, before, after, pruned in leaves
        ],
        axis=1,
    )
    return _Facts(undefined > 0, infinite > 0, telling > 0, kept.sum())


def _check_facts(tree: PyTree, facts: _Facts, keep: Keep, where: str) -> None:
    names = [f"scores{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for kind, found in ("NaN", facts.undefined), ("infinite", facts.infinite):
        known = _checks.concrete(found)
        if known is not None and known.any():
            raise ValueError(f"{names[int(known.argmax())]} has {kind} entries{where}; it takes finite numbers")
    telling = _checks.concrete(facts.telling)
    if telling is None:
        return
    idle = f"are all zero{where}; it takes some that differ, since these select nothing"
    if not telling.any():
        raise ValueError(f"scores {idle}")
    if jax.tree.structure(keep) == jax.tree.structure(tree):
        counts, prunable = map(_checks.concrete, jax.tree.leaves(keep)), jax.tree.leaves(masks.prunable(tree))
        for name, tells, count, pruned in zip(names, telling, counts, prunable, strict=True):
            if pruned and not tells and count is not None and count.any():
                raise ValueError(f"{name} {idle}")


def _check_rounds(keeps: Any, params: Params) -> Any:
    """One number a round, which may not grow, nor start above the number of weights."""
    by_layer = jax.tree.structure(keeps) == jax.tree.structure(params) and all(map(np.ndim, jax.tree.leaves(keeps)))
    if not by_layer and isinstance(keeps, Sequence):
        keeps = np.asarray(keeps)
    if not by_layer and jax.tree.structure(keeps) != jax.tree.structure(0):
        raise ValueError("keeps is a pytree of another structure than params; it takes one array, or one a leaf")
    if len(lengths := {np.shape(counts)[:1] for counts in jax.tree.leaves(keeps)}) > 1:
        raise ValueError(f"keeps has leaves of the lengths {sorted(lengths)}; it takes one number of rounds")
    each = jax.tree.map(lambda leaf: leaf.size, params) if by_layer else size(params)

    def check(counts: Any, most: int) -> None:
        known = _checks.whole("keeps", counts, least=0)
        if known is not None and (known.ndim != 1 or not known.size or (np.diff(known) > 0).any() or known[0] > most):
            raise ValueError(f"keeps is {known}; it takes counts that do not grow, one a round, none above {most}")

    jax.tree.map(check, keeps, each)
    return jax.tree.map(jnp.asarray, keeps)


def _split(key: Key | None) -> tuple[Key | None, Key | None]:
    """A key for the score and one for the sampler."""
    return (None, None) if key is None else tuple(jax.random.split(key))


def _traced(tree: PyTree) -> bool:
    """Whether any array of a pytree is traced."""
    return any(map(_checks.traced, jax.tree.leaves(tree)))


def _weights(scores: Scores) -> PyTree[Float[Array, "..."]]:
    """|score|, and 0 for what is pruned already or never pruned; a NaN stays one."""
    return jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 0, abs(leaf)), scores)


def _with_whole_leaves(scores: Scores, mask: Mask) -> Mask:
    """The mask with all ones where the scores say that nothing is pruned."""
    return jax.tree.map(lambda score, kept: jnp.where(score == jnp.inf, jnp.ones((), kept.dtype), kept), scores, mask)
