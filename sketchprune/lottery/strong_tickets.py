"""Strong lottery tickets: a trained network approximated by nothing but a mask of a random sparse network.

Two layers of the source stand for one layer of the target. Each weight becomes a subset sum of random products, so
the only choice is which weights are kept. Networks here have no biases and are given by their kernels, [inputs,
units]; :func:`networks.fold_biases` makes the biases of a target weights of a constant input.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Shaped

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs, _sums
from sketchprune.lottery._chunks import CHUNK_BYTES, map_in_chunks
from sketchprune.lottery.networks import Dense, Kernel
from sketchprune.lottery.perturbation import perturbation_bound
from sketchprune.types import Key


class StrongTicket(NamedTuple):
    """A mask of a random network that approximates a target, and how well it does.

    Attributes:
        masks: 2L boolean arrays [inputs, units], which weights of the source are kept, all inside the source's masks.
        network: the source under these masks, for :func:`networks.apply`.
        weight_errors: [L], ε_l, the largest error of a weight of layer l.
        error_bounds: [L], e_l, the bound that follows on the error of layer l's outputs; the last one bounds
            |ticket(x) − target(x)| for every output and every x that the activations given speak of.
        num_live: for each layer of the target, [inputs, units], how many random products each weight could choose
            from (with signed inputs the fewer of its two sums).
    """

    masks: tuple[Bool[Array, "_ _"], ...]
    network: tuple[Dense, ...]
    weight_errors: Float[Array, "layers"]
    error_bounds: Float[Array, "layers"]
    num_live: tuple[Int[Array, "_ _"], ...]


@checked
def random_source(
    key: Key, target: Sequence[Kernel], units: int | Sequence[int], *, signed: bool = False
) -> tuple[Float[Array, "_ _"], ...]:
    """The random weights of a source network for :func:`strong_ticket`, before it is masked.

    For layer l of the target, with n inputs, there are two kernels:

    - [n, n·M], signs a_r: units j·M, …, j·M + M − 1 belong to input j. All are +1, except that in the first layer they
      alternate when inputs are signed.
    - [n·M, units], weights b ~ U[−4w, 4w] with w = max|W_l|.

    Args:
        key: layer l = 1, …, L of the target uses ``fold_in(key, l − 1)``.
        target: L kernels [inputs, units], whose shapes, dtypes and largest weights are used.
        units: M, for all layers or for each: the units of an input. At least 1, for signed inputs 2.
        signed: whether inputs may be negative.

    Returns:
        2L kernels.

    Raises:
        ValueError: kernels that do not fit together, or too few units.

    Cost: O(weights of the source).

    Source: lottery/strong-ticket.

    >>> [kernel.shape for kernel in random_source(jax.random.key(0), [jnp.ones((3, 2)), jnp.ones((2, 1))], 5)]
    [(3, 15), (15, 2), (2, 10), (10, 1)]
    """
    _inputs.chain("target", [jnp.shape(kernel) for kernel in target])
    counts = np.broadcast_to(np.asarray(units), (len(target),) if np.ndim(units) == 0 else np.shape(units))
    if len(counts) != len(target):
        raise ValueError(f"units has {len(counts)} entries; it takes {len(target)}, one for each layer of the target")
    source = []
    for layer, (kernel, count) in enumerate(zip(map(jnp.asarray, target), counts.tolist(), strict=True)):
        both = signed and layer == 0
        _checks.whole("units", count, least=2 if both else 1)
        inputs, outputs = kernel.shape
        signs = np.where(np.arange(count) % 2 == 1, -1 if both else 1, 1)
        source.append(jnp.asarray(np.tile(signs, (inputs, inputs)), kernel.dtype))
        draws = jax.random.uniform(jax.random.fold_in(key, layer), (inputs * count, outputs), kernel.dtype, -1, 1)
        source.append(4 * jnp.max(jnp.abs(kernel)) * draws)
    return tuple(source)


@checked
def strong_ticket(
    target: Sequence[Kernel],
    source: Sequence[Kernel],
    masks: Sequence[Shaped[Array | np.ndarray, "_ _"]],
    activations: Float[Array | np.ndarray, "_"],
    *,
    signed: bool = False,
    max_items: int = _sums.MAX_ITEMS,
    tolerance: Float[ArrayLike, "..."] = 0.0,
) -> StrongTicket:
    """The mask inside a random sparse network that approximates a target, weight by weight.

    In source layer 2l − 1 each input j of target layer l owns width // inputs units, which compute relu(a_r x_j): of
    the edges into them only that from j (weight a_r) may stay. In layer 2l each weight W_ij keeps a subset of the edges
    from these units to output i (weights b_ir):

    - The subset is that whose products |a_r| b_ir sum nearest to W_ij, out of at most ``max_items`` products with a_r >
      0 and both edges kept by the source's masks.
    - When inputs are signed, those with a_r < 0 sum to −W_ij in the first layer.

    Units left over and edges that no weight uses are pruned. A weight with few products to choose from is no error: its
    approximation is coarse, and the bounds say so. A weight of 0 gets no edge and is exact.

    Args:
        target: L kernels [inputs, units], ReLU between the layers.
        source: 2L kernels, of which kernel 2l has the units of target layer l; for example a :func:`random_source`.
        masks: 2L masks of the source.
        activations: [L], upper bounds of |x| and of the target's hidden activations, layer by layer, on the inputs for
            which the bounds shall hold; see :func:`largest_activations` and :func:`activation_bounds`.
        signed: whether inputs may be negative.
        max_items: products that a weight chooses from at most, 1 to 20.
        tolerance: take the first subset within this error of the weight, not the nearest one; one number or [L].

    Returns:
        The ticket, in the wider dtype of target and source; may be traced. See :class:`StrongTicket`.

    Raises:
        ValueError: kernels or masks that do not fit together, another depth than 2L, a source that is too narrow,
            weights that are not finite, max_items outside 1 to 20, a tolerance below 0.

    Cost: O(max_items · 2^{max_items/2}) for each weight of the target, worked through in chunks of about 32 MiB.

    Source: pensia2020subsetsum, gadhikar2023random, lottery/strong-ticket.

    >>> target, source = [jnp.array([[1.0]])], [jnp.ones((1, 2)), jnp.array([[0.75], [0.5]])]
    >>> ticket = strong_ticket(target, source, [jnp.ones((1, 2)), jnp.ones((2, 1))], jnp.array([2.0]))
    >>> ticket.masks[1].tolist(), ticket.weight_errors.tolist(), ticket.error_bounds.tolist()
    ([[True], [False]], [0.25], [0.5])
    """
    _check_shapes(*([jnp.shape(array) for array in arrays] for arrays in (target, source, masks)), signed=signed)
    for name, kernels in {"target": target, "source": source}.items():
        for i, kernel in enumerate(kernels):
            _checks.finite(f"{name}[{i}]", kernel)
    _checks.whole("max_items", max_items, least=1)
    if max_items > _sums.MAX_ITEMS:
        raise ValueError(f"max_items is {max_items}; it takes at most {_sums.MAX_ITEMS}")
    _inputs.at_least_zero("tolerance", tolerance)
    dtype = jnp.result_type(*target, *source)
    target, source = ([jnp.asarray(kernel, dtype) for kernel in kernels] for kernels in (target, source))
    tolerances = jnp.broadcast_to(jnp.asarray(tolerance, dtype), (len(target),))
    kept = [jnp.asarray(mask) != 0 for mask in masks]
    found = []
    for layer, kernel in enumerate(target):
        pair = slice(2 * layer, 2 * layer + 2)
        found.append(
            _approximate_layer(kernel, *source[pair], *kept[pair], tolerances[layer], signed and not layer, max_items)
        )
    chosen = [mask for first, second, *_ in found for mask in (first, second)]
    errors = jnp.stack([error for *_, error, _ in found])
    network = [
        Dense(jnp.where(mask, kernel, 0), jnp.zeros(kernel.shape[1], kernel.dtype))
        for mask, kernel in zip(chosen, source, strict=True)
    ]
    bounds = perturbation_bound(target, errors, activations)
    return StrongTicket(tuple(chosen), tuple(network), errors, bounds, tuple(live for *_, live in found))


def _check_shapes(target: list[tuple], source: list[tuple], masks: list[tuple], *, signed: bool) -> None:
    """Two layers of the source for each of the target, wide enough, and a mask for each."""
    _inputs.chain("target", target)
    _inputs.chain("source", source)
    if len(source) != 2 * len(target):
        raise ValueError(f"source has {len(source)} layers; it takes {2 * len(target)}, two for each of the target")
    if source[0][0] != target[0][0]:
        raise ValueError(f"source[0] has {source[0][0]} inputs; it takes {target[0][0]}, those of the target")
    for layer, (inputs, units) in enumerate(target):
        least = inputs * (2 if signed and layer == 0 else 1)
        if source[2 * layer][1] < least:
            width = source[2 * layer][1]
            raise ValueError(f"source[{2 * layer}] has {width} units; it takes at least {least} for {inputs} inputs")
        if source[2 * layer + 1][1] != units:
            width = source[2 * layer + 1][1]
            raise ValueError(f"source[{2 * layer + 1}] has {width} units; it takes {units}, those of the target")
    if masks != source:
        raise ValueError(f"masks has the shapes {masks}; it takes those of source, {source}")


@functools.partial(jax.jit, static_argnames=("signed", "max_items"))
def _approximate_layer(
    target: Float[Array, "inputs units"],
    first: Float[Array, "inputs width"],
    second: Float[Array, "width units"],
    first_kept: Bool[Array, "inputs width"],
    second_kept: Bool[Array, "width units"],
    tolerance: Float[Array, ""],
    signed: bool,
    max_items: int,
) -> tuple[Bool[Array, "inputs width"], Bool[Array, "width units"], Float[Array, ""], Int[Array, "inputs units"]]:
    """The masks of two layers, the largest error of a weight, and how many products each could choose from."""
    (inputs, width), units = first.shape, second.shape[1]
    owned = width // inputs

    def blocks(rows: Array) -> Shaped[Array, "inputs units owned"]:
        return jnp.swapaxes(rows[: inputs * owned].reshape(inputs, owned, units), 1, 2)

    place = jnp.arange(inputs)[:, None], jnp.arange(inputs * owned).reshape(inputs, owned)
    sign, usable = first[place], first_kept[place]
    values = jnp.abs(sign)[:, None] * blocks(second)
    live = usable[:, None] & blocks(second_kept)
    sides = [(live & (sign > 0)[:, None], target)]
    if signed:
        sides.append((live & (sign < 0)[:, None], -target))
    subsets = [_choose(values, side, wanted, tolerance, max_items) for side, wanted in sides]
    sums = [jnp.sum(jnp.where(subset, values, 0), axis=-1) for subset in subsets]
    errors = [jnp.abs(total - wanted) for total, (_, wanted) in zip(sums, sides, strict=True)]
    chosen = functools.reduce(jnp.logical_or, subsets)
    first_mask = jnp.zeros_like(first_kept).at[place].set(chosen.any(1))
    second_mask = jnp.swapaxes(chosen, 1, 2).reshape(inputs * owned, units)
    second_mask = jnp.zeros_like(second_kept).at[: inputs * owned].set(second_mask)
    num_live = [jnp.sum(side, axis=-1, dtype=jnp.int32) for side, _ in sides]
    return first_mask, second_mask, jnp.max(jnp.stack(errors)), functools.reduce(jnp.minimum, num_live)


def _choose(
    values: Float[Array, "inputs units owned"],
    live: Bool[Array, "inputs units owned"],
    targets: Float[Array, "inputs units"],
    tolerance: Float[Array, ""],
    max_items: int,
) -> Bool[Array, "inputs units owned"]:
    """For each weight a subset of its live products, the first ``max_items`` of them, that sums to it."""
    owned = values.shape[-1]
    count = min(max_items, owned)

    def one_weight(products: Array, usable: Array, target: Array) -> Bool[Array, "owned"]:
        # The live ones in their order, then the others.
        order = lax.sort(jnp.where(usable, 0, owned) + jnp.arange(owned)) % owned
        places = order[:count]
        items = jnp.where(usable[places], products[places], 0)
        subset = _sums.halves(items).first_near(target, tolerance)[0]
        return jnp.zeros(owned, bool).at[places].set(subset & usable[places])

    bytes_each = _sums.search_bytes(count, values.dtype) + 4 * owned * values.dtype.itemsize
    flat = values.reshape(-1, owned), live.reshape(-1, owned), targets.ravel()
    return map_in_chunks(one_weight, CHUNK_BYTES // bytes_each, *flat).reshape(values.shape)
