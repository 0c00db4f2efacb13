"""What may be pruned, and what a mask does to parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._leaves import chosen_among, chosen_of_mask, is_array, is_floating
from sketchprune.types import Mask, Params, Prunable


@checked
def prunable(params: Params, which: Prunable = None) -> PyTree[bool]:
    """Which leaves pruning touches: by default those with two axes or more, or the only leaf.

    By default biases and norm scales, which have one axis, are not pruned. Scores, `prune` and laws take ``which`` as
    their argument ``prunable``, to keep any layer dense or to prune biases too.

    Leaves that are no floating numbers, such as counters and random keys, are never pruned, whatever ``which`` says.
    Only where no leaf is floating do all count, so that a mask of booleans may stand for the parameters.

    Args:
        params: the parameters, of which only shapes and dtypes count.
        which: a function from the path of a leaf, as jax.tree_util.keystr writes it, to whether it is pruned; or the
            pytree of booleans itself, as this function returns it.

    Returns:
        A pytree of Python booleans, known under any trace.

    Raises:
        ValueError: for booleans of another structure, and where no leaf may be pruned.

    Cost: O(leaves).

    >>> prunable({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}
    >>> prunable(jnp.ones(3))
    True
    >>> prunable([jnp.ones((2, 3)), jnp.ones((3, 1))], lambda path: path != "[1]")  # the last layer stays dense
    [True, False]
    >>> prunable({"weights": jnp.ones(3), "steps": 7})
    {'steps': False, 'weights': True}
    """
    weights = jax.tree.map(is_floating, params)
    return chosen_among(weights, params, which) if any(jax.tree.leaves(weights)) else chosen_of_mask(params, which)


@checked
def apply(params: Params, mask: Mask) -> Params:
    """The pruned parameters, m∘θ.

    A boolean mask puts zeros whatever the weights are, a NaN included; a floating one multiplies. Random keys, and what
    is no array, are handed on: no mask has a meaning there.

    Args:
        params: θ, a pytree of arrays.
        mask: m, a pytree of arrays of the same shapes.

    Returns:
        A pytree shaped like the parameters, in their dtypes.

    Raises:
        ValueError: for a mask of another structure, a leaf of another shape, and a boolean mask in the place of the
            parameters.

    Cost: O(d).

    >>> apply(jnp.array([1.0, -2.0, 3.0]), jnp.array([True, False, True])).tolist()
    [1.0, 0.0, 3.0]
    """
    _checks.same_structure("mask", mask, "params", params)

    swapped = not any(map(is_floating, jax.tree.leaves(params)))

    def pruned(path, weight: Any, kept: Any) -> Any:
        if not is_array(weight) or jnp.issubdtype(jnp.result_type(weight), jax.dtypes.prng_key):
            return weight
        if jnp.shape(weight) != jnp.shape(kept):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has shape {jnp.shape(kept)}; it takes params' {jnp.shape(weight)}")
        if swapped and jnp.result_type(weight) == jnp.bool_ and jnp.result_type(kept) != jnp.bool_:
            name = "params" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has dtype bool, as masks have; it takes numbers, in apply(params, mask)")
        if jnp.result_type(kept) == jnp.bool_:
            return jnp.where(kept, weight, jnp.zeros((), jnp.result_type(weight)))
        return (jnp.asarray(weight) * kept).astype(jnp.result_type(weight))

    return jax.tree_util.tree_map_with_path(pruned, params, mask)
