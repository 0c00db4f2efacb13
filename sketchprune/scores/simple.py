"""Scores that look at no data: chance, and the size of the weights."""

import jax
import jax.numpy as jnp

from sketchprune.scores.contract import Pruned, score
from sketchprune.types import Params


@score(uses="params", needs_key="for random scores")
def random(net: Pruned) -> Params:
    """Random scores, independent and uniform on [0, 1).

    The top of them is a uniformly random mask of its size. Only ``params`` and ``key`` are used, so ``apply``, ``loss``
    and ``batch`` may be None.

    Args:
        net: what is scored; in a call its parts come as ``(None, None, params, None, mask=…, key=…)``.

    Returns:
        Scores shaped like the parameters.

    Raises:
        ValueError: without a key.

    Cost: O(d).
    Source: gadhikar2023random.

    >>> random(None, None, jnp.ones(2), None, key=jax.random.key(0)).shape
    (2,)
    """
    leaves, structure = jax.tree.flatten(net.params)
    keys = jax.random.split(net.key, len(leaves))
    return structure.unflatten([jax.random.uniform(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)])


@score(uses="params")
def magnitude(net: Pruned) -> Params:
    """The size of a weight, |θ_i|.

    Only ``params`` is used, so ``apply``, ``loss`` and ``batch`` may be None.

    Args:
        net: what is scored; in a call its parts come as ``(None, None, params, None, mask=…)``.

    Returns:
        Scores >= 0 shaped like the parameters.

    Cost: O(d).
    Source: frankle2019lottery.

    >>> magnitude(None, None, jnp.array([1.0, -2.0]), None).tolist()
    [1.0, 2.0]
    """
    return jax.tree.map(jnp.abs, net.params)
