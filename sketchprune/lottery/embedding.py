"""Exact embedding: a small target network inside a wider random sparse network that is one layer deeper."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs
from sketchprune.lottery.connectivity import sufficient_copies
from sketchprune.lottery.networks import Dense


class Embedding(NamedTuple):
    """A target network inside a random one, or what is missing for it.

    Attributes:
        network: the source with its weights chosen, L + 1 layers. Weights are 0 outside the masks, and where nothing
            is embedded. It computes the target's function where ``complete`` is true.
        complete: whether every output of the target is computed.
        live: for the inputs and each layer of the target, [units, copies]: which copies compute what their unit does
            in the target. Signed inputs have 2d rows, those of relu(x) before those of relu(−x).
        missing: for each layer of the target, [inputs, units]: in how many copies of the unit the edge is needed and
            no live copy of its input has a kept edge to it. Where all are 0, every copy of the target's units is live.
    """

    network: tuple[Dense, ...]
    complete: Bool[Array, ""]
    live: tuple[Bool[Array, "_ _"], ...]
    missing: tuple[Int[Array, "_ _"], ...]


@checked
def source_widths(
    target: Sequence[Dense], densities: Sequence[float], delta: float, *, signed: bool = False
) -> tuple[int, ...]:
    """The widths of a random network that contains the target with probability at least 1 − δ.

    q_l copies of each unit of layer l, with q_l from :func:`sufficient_copies`. For a target of widths n_0, …, n_L
    the widths are n_0, q_0 n_0 (twice that when inputs are signed), q_1 n_1, …, q_{L−1} n_{L−1}, n_L.

    Args:
        target: the network to be contained; only its non-zero weights count. Works on the host.
        densities: p_1, …, p_{L+1}, in (0, 1], of the layers of the source.
        delta: δ, in (0, 1): the probability of failure.
        signed: whether inputs may be negative.

    Returns:
        L + 2 widths, the inputs first.

    Raises:
        ValueError: layers that do not fit together, or as for :func:`sufficient_copies`.

    Cost: O(weights of the target).

    Source: gadhikar2023random, lottery/width-suffices.

    >>> source_widths([Dense(jnp.ones((3, 2)), jnp.zeros(2))], [0.5, 0.5], 0.01)
    (3, 69, 2)
    """
    shapes = [jnp.shape(layer.kernel) for layer in target]
    _inputs.chain("target", shapes)
    nonzeros = [int(np.count_nonzero(np.asarray(layer.kernel))) for layer in target]
    first, *others = sufficient_copies(nonzeros, densities, delta, signed=signed)
    inputs = shapes[0][0]
    hidden = [copies * units for copies, (_, units) in zip(others, shapes, strict=True)]
    return inputs, inputs * first * (2 if signed else 1), *hidden


@checked
def embed(
    target: Sequence[Dense],
    masks: Sequence[Shaped[Array | np.ndarray, "_ _"]],
    *,
    signed: bool = False,
    lower: Float[ArrayLike, "..."] = 0.0,
) -> Embedding:
    """The weights of a masked source network that make it compute the target's function, where they exist.

    - Layer 1 of the source copies the inputs: relu(x − lower), which the next biases undo, or relu(x) and relu(−x) when
      inputs are signed.
    - Layer l + 1 holds copies of the units of layer l of the target: copy c of unit u is unit u·q + c, with q = width
      // units. Units left over stay 0.
    - A copy is live when each of its non-zero weights finds a kept edge from a live copy of that input; it uses the
      first one.

    Biases of the source are free. With ``signed=False`` the function is the target's where x ≥ lower.

    Args:
        target: L layers with any weights; zeros need no edge, so a target without weights is always contained.
        masks: L + 1 masks [inputs, units], of a source whose layers are at least as wide as the target's.
        signed: whether inputs may be any numbers; needs two copies of each.
        lower: a lower bound on the inputs, one number or one for each. Used when not signed.

    Returns:
        The embedded network, in the dtype of the target and at least float32, and what is missing in it; see
        :class:`Embedding`. May be traced, and vmapped over masks.

    Raises:
        ValueError: mappings in place of sequences, layers that do not fit together, another number of masks than L + 1,
            a source that is too narrow, a layer without a bias for each unit, or numbers that are not finite.

    Cost: O(weights of the source).

    Source: gadhikar2023random, lottery/width-suffices.

    >>> target = [Dense(jnp.array([[2.0], [0.0]]), jnp.array([1.0]))]
    >>> found = embed(target, [jnp.array([[0, 1, 1, 1], [1, 1, 0, 0]]), jnp.ones((4, 1))])
    >>> bool(found.complete), found.network[0].kernel.tolist(), found.network[1].kernel.tolist()
    (True, [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], [[0.0], [2.0], [0.0], [0.0]])
    """
    _check_fit([jnp.shape(layer.kernel) for layer in target], [jnp.shape(mask) for mask in masks], signed)
    _inputs.network("target", target)
    for i, layer in enumerate(target):
        _checks.finite(f"target[{i}].kernel", layer.kernel)
        _checks.finite(f"target[{i}].bias", layer.bias)
    _checks.finite("lower", lower)
    inputs = jnp.shape(target[0].kernel)[0]
    if jnp.shape(lower) not in ((), (1,), (inputs,)):
        raise ValueError(f"lower has shape {jnp.shape(lower)}; it takes one number, or one for each of {inputs} inputs")
    kept = [jnp.asarray(mask) != 0 for mask in masks]
    dtype = jnp.result_type(*jax.tree.leaves(target), jnp.float32)
    floating = [Dense(*(jnp.asarray(leaf, dtype) for leaf in layer)) for layer in target]
    return _embed(floating, kept, jnp.asarray(lower), signed)


def _check_fit(target: list[tuple[int, ...]], source: list[tuple[int, ...]], signed: bool) -> None:
    """The source is one layer deeper than the target, and each layer wide enough for one copy of everything."""
    _inputs.chain("target", target)
    _inputs.chain("masks", source)
    if len(source) != len(target) + 1:
        raise ValueError(f"masks has {len(source)} layers; it takes {len(target) + 1}, one more than the target")
    inputs, outputs = target[0][0], target[-1][1]
    if source[0][0] != inputs:
        raise ValueError(f"masks[0] has {source[0][0]} inputs; it takes {inputs}, those of the target")
    least = [inputs * (2 if signed else 1), *(units for _, units in target[:-1])]
    for i, (units, (_, width)) in enumerate(zip(least, source, strict=False)):
        if width < units:
            raise ValueError(f"masks[{i}] has {width} units; it takes at least {units}, one for each copy")
    if source[-1][1] != outputs:
        raise ValueError(f"masks[{len(target)}] has {source[-1][1]} units; it takes {outputs}, the target's outputs")


@functools.partial(jax.jit, static_argnames="signed")
def _embed(target: list[Dense], masks: list[Array], lower: Array, signed: bool) -> Embedding:
    first, live = _copy_inputs(masks[0], target[0], lower, signed)
    network, lives, missing = [first], [live], []
    for i, (layer, mask) in enumerate(zip(target, masks[1:], strict=True)):
        if i == 0 and signed:
            layer = Dense(jnp.concatenate([layer.kernel, -layer.kernel]), layer.bias)
        elif i == 0:
            layer = Dense(layer.kernel, layer.bias + jnp.sum(layer.kernel * _column(lower, layer.kernel), axis=0))
        hosted, live, lacking = _host_layer(layer, mask, live)
        if i == 0 and signed:
            lacking = lacking.reshape(2, -1, *lacking.shape[1:]).any(0)
        network.append(hosted)
        lives.append(live)
        missing.append(jnp.sum(lacking, axis=-1, dtype=jnp.int32))
    return Embedding(tuple(network), live.all(), tuple(lives), tuple(missing))


def _copy_inputs(
    mask: Bool[Array, "inputs width"], layer: Dense, lower: Array, signed: bool
) -> tuple[Dense, Bool[Array, "units copies"]]:
    """The layer that holds relu(x − lower), or relu(x) and relu(−x), and which of its copies are live."""
    (inputs, width), dtype = mask.shape, layer.kernel.dtype
    units = inputs * (2 if signed else 1)
    copies = width // units
    unit = jnp.arange(width) // copies
    used = unit < units
    hosts = mask & used & (unit % inputs == jnp.arange(inputs)[:, None])
    live = hosts.any(0)
    bias = jnp.zeros(width, dtype) if signed else jnp.where(live, -_column(lower, layer.kernel)[unit % inputs, 0], 0)
    kernel = jnp.where(hosts, jnp.where(unit < inputs, 1, -1), 0).astype(dtype)
    return Dense(kernel, bias.astype(dtype)), live[: units * copies].reshape(units, copies)


def _host_layer(
    layer: Dense, mask: Bool[Array, "sources width"], live: Bool[Array, "inputs hosts"]
) -> tuple[Dense, Bool[Array, "units copies"], Bool[Array, "inputs units copies"]]:
    """Copies of a layer's units on kept edges from live copies of its inputs: weights, live copies, lacking edges."""
    (inputs, hosts), (sources, width) = live.shape, mask.shape
    units = layer.kernel.shape[1]
    copies = width // units
    edges = mask[: inputs * hosts, : units * copies].reshape(inputs, hosts, units, copies) & live[:, :, None, None]
    lacking = (layer.kernel != 0)[:, :, None] & ~edges.any(1)
    complete = ~lacking.any(0)
    chosen = edges & (jnp.arange(hosts)[:, None, None] == jnp.argmax(edges, axis=1, keepdims=True))
    block = jnp.where(chosen & complete, layer.kernel[:, None, :, None], 0).reshape(inputs * hosts, units * copies)
    kernel = jnp.zeros((sources, width), block.dtype).at[: inputs * hosts, : units * copies].set(block)
    bias = jnp.where(complete, layer.bias[:, None], 0).ravel()
    return Dense(kernel, jnp.zeros(width, bias.dtype).at[: units * copies].set(bias)), complete, lacking


def _column(lower: Array, kernel: Float[Array, "inputs units"]) -> Float[Array, "inputs 1"]:
    """One lower bound for each input, as a column."""
    return jnp.broadcast_to(lower.astype(kernel.dtype), kernel.shape[:1])[:, None]
