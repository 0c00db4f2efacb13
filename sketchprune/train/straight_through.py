"""Edge-popup: a score for each frozen weight is trained, and the weights of the highest scores are used."""

import functools
import math

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.train._sources import (
    Chosen,
    Keep,
    available,
    check_keep,
    chosen_leaves,
    largest,
    on_floating_leaves,
    support,
)
from sketchprune.train._steps import Recipe, Training, check_batches, restricted
from sketchprune.train.tickets import Ticket
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, Prunable


@checked
def edge_popup(
    apply: ApplyFn,
    loss: LossFn,
    params: Params,
    data: Batch,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    keep: Keep,
    mask: Mask | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    prunable: Prunable = None,
) -> Ticket:
    """Finds a mask of frozen weights: at each step the network uses the ``keep`` weights of the highest scores.

    m = top_k(s) inside the source, and ∂L/∂s_i := ∂L/∂m_i = w_i ∂L/∂(m_i w_i), as if top_k were the identity: the
    straight-through gradient, of all weights of the source, in use or not.

    Scores start uniform on [0, 1/√fan-in), where the fan-in is the product of all axes but the last. The published form
    keeps a fraction of each layer: give ``keep`` as a pytree of counts. With one count for all layers, scores compete
    across layers in units of 1/√fan-in: each layer keeps the same fraction at the start. Training may then empty a
    layer, and no gradient passes an empty one.

    Leaves that are never pruned, such as biases, are trained; close over them in ``apply`` to freeze them.

    Args:
        apply: the network.
        loss: ``loss(outputs, targets)``, one number.
        params: the weights.
        data: inputs and targets.
        optimizer: of the scores; make it once.
        steps: how many steps are taken.
        keep: how many prunable weights are used, in all or for each leaf; may be traced.
        mask: the source, whose support may be used; None for all weights.
        key: for the first scores and the batches.
        batch_size: how many samples a step sees; None for all.
        prunable: which leaves have scores, as for :func:`sketchprune.masks.prunable`.

    Returns:
        The ticket, with exactly ``keep`` weights. If a score is NaN, so are the network and its losses.

    Raises:
        ValueError: as :func:`sketchprune.train.fit`, without a key, and for a ``keep`` above what the source keeps;
            where that is traced, all of it is used.

    Cost: one gradient and one selection for each step.
    Source: ramanujan2020hidden, lottery/edge-popup.

    >>> data = (jnp.eye(3), jnp.array([2.0, 0.0, 0.0]))
    >>> loss = lambda outputs, y: jnp.sum((outputs - y) ** 2) / 2
    >>> options = {"keep": 1, "mask": jnp.array([True, True, False]), "key": jax.random.key(0)}
    >>> ticket = edge_popup(lambda w, x: x @ w, loss, jnp.array([2.0, 1.0, 2.0]), data, optax.sgd(1.0), 9, **options)
    >>> ticket.params.tolist(), ticket.mask.tolist()
    ([2.0, 0.0, 0.0], [True, False, False])
    """
    check_batches(params, data, steps, key, batch_size)
    _checks.needed(key, "since the first scores are drawn")
    check_keep(keep, available(params, mask, prunable))
    recipe = Recipe.of(apply, loss, optimizer, batch_size)
    chosen = chosen_leaves(params, prunable)
    return _edge_popup(params, data, keep, mask, key, recipe=recipe, steps=steps, chosen=chosen)


@functools.partial(jax.jit, static_argnames=("recipe", "steps", "chosen"))
@on_floating_leaves
def _edge_popup(params, data, keep, mask, key, *, recipe: Recipe, steps: int, chosen: Chosen) -> Ticket:
    source = support(params, mask)
    weights = restricted(params, source)
    pruned = jax.tree.structure(params).unflatten(chosen)
    score_key, batch_key = jax.random.split(key)

    def used(variables: Params) -> Mask:
        ranks = jax.tree.map(lambda score: lax.stop_gradient(score) / _score_range(score.shape), variables)
        return largest(ranks, keep, source, chosen)

    def network(variables: Params, kept: Mask) -> Params:
        """The parameters in use. Their derivative in the scores is that of m∘w in m."""

        def leaf(pruned, score, weight, kept):
            # The second term is zero, or NaN where the score is not finite.
            return jnp.where(kept, weight, 0) + weight * (score - lax.stop_gradient(score)) if pruned else score

        return jax.tree.map(leaf, pruned, variables, weights, kept)

    recipe = recipe._replace(
        apply=lambda variables, x, apply=recipe.apply: apply(network(variables, used(variables)), x)
    )
    training = Training(recipe, data, batch_key)
    scores = _first_scores(score_key, weights)
    start = jax.tree.map(lambda pruned, score, weight: score if pruned else weight, pruned, scores, weights)
    step = functools.partial(training.advance, source)
    end, losses = lax.scan(step, training.start(start, source), jnp.arange(steps))
    kept = used(end.params)
    return Ticket(network(end.params, kept), kept, losses)


def _first_scores(key: Key, params: Params) -> Params:
    """Uniform on [0, 1/√fan-in), with a key for each leaf."""
    leaves, structure = jax.tree.flatten(params)

    def drawn(key: Array, leaf: Array) -> Array:
        return jax.random.uniform(key, leaf.shape, leaf.dtype, maxval=_score_range(leaf.shape))

    return structure.unflatten(map(drawn, jax.random.split(key, len(leaves)), leaves))


def _score_range(shape: tuple[int, ...]) -> float:
    """1/√fan-in, the end of the range of a leaf's first scores."""
    return max(1, math.prod(shape[:-1])) ** -0.5
