"""Masks: what may be pruned, what a mask does to parameters, exact selection by score.

A mask is a pytree of arrays shaped like the parameters, boolean where it selects and floating where it is a
sketch; a bare vector is a pytree. Random masks come from :mod:`sketchprune.laws`.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt

from sketchprune import _checks
from sketchprune._arithmetic import count_true
from sketchprune._boundary import checked
from sketchprune._leaves import chosen_among, chosen_of_mask, is_array, is_floating
from sketchprune.types import Count, Mask, Params, Prunable, Scores


@checked
def prunable(params: Params, which: Prunable = None) -> PyTree[bool]:
    """Which leaves pruning touches: by default those with two axes or more, or the only leaf.

    Biases and norm scales, which have one axis, are then not pruned. Scores, `prune` and laws take ``which`` as their
    argument ``prunable``, so that any layer can stay dense and biases can be pruned too. Leaves that are no floating
    numbers, such as counters, random keys and functions, are never pruned, whatever ``which`` says; but where none is
    floating all count, so that a mask of booleans may stand for the parameters.

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
        ValueError: for a mask of another structure, or a leaf of another shape.

    Cost: O(d).

    >>> apply(jnp.array([1.0, -2.0, 3.0]), jnp.array([True, False, True])).tolist()
    [1.0, 0.0, 3.0]
    """
    if jax.tree.structure(params) != jax.tree.structure(mask):
        expected = jax.tree.structure(params)
        raise ValueError(f"mask is {jax.tree.structure(mask)}; it takes the structure of params, {expected}")

    def pruned(path, weight: Any, kept: Any) -> Any:
        if not is_array(weight) or jnp.issubdtype(jnp.result_type(weight), jax.dtypes.prng_key):
            return weight
        if jnp.shape(weight) != jnp.shape(kept):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has shape {jnp.shape(kept)}; it takes params' {jnp.shape(weight)}")
        if jnp.result_type(kept) == jnp.bool_:
            return jnp.where(kept, weight, 0)
        return (jnp.asarray(weight) * kept).astype(jnp.result_type(weight))

    return jax.tree_util.tree_map_with_path(pruned, params, mask)


class Summary(NamedTuple):
    """What a mask keeps of each layer.

    Attributes:
        kept: how many entries of each leaf are not zero; 0 for leaves that are never pruned, as in
            :func:`sketchprune.prune.layer_counts`.
        sizes: how many entries there are; 0 likewise.
    """

    kept: PyTree[int]
    sizes: PyTree[int]

    @property
    def densities(self) -> PyTree[float]:
        """The part of each leaf that is kept; 1.0 for leaves that are never pruned."""
        return jax.tree.map(lambda kept, size: kept / size if size else 1.0, self.kept, self.sizes)

    @property
    def density(self) -> float:
        """The part of all prunable weights that is kept."""
        return sum(jax.tree.leaves(self.kept)) / sum(jax.tree.leaves(self.sizes))


@checked
def summary(mask: Mask, prunable: Prunable = None) -> Summary:
    """What a mask keeps by layer and in all: the realised densities, beside those that were asked for.

    Args:
        mask: a mask, not traced.
        prunable: which leaves may be pruned, as for :func:`prunable`.

    Returns:
        Counts of whole numbers on the host, with the densities that follow.

    Raises:
        ValueError: as :func:`prunable`.

    Cost: O(d), on the host.

    >>> found = summary({"kernel": jnp.array([[True, False], [False, False]]), "bias": jnp.ones(2)})
    >>> found.kept, found.densities, found.density
    ({'bias': 0, 'kernel': 1}, {'bias': 1.0, 'kernel': 0.25}, 0.25)
    """
    chosen = chosen_of_mask(mask, prunable)
    kept = jax.tree.map(lambda pruned, leaf: int(np.count_nonzero(leaf)) if pruned else 0, chosen, mask)
    sizes = jax.tree.map(lambda pruned, leaf: int(np.size(leaf)) if pruned else 0, chosen, mask)
    return Summary(kept, sizes)


@checked
def keep_top(scores: Scores, keep: Count) -> Mask:
    """The ``keep`` highest scores over all leaves together, exactly that many under any ties.

    +inf is never pruned: kept and not counted. -inf is already pruned: never kept. Of equal scores (0.0 and -0.0 are
    equal) the first in leaf order stays. Under a trace too large a ``keep`` keeps every finite score, and a NaN makes
    the whole mask False.

    Args:
        scores: a pytree of floats, which may differ in dtype from leaf to leaf.
        keep: how many finite scores are kept; it may be traced.

    Returns:
        A boolean pytree shaped like the scores.

    Raises:
        ValueError: for a NaN (naming the leaf), for scores that are no floats, and for ``keep`` below 0 or above the
            number of finite scores.

    Cost: O(d) for each pass over the bits of the scores, two bits a pass, until the count is right. No sort.

    >>> keep_top(jnp.array([0.5, 2.0, 0.5, -1.0]), 2).tolist()
    [True, True, False, False]
    """
    names, leaves, structure = _checks.floating_leaves("scores", scores)
    wanted = _checks.whole("keep", keep, least=0)
    size = sum(leaf.size for leaf in leaves)
    if size >= 2**31 - 1:
        raise ValueError(f"scores has {size} entries; it takes fewer than {2**31 - 1}")
    selected, *facts = _keep_top(leaves, keep)
    undefined, available = map(_checks.concrete, facts)
    if undefined is not None and undefined.any():
        raise ValueError(f"{names[undefined.argmax()]} has NaN entries; it takes numbers")
    if available is not None and wanted is not None and wanted > available:
        raise ValueError(f"keep is {keep}; it takes at most {available}, the number of finite scores")
    return jax.tree.unflatten(structure, selected)


@jax.jit
def _keep_top(
    leaves: list[Array], keep: Int[Array, ""]
) -> tuple[list[Bool[Array, "..."]], Bool[Array, "leaves"], Int[Array, ""]]:
    """The mask, which leaves have a NaN, and how many scores are finite."""
    dtype = jnp.promote_types(jnp.result_type(*leaves), jnp.float32)
    codes = [_ordered_code(leaf.astype(dtype).ravel()) for leaf in leaves]
    lowest, highest = (_ordered_code(jnp.asarray(end, dtype)) for end in (-jnp.inf, jnp.inf))
    # A NaN has a code beyond those of the infinities.
    counts = [count_true((code > lowest) & (code < highest), (code < lowest) | (code > highest)) for code in codes]
    finite, undefined = jnp.stack(counts, axis=1)
    available = finite.sum(dtype=jnp.int32)
    undefined = undefined > 0
    # Code 0 stands for what is not ranked: the infinities (and a NaN, which empties the mask below).
    ranked = [jnp.where((code > lowest) & (code < highest), code, 0) for code in codes]
    keep = jnp.clip(keep, 0, available).astype(jnp.int32)
    threshold, reached = _threshold(ranked, keep, available, jnp.finfo(dtype).bits)

    def among_ties() -> list[Bool[Array, "_"]]:
        # A second ranking: codes above the threshold come first, and of those at the threshold the lower index.
        size = sum(code.size for code in codes)
        order = []
        offset = 0
        for code in ranked:
            index = offset + lax.iota(jnp.uint32, code.size)
            order.append(jnp.where(code > threshold, size + 1, jnp.where(code == threshold, size - index, 0)))
            offset += code.size
        cut, _ = _threshold(order, keep, reached, (size + 1).bit_length())
        return [rank >= cut for rank in order]

    chosen = lax.cond(reached == keep, lambda: [code >= threshold for code in ranked], among_ties)
    selected = [
        ((kept | (code == highest)) & ~undefined.any()).reshape(leaf.shape)
        for kept, code, leaf in zip(chosen, codes, leaves, strict=True)
    ]
    return selected, undefined, available


def _ordered_code(values: Float[Array, "..."]) -> UInt[Array, "..."]:
    """Unsigned integers ordered as the floats are, both zeros alike."""
    width = jnp.finfo(values.dtype).bits
    signed, unsigned = getattr(jnp, f"int{width}"), getattr(jnp, f"uint{width}")
    bits = lax.bitcast_convert_type(values, signed)
    lowest = jnp.iinfo(signed).min
    bits = jnp.where(bits < 0, lowest - bits, bits)  # sign and magnitude to two's complement; -0.0 becomes 0
    return lax.bitcast_convert_type(bits, unsigned) ^ jnp.asarray(2 ** (width - 1), unsigned)


def _threshold(
    codes: list[UInt[Array, "_"]], keep: Int[Array, ""], available: Int[Array, ""], width: int
) -> tuple[UInt[Array, ""], Int[Array, ""]]:
    """A threshold >= 1 that exactly ``keep`` codes reach, or else the largest that at least ``keep`` codes reach.

    With it comes the number of codes that reach it. ``available`` is the number of codes >= 1. The threshold is built
    from its highest bits down, two bits at a time: one pass over the codes tries three candidates.
    """
    dtype = codes[0].dtype

    def undecided(state):
        _, shift, reached = state
        return (shift >= 0) & (reached != keep)

    def refine(state):
        threshold, shift, reached = state
        candidates = threshold | (jnp.arange(1, 4, dtype=dtype) << shift.astype(dtype))
        counts = sum(count_true(*(code >= candidate for candidate in candidates)) for code in codes)
        enough = counts >= keep
        threshold = jnp.where(enough, candidates, threshold).max()
        return threshold, shift - 2, jnp.where(enough, counts, reached).min()

    start = (jnp.zeros((), dtype), jnp.int32(2 * math.ceil(width / 2) - 2), available)
    threshold, _, reached = lax.while_loop(undecided, refine, start)
    return jnp.maximum(threshold, 1), reached
