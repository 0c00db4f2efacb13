"""Methods of pruning: a name, and a function that draws a mask of a density."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sketchprune import _checks, laws, prune
from sketchprune._boundary import checked
from sketchprune.prune.samplers import Sampler
from sketchprune.types import ApplyFn, Batch, Key, LossFn, Mask, Params, ScoreFn

Draw = Callable[[ApplyFn, LossFn, Params, Batch, float, Key], Mask]
"""``draw(apply, loss, params, batch, density, key) -> mask``."""
SAMPLERS: dict[str, Sampler] = {"top": prune.top, "proportional": prune.proportional(laws.FixedSize)}
"""Name -> how a mask of an exact size follows from a score: the highest scores, or drawn in proportion to them."""


@dataclass(frozen=True)
class Method:
    """A way to prune: any function that draws a mask, and what the table calls it.

    Attributes:
        score: The name of the score, or of whatever else decides, such as a law.
        draw: ``draw(apply, loss, params, batch, density, key) -> mask``, where the density is over the prunable weights
            together. It raises ValueError where no mask can be drawn; the run is then kept as one that failed.
        sampler: How the mask follows from the score; empty where there is no score.
        rounds: In how many rounds; 1 for pruning at once.

    Example:
        >>> def uniform(apply, loss, params, batch, density, key):
        ...     return laws.ErdosRenyiCounts.at_density(params, density, rule="uniform").sample(key)
        >>> Method("uniform", uniform).label, scored("snip", max, rounds=100).label
        ('uniform', 'snip, top, 100 rounds')
    """

    score: str
    draw: Draw
    sampler: str = ""
    rounds: int = 1

    @property
    def label(self) -> str:
        """What distinguishes it from other methods, in words."""
        return label(self.score, self.sampler, self.rounds)


def label(score: str, sampler: str, rounds: int) -> str:
    """The label of a method: its score, its sampler, and its rounds where there are several.

    Args:
        score: As in :class:`Method`.
        sampler: Likewise.
        rounds: Likewise.
    """
    parts = (score, sampler, f"{rounds} rounds" if rounds > 1 else "")
    return ", ".join(part for part in parts if part)


@checked
def scored(name: str, score: ScoreFn, *, sampler: str = "top", rounds: int = 1) -> Method:
    """The method that prunes by a score, at once or in rounds of :func:`sketchprune.prune.exponential_schedule`.

    Masks keep :func:`sketchprune.prune.count` weights of the density, exactly.

    Args:
        name: What the table calls the score.
        score: One of :mod:`sketchprune.scores`, or any function with their signature.
        sampler: "top" or "proportional".
        rounds: How often the network that is left is scored; 1 is :func:`sketchprune.prune.one_shot`.

    Returns:
        The method.

    Raises:
        ValueError: Another sampler, and rounds below 1.

    Cost:
        One score for each round.

    Example:
        >>> from sketchprune import scores, train
        >>> method = scored("magnitude", scores.magnitude)
        >>> network, loss, batch = lambda w, x: x @ w, train.cross_entropy, (jnp.ones((1, 4)), jnp.zeros(1, int))
        >>> method.draw(network, loss, jnp.array([1.0, -3.0, 2.0, 0.5]), batch, 0.5, jax.random.key(0)).tolist()
        [False, True, True, False]
    """
    _checks.whole("rounds", rounds, least=1)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; it takes {' or '.join(SAMPLERS)}")

    def draw(apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, density: float, key: Key) -> Mask:
        keep = prune.count(params, density)
        options: dict[str, Any] = {"key": key, "sampler": SAMPLERS[sampler]}
        if rounds == 1:
            return prune.one_shot(score, apply, loss, params, batch, keep, **options)
        keeps = prune.exponential_schedule(prune.size(params), keep, rounds)
        return prune.iterative(score, apply, loss, params, batch, keeps, **options)

    return Method(name, draw, sampler, rounds)


def _all_ones(apply: ApplyFn, loss: LossFn, params: Params, batch: Batch, density: float, key: Key) -> Mask:
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)


DENSE = Method("dense", _all_ones, rounds=0)
"""The network with all of its weights, which every sweep trains once for each seed."""
