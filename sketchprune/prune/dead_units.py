"""A smaller network without the units that a mask has cut off."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from sketchprune import _checks, _leaves, masks
from sketchprune._boundary import checked
from sketchprune._static import static
from sketchprune.prune.order import order_of_use
from sketchprune.types import ApplyFn, Inputs, Mask, Params


class Compact(NamedTuple):
    """A pruned network without its dead units.

    Attributes:
        params: the parameters, masked: those of the smaller network.
        mask: boolean, which of them are kept.
    """

    params: Params
    mask: Mask


@checked
def remove_dead_units(
    apply: ApplyFn,
    params: Params,
    mask: Mask,
    x: Inputs,
    *,
    activation: Callable[[Any], Any] = jax.nn.relu,
) -> Compact:
    """The smaller network that computes what the pruned one does, without the hidden units that do nothing.

    These units (of a convolution: channels) are left out, and whatever is cut off by that:

    - units without outgoing weights;
    - units without incoming weights, whose output is the constant activation(bias). What it adds to the next layer goes
      into that layer's bias. Such a unit stays if its constant is not 0 and the next layer has no bias, or is a
      convolution, whose borders see less of it.

    Inputs and outputs stay, and at least one unit of each layer.

    **Which networks.** A chain: dense layers, or convolutions and then dense layers, each with or without a bias, and
    between them nothing but the activation, pooling and flattening of images with channels last. This is tried on
    ``x``, with the units of each layer in another order and with dead units cut off; what fails is refused.

    **Not noticed** is a forward pass that depends on the number of units, as with ``ntk=True`` or a layer norm: the
    smaller network is then another function.

    Not for traced values, since the shapes depend on the mask. For a flax network, make a module of the widths that are
    left.

    Args:
        apply: the network.
        params: its parameters.
        mask: what is kept of them.
        x: a few samples [n, ...].
        activation: what is between the layers, a function of each number by itself.

    Returns:
        The parameters and the mask of the smaller network, structured like those of the larger.

    Raises:
        ValueError: naming the leaf, for what is no kernel or bias of a chain; for a network whose outputs change on x.

    Cost: four forward passes, and O(d) on the host.

    >>> apply = lambda params, x: jax.nn.relu(x @ params["a"]) @ params["b"]
    >>> params = {"a": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.array([[5.0], [6.0]])}
    >>> mask = {"a": jnp.array([[True, False], [True, False]]), "b": jnp.ones((2, 1), bool)}
    >>> small, _ = remove_dead_units(apply, params, mask, jnp.ones((1, 2)))
    >>> small["a"].tolist(), small["b"].tolist()
    ([[1.0], [3.0]], [[5.0]])
    """
    _checks.same_structure("mask", mask, "params", params)
    params, others = _leaves.split(params)
    apply, mask = _leaves.on_floating(apply, others), _leaves.beside(params, mask)
    masked = masks.apply(params, mask)
    layers = _chain(masked, order_of_use(apply, params, x))
    outputs = functools.partial(_outputs, x=x, apply=static(apply))
    _check_order_of_units(outputs, params, layers)
    _cut_off(layers, activation)
    cut = _rebuilt(masked, layers)
    if not _agree(outputs(masked), outputs(cut)):
        raise ValueError(
            "apply changes its outputs when dead units are cut off; it takes a chain of layers with biases that are "
            "added, and with `activation` between them"
        )
    kept = jax.tree.map(lambda m, weight: (np.asarray(m) != 0) | (np.asarray(weight) != 0), mask, cut)
    small, left = (_selected(tree, layers, _live_units(layers)) for tree in (cut, kept))
    return Compact(_leaves.joined(small, others), _leaves.with_ones(left, others))


@dataclass
class _Layer:
    """A layer of a chain.

    Attributes:
        kernel: the number of the leaf.
        bias: the number of the leaf; None without a bias.
        weights: the masked kernel [positions, units before, units], float64. A dense layer after a convolution has a
            position for each pixel.
        shift: the masked bias, float64; zeros without one.
        convolution: whether it is one.
    """

    kernel: int
    bias: int | None
    weights: np.ndarray
    shift: np.ndarray
    convolution: bool


def _chain(masked: Params, order: Sequence[str]) -> list[_Layer]:
    """The layers in order; refuses what is no chain by its shapes."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(masked)]
    _, leaves, _ = _checks.floating_leaves("params", masked)
    layers: list[_Layer] = []
    for path in order:
        number, name = paths.index(path), f"params{path}"
        values = np.asarray(leaves[number], np.float64)
        if values.ndim in (2, 4):
            before = layers[-1] if layers else None
            layers.append(
                _Layer(number, None, _weights(name, values, before), np.zeros(values.shape[-1]), values.ndim == 4)
            )
        elif layers and layers[-1].bias is None and values.shape == layers[-1].shift.shape:
            layers[-1].bias, layers[-1].shift = number, values.copy()
        else:
            raise ValueError(
                f"{name} has shape {values.shape}; it takes kernels [inputs, units] and [rows, columns, inputs, "
                "units], each with one bias [units] at most, used in this order"
            )
    return layers


def _weights(name: str, kernel: np.ndarray, before: _Layer | None) -> np.ndarray:
    """A kernel as [positions, units before, units]."""
    *positions, inputs, units = kernel.shape
    if before is None:
        return kernel.reshape(-1, inputs, units).copy()
    known = before.weights.shape[2]
    flattens = before.convolution and not positions
    if inputs % known if flattens else inputs != known or (positions and not before.convolution):
        raise ValueError(
            f"{name} has shape {kernel.shape}; it takes {'a multiple of ' if flattens else ''}{known} inputs, "
            "the units of the layer before"
        )
    return kernel.reshape(-1, known, units).copy()


def _cut_off(layers: list[_Layer], activation: Callable[[Any], Any]) -> None:
    """Cuts off units without incoming weights, layer by layer, then units without outgoing ones from the last layer."""
    for layer, after in itertools.pairwise(layers):
        constant = np.asarray(activation(jnp.asarray(layer.shift)), np.float64)
        folds = after.bias is not None and not after.convolution
        alone = ~(layer.weights != 0).any(axis=(0, 1)) & (folds | (constant == 0))
        after.shift += constant[alone] @ after.weights[:, alone].sum(axis=0)
        after.weights[:, alone] = 0
    for layer, after in reversed(list(itertools.pairwise(layers))):
        unused = ~(after.weights != 0).any(axis=(0, 2))
        layer.weights[:, :, unused] = 0


def _live_units(layers: list[_Layer]) -> list[Int[np.ndarray, "_"]]:
    """All inputs, the hidden units of each layer that are left, and all outputs."""
    live = []
    for after in layers[1:]:
        used = (after.weights != 0).any(axis=(0, 2))
        used[0] |= not used.any()
        live.append(np.flatnonzero(used))
    return [np.arange(layers[0].weights.shape[1]), *live, np.arange(layers[-1].weights.shape[2])]


def _rebuilt(tree: Params, layers: list[_Layer]) -> Params:
    """The parameters with the weights and biases of the layers, in their own shapes and dtypes."""
    leaves, structure = jax.tree.flatten(tree)
    for layer in layers:
        for number, values in ((layer.kernel, layer.weights), (layer.bias, layer.shift)):
            if number is not None:
                leaves[number] = jnp.asarray(values.reshape(leaves[number].shape), leaves[number].dtype)
    return structure.unflatten(leaves)


def _selected(tree: PyTree, layers: list[_Layer], units: list[Int[np.ndarray, "_"]]) -> PyTree:
    """The entries of the given inputs, hidden units and outputs, in the order given."""
    leaves, structure = jax.tree.flatten(tree)
    for layer, (before, own) in zip(layers, itertools.pairwise(units), strict=True):
        kernel = np.asarray(leaves[layer.kernel])
        chosen = kernel.reshape(layer.weights.shape)[:, before][:, :, own]
        shape = (*kernel.shape[:2], len(before), len(own)) if layer.convolution else (-1, len(own))
        leaves[layer.kernel] = jnp.asarray(chosen.reshape(shape))
        if layer.bias is not None:
            leaves[layer.bias] = jnp.asarray(np.asarray(leaves[layer.bias])[own])
    return structure.unflatten(leaves)


def _check_order_of_units(outputs: Callable[[Params], Array], params: Params, layers: list[_Layer]) -> None:
    """Refuses a network in which hidden units cannot change places, as with a shortcut around a layer."""
    rng = np.random.default_rng(0)
    first, last = layers[0].weights.shape[1], layers[-1].weights.shape[2]
    hidden = [rng.permutation(layer.weights.shape[2]) for layer in layers[:-1]]
    shuffled = _selected(params, layers, [np.arange(first), *hidden, np.arange(last)])
    if not _agree(outputs(params), outputs(shuffled)):
        raise ValueError(
            "apply changes its outputs when units of hidden layers change places; it takes a chain of layers without "
            "shortcuts"
        )


@functools.partial(jax.jit, static_argnames="apply")
def _outputs(params: Params, *, x: Any, apply: Any) -> Array:
    return apply(params, x)


def _agree(first: Array, second: Array) -> bool:
    """Whether two outputs are equal but for rounding."""
    eps = float(jnp.finfo(first.dtype).eps)
    one, other = (np.asarray(each, np.float64) for each in (first, second))
    largest = np.max(abs(one), where=np.isfinite(one), initial=0)
    return np.allclose(one, other, rtol=0, atol=eps**0.5 * largest, equal_nan=True)
