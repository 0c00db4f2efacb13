"""Masks: what may be pruned, exact selection by score, random mask laws, layer densities.

A mask is a pytree of arrays shaped like the parameters, boolean where it selects and floating where it is a
sketch; a bare vector is a pytree. Samplers take the key first: with the rest bound by ``functools.partial``
they are laws, key -> mask.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Real, UInt

from sketchprune import _checks
from sketchprune._arithmetic import count_true, product, ratio
from sketchprune.types import Key, Mask, Params, Scores


def prunable(params: Params) -> PyTree[bool]:
    """Which leaves pruning touches: those with two axes or more, or the only leaf.

    Biases and norm scales, which have one axis, are not pruned. Python booleans, known under any trace.
    O(leaves).

    >>> prunable({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}
    >>> prunable(jnp.ones(3))
    True
    """
    only = len(jax.tree.leaves(params)) == 1
    return jax.tree.map(lambda leaf: only or jnp.ndim(leaf) >= 2, params)


def apply(params: Params, mask: Mask) -> Params:
    """The pruned parameters, m∘θ.

    Keeps the dtype of the parameters. A boolean mask puts zeros whatever the weights are; a floating one
    multiplies. ValueError when a mask leaf is not shaped like its parameters. O(d).

    >>> apply(jnp.array([1.0, -2.0, 3.0]), jnp.array([True, False, True]))
    Array([1., 0., 3.], dtype=float64)
    """
    if jax.tree.structure(params) != jax.tree.structure(mask):
        expected = jax.tree.structure(params)
        raise ValueError(f"mask is {jax.tree.structure(mask)}; it takes the structure of params, {expected}")

    def product(path, weight: Array, kept: Array) -> Array:
        if jnp.shape(weight) != jnp.shape(kept):
            name = "mask" + jax.tree_util.keystr(path)
            raise ValueError(f"{name} has shape {jnp.shape(kept)}; it takes params' {jnp.shape(weight)}")
        if jnp.result_type(kept) == jnp.bool_:
            return jnp.where(kept, weight, 0)
        return (weight * kept).astype(jnp.result_type(weight))

    return jax.tree_util.tree_map_with_path(product, params, mask)


def keep_top(scores: Scores, keep: int | Int[Array, ""]) -> Mask:
    """The ``keep`` highest scores over all leaves together, exactly that many under any ties.

    +inf is never pruned: kept and not counted. -inf is already pruned: never kept. Of equal scores (0.0 and
    -0.0 are equal) the first in leaf order stays. ``keep`` may be traced. ValueError for a NaN (naming the
    leaf), for scores that are no floats, for ``keep`` below 0 or above the count of finite scores. Under a
    trace too large a ``keep`` keeps every finite score and a NaN makes the whole mask False. No sort: O(d) a
    pass over the bits of the scores, two bits a pass, until the count is right.

    >>> keep_top(jnp.array([0.5, 2.0, 0.5, -1.0]), 2)
    Array([ True,  True, False, False], dtype=bool)
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
    tallies = [count_true((code > lowest) & (code < highest), (code < lowest) | (code > highest)) for code in codes]
    finite, undefined = jnp.stack(tallies, axis=1)
    available, undefined = finite.sum(dtype=jnp.int32), undefined > 0
    # Code 0 stands for what is not ranked: the infinities (and a NaN, which empties the mask below).
    ranked = [jnp.where((code > lowest) & (code < highest), code, 0) for code in codes]
    keep = jnp.clip(keep, 0, available).astype(jnp.int32)
    threshold, reached = _threshold(ranked, keep, available, jnp.finfo(dtype).bits)

    def among_ties() -> list[Bool[Array, "_"]]:
        # Second key: above the threshold all come first, at the threshold the lower index comes first.
        size = sum(code.size for code in codes)
        order, offset = [], 0
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
    """A threshold >= 1 reached by exactly ``keep`` codes, or else the largest that as many or more reach.

    And how many reach it; ``available`` of them reach 1. Built from its highest bits down, two at a time: one pass
    over the codes tries three candidates.
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


def multinomial(
    key: Key,
    probabilities: PyTree[Float[Array, "..."]],
    budget: int | Int[Array, ""],
    *,
    max_budget: int | None = None,
    binary: bool = False,
) -> Mask:
    """The sampling sketch: ``budget`` independent draws with replacement, reweighted so that it is unbiased.

    m_i = c_i/(s p_i), c_i the times item i was drawn among s, and 0 where p_i = 0; ``binary`` gives 1[c_i >
    0] instead. Probabilities run over all leaves together. A traced ``budget`` needs ``max_budget``: that
    many draws are made and those past the budget do not count. Masks and sampling have the dtype of the
    probabilities, at least float32. Draws take the probabilities as whole numbers of a unit, 2^-31 in float32
    and 2^-63 in float64, over the sum of those: an item that may be drawn has one unit or more. m_i divides
    by that p_i, hence is unbiased however small the given one, but for the last of the 32 or 64 bits that
    draw. ValueError for probabilities that are negative or NaN or do not sum to one, and for a budget below
    1; under a trace a NaN probability gives a NaN. O(d + s log d): inverse distribution function by
    bisection. Source: drineas2006matmul, sketch/unbiased.

    >>> multinomial(jax.random.key(0), jnp.array([0.0, 1.0]), 3)
    Array([0., 1.], dtype=float64)
    """
    _checks.probabilities("probabilities", probabilities)
    wanted = _checks.whole("budget", budget, least=1)
    if max_budget is None:
        if wanted is None:
            raise ValueError("budget is traced; it takes a Python integer, or max_budget to bound the draws")
        max_budget = int(wanted)
    elif wanted is not None and wanted.max() > max_budget:
        raise ValueError(f"budget is {budget}; it takes at most max_budget = {max_budget}")
    return _multinomial(key, probabilities, budget, max_budget, binary)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _multinomial(
    key: Key, probabilities: PyTree[Float[Array, "..."]], budget: Int[Array, ""], draws: int, binary: bool
) -> Mask:
    flat = _joined(probabilities)
    units = _units(flat)
    total = units.sum(dtype=units.dtype)
    items = _items_hit(units, _high_product(jax.random.bits(key, (draws,), units.dtype), total))
    within = (jnp.arange(draws) < budget).astype(flat.dtype)
    counts = jnp.zeros_like(flat).at[items].add(within, mode="drop")
    if binary:
        return _split((counts > 0).astype(flat.dtype), probabilities)
    drawn_from = jnp.where(jnp.isnan(flat), flat, ratio(units.astype(flat.dtype), total.astype(flat.dtype)))
    return _split(ratio(counts, budget * drawn_from), probabilities)


def _units(probabilities: Float[Array, "d"]) -> UInt[Array, "d"]:
    """Probabilities as whole numbers, whose sums are exact: an item of probability 0 is never hit, no other is lost."""
    width = jnp.finfo(probabilities.dtype).bits
    units = jnp.round(probabilities * 2.0 ** (width - 1)).astype(getattr(jnp, f"uint{width}"))
    return jnp.maximum(units, (probabilities > 0).astype(units.dtype))


def _items_hit(units: UInt[Array, "d"], hits: UInt[Array, "s"]) -> Int[Array, "s"]:
    """The item that owns each whole number below the total, item i owning ``units[i]`` of them in order."""
    return jnp.searchsorted(jnp.cumsum(units, dtype=units.dtype), hits, side="right", method="scan")


def _high_product(a: UInt[Array, "s"], b: UInt[Array, ""]) -> UInt[Array, "s"]:
    """The upper word of a·b, floor(ab / 2^width), by half words: no wider integers are needed."""
    half = jnp.iinfo(a.dtype).bits // 2
    low, high = (lambda word: word & (2**half - 1)), (lambda word: word >> half)
    cross = high(a) * low(b) + high(low(a) * low(b))
    return high(a) * high(b) + high(cross) + high(low(a) * high(b) + low(cross))


def poisson(key: Key, rates: PyTree[Float[Array, "..."]], *, binary: bool = False) -> Mask:
    """Every item on its own: b_i ~ Bernoulli(π_i).

    m_i = b_i/π_i, and 0 where π_i = 0; ``binary`` gives b_i. Same dtype notes as :func:`multinomial`.
    ValueError for rates outside [0, 1] or NaN; under a trace a NaN rate gives a NaN. O(d). Source:
    sketch/poisson.

    >>> poisson(jax.random.key(0), jnp.array([0.0, 1.0]))
    Array([0., 1.], dtype=float64)
    """
    _checks.rates("rates", rates)
    return _poisson(key, rates, binary)


@functools.partial(jax.jit, static_argnums=2)
def _poisson(key: Key, rates: PyTree[Float[Array, "..."]], binary: bool) -> Mask:
    flat = _joined(rates)
    # "high" resolves small rates: plain uniform numbers in float32 are multiples of 2^-23.
    mask = jax.random.bernoulli(key, flat, mode="high").astype(flat.dtype)
    return _split(mask if binary else ratio(mask, flat), rates)


def poisson_rates(
    magnitudes: PyTree[Float[Array, "..."]], budget: int | float | Real[Array, ""]
) -> PyTree[Float[Array, "..."]]:
    """The best rates for independent sampling at an expected size, by water-filling.

    π_i = min(1, λa_i) with λ such that Σπ_i = s over {a_i > 0}: with a_i = ‖x_i‖|w_i| they minimise
    Σa_i²(1/π_i − 1). ValueError for negative magnitudes and for a budget ≤ 0 or above #{a_i > 0}; under a
    trace too large a budget gives π_i = 1 wherever a_i > 0. O(d log d). Source: sketch/poisson.

    >>> poisson_rates(jnp.array([6.0, 1.0, 0.0, 1.0]), 2)
    Array([1. , 0.5, 0. , 0.5], dtype=float64)
    """
    known, wanted = _checks.weights("magnitudes", magnitudes), _checks.concrete(budget)
    if wanted is not None and not (wanted > 0).all():
        raise ValueError(f"budget is {budget}; it takes a number > 0")
    if known is not None and wanted is not None and (wanted > known.positive).any():
        raise ValueError(f"budget is {budget}; it takes at most {known.positive}, the magnitudes that are > 0")
    return _water_filling(magnitudes, budget)


@jax.jit
def _water_filling(magnitudes: PyTree[Float[Array, "..."]], budget: Real[Array, ""]) -> PyTree[Float[Array, "..."]]:
    flat = _joined(magnitudes)
    ascending = jnp.sort(flat)
    below, above = jnp.cumsum(ascending), jnp.arange(flat.size)[::-1]
    # At the level that just saturates item j the rates sum to this, which falls with j: the last j to reach
    # the budget is the largest item that stays below one.
    unsaturated = (ascending > 0) & (below / ascending + above >= budget)
    last = jnp.sum(ascending == 0) + jnp.sum(unsaturated) - 1
    level = jnp.where(unsaturated.any(), (budget - above[last]) / below[last], jnp.inf)
    return _split(jnp.where(flat == 0, 0, jnp.minimum(1, level * flat)), magnitudes)


def fixed_size(key: Key, weights: PyTree[Float[Array, "..."]], size: int | Int[Array, ""]) -> Mask:
    """Exactly ``size`` items, drawn one after another without replacement in proportion to the weights left.

    The ``size`` largest of log w_i + Gumbel noise. A boolean mask; items of weight 0 are never kept (a device
    may take subnormal weights for 0). ``size`` may be traced. ValueError for negative or NaN weights and for a
    size below 0 or above #{w_i > 0}; under a trace too large a size keeps all of those and a NaN weight keeps
    nothing. O(d).

    >>> fixed_size(jax.random.key(0), jnp.array([0.3, 0.0, 0.7]), 2)
    Array([ True, False,  True], dtype=bool)
    """
    known, wanted = _checks.weights("weights", weights), _checks.whole("size", size, least=0)
    if known is not None and wanted is not None and wanted.max() > known.positive:
        raise ValueError(f"size is {size}; it takes at most {known.positive}, the weights that are > 0")
    return _fixed_size(key, weights, size)


@jax.jit
def _fixed_size(key: Key, weights: PyTree[Float[Array, "..."]], size: Int[Array, ""]) -> Mask:
    flat = _joined(weights)
    # "high" keeps the large values, which decide, from being few and tied.
    noise = jax.random.gumbel(key, flat.shape, flat.dtype, mode="high")
    (kept,), *_ = _keep_top([jnp.log(flat) + noise], size)
    return _split(kept, weights)


def determinantal(key: Key, kernel: Float[Array, "d d"]) -> Bool[Array, "d"]:
    """A subset with the determinantal law of marginal kernel K: P(T ⊆ S) = det K_T for every T.

    Items are decided one after another: item j is kept with the probability that the kernel, conditioned on the
    items before it, has on its diagonal. K is symmetric with eigenvalues in [0, 1], such as XᵀX(XᵀX + τI)⁻¹, which
    makes P(S) ∝ det(X_SᵀX_S/τ). ValueError when it is not square. O(d³).
    Source: sketch/dpp-training-error.

    >>> determinantal(jax.random.key(0), jnp.diag(jnp.array([1.0, 0.0])))
    Array([ True, False], dtype=bool)
    """
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"kernel has shape {kernel.shape}; it takes a square matrix")
    thresholds = jax.random.uniform(key, kernel.shape[:1], kernel.dtype)

    def decide(carry: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], Array]:
        # The kernel conditioned on the items before j is K − L diag(1/pivots) Lᵀ; only its column j is needed.
        factor, inverse = carry
        column = kernel[:, j] - product(factor, inverse * factor[j])
        kept = thresholds[j] < column[j]
        pivot = jnp.where(kept, column[j], column[j] - 1)
        return (factor.at[:, j].set(column), inverse.at[j].set(1 / jnp.where(pivot == 0, 1, pivot))), kept

    start = jnp.zeros_like(kernel), jnp.zeros_like(thresholds)
    return lax.scan(decide, start, jnp.arange(kernel.shape[0]))[1]


def _joined(tree: PyTree[Float[Array, "..."]]) -> Float[Array, "d"]:
    """All leaves as one vector, of at least float32."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves).astype(jnp.promote_types(jnp.result_type(*leaves), jnp.float32))


def _split(flat: Array, tree: PyTree[Array]) -> PyTree[Array]:
    """The vector cut into the shapes of a pytree."""
    leaves, structure = jax.tree.flatten(tree)
    ends = [0, *itertools.accumulate(leaf.size for leaf in leaves)]
    parts = [flat[a:b].reshape(leaf.shape) for a, b, leaf in zip(ends, ends[1:], leaves, strict=False)]
    return jax.tree.unflatten(structure, parts)
