"""Connectivity of random masks: which units keep inputs, and how dense or wide a layer must be for it."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from sketchprune import _checks
from sketchprune._arithmetic import decay_and_gain
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs

KernelMask = Shaped[Array | np.ndarray, "... _ _"]
"""[inputs, units] or [rows, columns, inputs, units]; an entry is kept when it is not 0."""


@checked
def connected_units(mask: KernelMask) -> Bool[Array, "units"]:
    """Which units of a layer keep at least one input.

    Args:
        mask: [inputs, units], or [rows, columns, inputs, units] for a convolution.

    Returns:
        [units].

    Cost: O(weights).

    >>> connected_units(jnp.array([[1, 0, 0], [1, 1, 0]])).tolist()
    [True, True, False]
    """
    kept = jnp.asarray(mask) != 0
    return kept.any(axis=tuple(range(kept.ndim - 1)))


@checked
def connected_inputs(mask: KernelMask) -> Bool[Array, "inputs"]:
    """Which inputs of a layer (input channels of a convolution) keep at least one edge to a unit.

    Args:
        mask: [inputs, units], or [rows, columns, inputs, units] for a convolution.

    Returns:
        [inputs].

    Cost: O(weights).

    >>> connected_inputs(jnp.array([[1, 0], [0, 0], [1, 1]])).tolist()
    [True, False, True]
    """
    kept = jnp.asarray(mask) != 0
    return kept.any(axis=(*range(kept.ndim - 2), kept.ndim - 1))


@checked
def live_units(masks: Sequence[KernelMask]) -> tuple[Bool[Array, "_"], ...]:
    """Which units lie on a kept path from an input to an output, for a network that is a chain of layers.

    The others are dead: pruning all their edges changes no output of a network without biases. Where a dense layer
    follows a convolution its inputs are the flattened image, channels last: it has a multiple of the channels.

    Args:
        masks: one kernel mask for each layer, first layer first.

    Returns:
        L + 1 boolean vectors: the inputs, the hidden units or channels, the outputs.

    Raises:
        ValueError: no layers, or a layer whose inputs are no multiple of the units before it.

    Cost: O(weights).

    >>> [live.tolist() for live in live_units([jnp.array([[1, 1], [1, 0]]), jnp.array([[0], [1]])])]
    [[True, False], [False, True], [True]]
    """
    edges = _edges(masks)
    reached = [jnp.ones(edges[0].shape[0], bool)]
    for edge in edges:
        fed = jnp.tile(reached[-1], len(edge) // len(reached[-1]))
        reached.append((edge & fed[:, None]).any(0))
    useful = [jnp.ones(edges[-1].shape[1], bool)]
    for edge, units in zip(edges[::-1], reached[-2::-1], strict=True):
        used = (edge & useful[-1]).any(1)
        useful.append(used.reshape(-1, len(units)).any(0))
    return tuple(forward & backward for forward, backward in zip(reached, useful[::-1], strict=True))


@checked
def remove_dead_edges(masks: Sequence[KernelMask]) -> tuple[Shaped[Array, "..."], ...]:
    """The masks without the edges that lie on no path from an input to an output.

    A network without biases computes the same function with fewer weights; see :func:`live_units`.

    Args:
        masks: one kernel mask for each layer, first layer first.

    Returns:
        The masks with zeros in place of those edges, of the same shapes and dtypes.

    Raises:
        ValueError: as for :func:`live_units`.

    Cost: O(weights).

    >>> [mask.tolist() for mask in remove_dead_edges([jnp.array([[1, 1], [1, 0]]), jnp.array([[0], [1]])])]
    [[[0, 1], [0, 0]], [[0], [1]]]
    """
    live = live_units(masks)
    cut = []
    for mask, inputs, units in zip(map(jnp.asarray, masks), live, live[1:], strict=False):
        fed = jnp.tile(inputs, mask.shape[-2] // len(inputs))
        cut.append(jnp.where(fed[:, None] & units, mask, jnp.zeros((), mask.dtype)))
    return tuple(cut)


def _edges(masks: Sequence[KernelMask]) -> list[Bool[Array, "_ _"]]:
    """Which inputs of each layer have a kept edge to which of its units; positions of a convolution together."""
    if not len(masks):
        raise ValueError("masks has no layers; it takes at least one")
    edges = []
    for i, mask in enumerate(masks):
        kept = jnp.asarray(mask) != 0
        if not kept.size:
            raise ValueError(f"masks[{i}] has shape {kept.shape}; it takes a layer with at least one weight")
        edge = kept.any(axis=tuple(range(kept.ndim - 2)))
        if edges and len(edge) % edges[-1].shape[1]:
            units = edges[-1].shape[1]
            raise ValueError(f"masks[{i}] has {len(edge)} inputs; it takes a multiple of {units}, the units before it")
        edges.append(edge)
    return edges


@checked
def connection_probability(
    density: Float[ArrayLike, "..."], units: Int[ArrayLike, "..."], fan_in: Int[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The exact probability that every unit of a randomly masked layer keeps an input.

    (1 − (1 − p)^k)^n for n units of fan-in k whose weights are kept independently with probability p. Accurate for
    small p and for probabilities near 0 and 1. Arguments broadcast and may be traced.

    Args:
        density: p, in [0, 1].
        units: n, at least 1: the units, or output channels.
        fan_in: k, at least 1: the weights of one unit, rows · columns · input channels in a convolution.

    Returns:
        The probability, in the dtype of the density.

    Raises:
        ValueError: a density outside [0, 1], or counts below 1.

    Cost: O(1) for each number.

    Source: gadhikar2023random, lottery/connectivity.

    >>> float(connection_probability(0.5, 2, 1))
    0.25
    """
    _inputs.probability("density", density)
    _checks.whole("units", units, least=1)
    _checks.whole("fan_in", fan_in, least=1)
    return jnp.exp(units * _log_connected(_real(density), jnp.asarray(fan_in)))


@checked
def sufficient_density(
    delta: Float[ArrayLike, "..."], units: Int[ArrayLike, "..."], fan_in: Int[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """A density at which every unit keeps an input with probability at least 1 − δ.

    1 − (δ/n)^{1/k}, by the union bound over n units of fan-in k. Accurate for small δ and large k. For all L layers
    of a network at once take δ/L in each. Arguments broadcast and may be traced.

    Args:
        delta: δ, in (0, 1): the probability of a unit without inputs.
        units: n, at least 1.
        fan_in: k, at least 1.

    Returns:
        The density, in the dtype of δ.

    Raises:
        ValueError: δ outside (0, 1), or counts below 1.

    Cost: O(1) for each number.

    Source: gadhikar2023random, lottery/connectivity.

    >>> float(sufficient_density(0.5, 2, 1))
    0.75
    """
    _checks.interval("delta", delta, closed=False)
    _checks.whole("units", units, least=1)
    _checks.whole("fan_in", fan_in, least=1)
    share = _real(delta)
    return -jnp.expm1((jnp.log(share) - jnp.log(jnp.asarray(units, share.dtype))) / fan_in)


@checked
def containment_probability(
    inputs: Int[ArrayLike, "..."],
    width: Int[ArrayLike, ""],
    input_density: Float[ArrayLike, "..."],
    output_density: Float[ArrayLike, "..."],
    *,
    max_width: int | None = None,
) -> Float[Array, "..."]:
    """The exact probability that a random network with one hidden layer connects its output to all d inputs.

    E(1 − (1 − p₁)^k)^d over k ~ Bin(n, p₂), the hidden units that keep their edge to the output. A target unit with
    d non-zero weights is contained in it just when all are connected. Arguments broadcast; all but ``max_width``
    may be traced.

    Args:
        inputs: d, at least 1: the inputs that the target uses.
        width: n, at least 1: the hidden units of the source.
        input_density: p₁, in [0, 1], of the layer from the inputs to the hidden units.
        output_density: p₂, in [0, 1], of the layer from the hidden units to the output.
        max_width: an upper bound on the width, needed where that is traced.

    Returns:
        The probability, in the dtype of the densities. In float32 it is off by about 1e-6 · width.

    Raises:
        ValueError: a density outside [0, 1], a count below 1, a width above ``max_width``, or traced without it.

    Cost: O(max_width) for each number.

    Source: gadhikar2023random, lottery/width-necessary.

    >>> float(containment_probability(1, 2, 0.5, 1.0))
    0.75
    """
    _inputs.probability("input_density", input_density)
    _inputs.probability("output_density", output_density)
    _checks.whole("inputs", inputs, least=1)
    known = _checks.whole("width", width, least=1)
    if max_width is None:
        if known is None:
            raise ValueError("width is traced; it takes a Python integer, or max_width to bound the sum")
        max_width = int(known)
    elif known is not None and known > max_width:
        raise ValueError(f"width is {width}; it takes at most max_width = {max_width}")
    densities = _real(input_density), _real(output_density)
    return _containment_probability(jnp.asarray(inputs), jnp.asarray(width), *densities, max_width)


@functools.partial(jax.jit, static_argnames="max_width")
def _containment_probability(
    inputs: Array, width: Array, input_density: Array, output_density: Array, max_width: int
) -> Float[Array, "..."]:
    hidden = jnp.arange(max_width + 1)
    weights = jnp.where(hidden <= width, stats.binom.pmf(hidden, width, output_density[..., None]), 0)
    connected = jnp.exp(inputs[..., None] * _log_connected(input_density[..., None], hidden))
    # The weights share a factor that float32 gets wrong by a multiple of rounding; their sum divides it out.
    return jnp.sum(weights * connected, axis=-1) / jnp.sum(weights, axis=-1)


@checked
def necessary_width(
    inputs: Int[ArrayLike, "..."], density: Float[ArrayLike, "..."], delta: Float[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The hidden width below which a random network contains a target with probability less than 1 − δ.

    log(1/(1 − (1−δ)^{1/d}))/log(1/(1 − p₁)): with fewer hidden units some of the d inputs that the target uses has no
    kept edge with probability above δ, whatever the later layers are. Arguments broadcast and may be traced.

    Args:
        inputs: d, at least 1.
        density: p₁, in (0, 1], of the layer from the inputs to the hidden units.
        delta: δ, in (0, 1): the probability of failure.

    Returns:
        The width, a real number in the dtype of the density; 0 where the density is 1.

    Raises:
        ValueError: a density outside (0, 1], δ outside (0, 1), or inputs below 1.

    Cost: O(1) for each number.

    Source: gadhikar2023random, lottery/width-necessary.

    >>> round(float(necessary_width(1, 0.5, 0.25)), 4)
    2.0
    """
    _checks.interval("density", density, closed=True)
    _checks.interval("delta", delta, closed=False)
    _checks.whole("inputs", inputs, least=1)
    lacking = -jnp.expm1(jnp.log1p(-_real(delta)) / inputs)
    return jnp.log(lacking) / jnp.log1p(-_real(density))


@checked
def sufficient_copies(
    nonzeros: Sequence[int], densities: Sequence[float], delta: float, *, signed: bool = False
) -> tuple[int, ...]:
    """How many copies of each unit a random source needs to contain a target with probability at least 1 − δ.

    The target has depth L and m_l non-zero weights in layer l; the source has depth L + 1. The numbers q_L, …, q_0 are
    the smallest integers ≥ 1 with

    - q_L = 1,
    - q_{l−1} ≥ log(L m_l q_l/δ)/log(1/(1 − p_{l+1})) for l ≥ 2,
    - q_0 ≥ log(L m_1 q_1/δ)/log(1/(1 − p_1 p_2)), with 2L for L when inputs are signed.

    Works on the host.

    Args:
        nonzeros: m_1, …, m_L, the non-zero weights of each layer of the target.
        densities: p_1, …, p_{L+1}, in (0, 1], of the layers of the source.
        delta: δ, in (0, 1): the probability of failure.
        signed: whether inputs may be negative, so that each needs copies of relu(x) and of relu(−x).

    Returns:
        q_0, …, q_L: copies of each input (of each sign), hidden unit and output.

    Raises:
        ValueError: no layers, another number of densities than L + 1, and numbers outside their ranges.

    Cost: O(L).

    Source: gadhikar2023random, lottery/width-suffices.

    >>> sufficient_copies([4, 2], [0.5, 0.5, 0.5], 0.1)
    (22, 6, 1)
    """
    depth = len(nonzeros)
    if not depth:
        raise ValueError("nonzeros has no entries; it takes one for each layer of the target")
    _checks.whole("nonzeros", np.asarray(nonzeros), least=0)
    if len(densities) != depth + 1:
        raise ValueError(f"densities has {len(densities)} entries; it takes {depth + 1}, one more than the target")
    _checks.interval("densities", np.asarray(densities), closed=True)
    _checks.interval("delta", delta, closed=False)
    copies = [1]
    for layer in range(depth, 0, -1):
        live = densities[layer] * (densities[0] if layer == 1 else 1)
        if live == 0:
            raise ValueError(f"densities is {list(densities)}; it takes numbers whose product does not underflow to 0")
        edges = nonzeros[layer - 1] * copies[-1]
        cases = 2 * depth if signed and layer == 1 else depth
        if live == 1 or not edges:
            copies.append(1)
        else:
            copies.append(max(1, math.ceil(math.log(cases * edges / delta) / -math.log1p(-live))))
    return tuple(copies[::-1])


def _log_connected(density: Float[Array, "*p"], fan_in: Int[Array, "*k"]) -> Float[Array, "..."]:
    """log(1 − (1−p)^k), accurate whichever of the two powers is small."""
    lacking, connected = decay_and_gain(density, fan_in)
    return jnp.where(connected < 0.5, jnp.log(connected), jnp.log1p(-lacking))


def _real(value: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
    """An array of at least float32."""
    value = jnp.asarray(value)
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))
