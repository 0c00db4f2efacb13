"""Exact selection by score: as many of the highest as are asked for, under any ties."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt

from sketchprune import _checks
from sketchprune._arithmetic import count_true
from sketchprune._boundary import checked
from sketchprune.types import Count, Mask, Scores


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
    selected, *facts = keep_top_unchecked(leaves, keep)
    undefined, available = map(_checks.concrete, facts)
    if undefined is not None and undefined.any():
        raise ValueError(f"{names[undefined.argmax()]} has NaN entries; it takes numbers")
    if available is not None and wanted is not None and wanted > available:
        raise ValueError(f"keep is {keep}; it takes at most {available}, the number of finite scores")
    return jax.tree.unflatten(structure, selected)


@jax.jit
def keep_top_unchecked(
    leaves: list[Array], keep: Int[Array, ""]
) -> tuple[list[Bool[Array, "..."]], Bool[Array, "leaves"], Int[Array, ""]]:
    """The mask of :func:`keep_top`, which leaves have a NaN, and how many scores are finite.

    Args:
        leaves: the scores.
        keep: how many finite scores are kept.

    Returns:
        The mask of each leaf, empty where some score is NaN; whether each leaf has a NaN, [leaves]; and how many scores
        are finite.
    """
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
