"""Initial weights of random sparse networks."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._leaves import check_real, is_floating
from sketchprune.types import Key, Params


@checked
def he_normal(key: Key, params: Params, densities: PyTree) -> Params:
    """Random weights for a network that is masked at these densities: He's, divided by √p_l.

    Each leaf with two axes or more becomes N(0, 2/(p_l k)), with k its fan-in. A unit keeps p_l k of its weights on
    average, so under a random mask of density p_l ReLU layers neither shrink nor raise their inputs' mean square.
    Other leaves, such as biases, norm scales and whatever is not floating, stay as they are.

    Args:
        key: leaf i, in leaf order, uses ``fold_in(key, i)``.
        params: the parameters, of which shapes, dtypes and the other leaves are used. A kernel is [inputs, units] or
            [rows, columns, inputs, units].
        densities: p, a pytree with one number in (0, 1] for each leaf: those of a :class:`sketchprune.laws.ErdosRenyi`
            law, or those that a mask realises, ``masks.summary(mask).densities``. They may be traced.

    Returns:
        Parameters of the same structure, shapes and dtypes.

    Raises:
        ValueError: densities of another structure or outside (0, 1], and parameters without a floating leaf.

    Cost: O(weights).

    Source: gadhikar2023random.

    >>> params, densities = {"kernel": jnp.ones((200, 300)), "bias": jnp.ones(3)}, {"kernel": 0.25, "bias": 1.0}
    >>> drawn = he_normal(jax.random.key(0), params, densities)
    >>> round(float(jnp.var(drawn["kernel"])), 2), drawn["bias"].tolist()  # 2/(0.25 · 200)
    (0.04, [1.0, 1.0, 1.0])
    """
    check_real("params", params)
    leaves, structure = jax.tree.flatten(params)
    _checks.same_structure("densities", densities, "params", params)
    drawn = []
    for i, (leaf, density) in enumerate(zip(leaves, jax.tree.leaves(densities), strict=True)):
        _checks.interval("densities", density, closed=True)
        is_kernel = is_floating(leaf) and jnp.ndim(leaf) >= 2
        drawn.append(_he_leaf(jax.random.fold_in(key, i), leaf, density) if is_kernel else leaf)
    return jax.tree.unflatten(structure, drawn)


def _he_leaf(key: Key, leaf: Array, density: float | Float[Array, ""]) -> Array:
    """Normal weights of variance 2/(p k)."""
    fan_in = math.prod(leaf.shape[:-1])
    deviation = jnp.sqrt(2 / (jnp.asarray(density, leaf.dtype) * fan_in))
    return deviation * jax.random.normal(key, leaf.shape, leaf.dtype)
