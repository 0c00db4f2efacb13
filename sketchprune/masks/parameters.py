"""What may be pruned, and what a mask does to parameters."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.types import Mask, Params, Prunable


@checked
def prunable(params: Params, which: Prunable = None) -> PyTree[bool]:
    """Which leaves pruning touches: by default those with two axes or more, or the only leaf.

    Biases and norm scales, which have one axis, are then not pruned. Scores, `prune` and laws take ``which`` as their
    argument ``prunable``, so that any layer can stay dense and biases can be pruned too.

    Args:
        params: the parameters, of which only shapes count.
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
    """
    only = len(jax.tree.leaves(params)) == 1
    if which is None:
        return jax.tree.map(lambda leaf: only or jnp.ndim(leaf) >= 2, params)
    if callable(which):
        chosen = jax.tree_util.tree_map_with_path(lambda path, _: bool(which(jax.tree_util.keystr(path))), params)
    else:
        chosen = which
    if jax.tree.structure(chosen) != jax.tree.structure(params):
        raise ValueError(f"prunable is {chosen}; it takes a function of a path, or one boolean for each leaf of params")
    if not any(jax.tree.leaves(chosen)):
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(f"prunable chooses none of the leaves {paths}; it takes one that chooses some")
    return chosen


@checked
def apply(params: Params, mask: Mask) -> Params:
    """The pruned parameters, m∘θ.

    A boolean mask puts zeros whatever the weights are, a NaN included; a floating one multiplies.

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

    def pruned(path, weight: ArrayLike, kept: ArrayLike) -> Array:
        if jnp.shape(weight) != jnp.shape(kept):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has shape {jnp.shape(kept)}; it takes params' {jnp.shape(weight)}")
        if jnp.result_type(weight) == jnp.bool_ and jnp.result_type(kept) != jnp.bool_:
            name = "params" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has dtype bool, as masks have; it takes numbers, in apply(params, mask)")
        if jnp.result_type(kept) == jnp.bool_:
            return jnp.where(kept, weight, 0)
        return (jnp.asarray(weight) * kept).astype(jnp.result_type(weight))

    return jax.tree_util.tree_map_with_path(pruned, params, mask)
