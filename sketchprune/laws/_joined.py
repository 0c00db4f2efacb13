"""Pytrees as one vector, and sums that run over all leaves: what the laws share."""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sketchprune import _checks

MAX_OUTCOMES = 2**20
"""The largest number of masks that a law enumerates."""


def joined(tree: PyTree) -> Float[Array, "d"]:
    """All leaves as one vector, of at least float32."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves).astype(jnp.promote_types(jnp.result_type(*leaves), jnp.float32))


def split(flat: Array, tree: PyTree) -> PyTree[Array]:
    """The last axis of ``flat`` cut into leaves of the shapes in ``tree``; the axes before it stay in front."""
    leaves, structure = jax.tree.flatten(tree)
    ends = [0, *itertools.accumulate(leaf.size for leaf in leaves)]
    parts = [
        flat[..., a:b].reshape(*flat.shape[:-1], *leaf.shape)
        for a, b, leaf in zip(ends, ends[1:], leaves, strict=False)
    ]
    return jax.tree.unflatten(structure, parts)


def tree_size(tree: PyTree) -> int:
    """The number of entries of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def tree_sum(tree: PyTree) -> Float[Array, ""]:
    """The sum over the entries of all leaves."""
    return functools.reduce(operator.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)])


def check_count(name: str, items: int, count: int) -> None:
    """Refuses to enumerate more masks than :data:`MAX_OUTCOMES`."""
    if count > MAX_OUTCOMES:
        raise ValueError(
            f"{name} has {items} entries, hence {count} outcomes; it takes at most {MAX_OUTCOMES} to enumerate"
        )


def check_support(name: str, squares: PyTree, chances: PyTree) -> None:
    """Refuses a law that never picks an item that is not zero."""
    labelled, _ = jax.tree_util.tree_flatten_with_path(chances)
    for (path, chance), square in zip(labelled, jax.tree.leaves(squares), strict=True):
        known_square, known_chance = _checks.concrete(square), _checks.concrete(chance)
        if known_square is None or known_chance is None:
            continue
        missed = np.ravel((known_square > 0) & (known_chance == 0))
        if missed.any():
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} vanishes at item {missed.argmax()}, which is not zero: the error "
                f"is infinite; it takes positive entries there"
            )


def pairwise(gram: Float[Array, "d d"], both: Float[Array, "d d"]) -> Float[Array, ""]:
    """Σ⟨B_i, B_j⟩Q_ij for Q_ij = P(neither i nor j is kept), which is not negative but for rounding."""
    return jnp.maximum(jnp.sum(gram * both), 0)
