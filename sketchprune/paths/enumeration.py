"""All paths of a small network, one by one: the reference for the formulas of `sketchprune.paths.kernel`."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from sketchprune._boundary import checked

MAX_PATHS = 10_000
"""The most paths that are listed: Π has one row and one column for each, 800 MB in float64."""


class Edges(NamedTuple):
    """One layer as edges from its inputs to its outputs.

    An edge has a fixed coefficient, and at most one weight. Several edges may have the same weight, as in a
    convolution.

    Attributes:
        weights: of any shape; None where no edge has a weight, as in a pooling.
        indices: [inputs, outputs], the weight of each edge by its number in the raveled weights; −1 where it has none.
        coefficients: [inputs, outputs], the fixed factors; 0 where there is no edge.
        output_shape: the outputs' shape before they were raveled.
        gated: whether a ReLU follows, unless the layer is the last one.
    """

    weights: Any
    indices: np.ndarray
    coefficients: np.ndarray
    output_shape: tuple[int, ...]
    gated: bool = True

    def matrix(self, weights: Any) -> Float[Array, "inputs outputs"]:
        """The layer as a matrix, with other ``weights`` in place of its own."""
        if weights is None:
            return jnp.asarray(self.coefficients)
        flat = jnp.ravel(jnp.asarray(weights))
        return jnp.where(self.indices >= 0, flat[self.indices], 1) * self.coefficients.astype(flat.dtype)


Layer = Float[Array | np.ndarray, "..."] | Edges
"""A matrix [inputs, outputs], or the edges of `convolution` or `average_pooling`."""


class Paths(NamedTuple):
    """Every path of a network and its derivatives, in the dtype of the weights.

    Attributes:
        units: [paths, layers + 1], the units that each path runs through, from input to output.
        edges: [paths, layers], the weights that each path uses, numbered through all layers; −1 for an edge that has
            only a fixed coefficient.
        values: [paths], v_p, products of masked weights and coefficients.
        jacobian: [paths, weights], ∂v_p/∂θ_i for kept weights and zero for the others. This is the product of the
            path's other weights, so it is right at weights that are zero.
        layers: the network.
        matrices: each layer's masked matrix.
    """

    units: np.ndarray
    edges: np.ndarray
    values: Float[Array, " paths"]
    jacobian: Float[Array, "paths weights"]
    layers: tuple[Edges, ...]
    matrices: tuple[Float[Array, "inputs outputs"], ...]

    @property
    def kernel(self) -> Float[Array, "paths paths"]:
        """The path kernel Π = J Jᵀ."""
        return jnp.matmul(self.jacobian, self.jacobian.T, precision=lax.Precision.HIGHEST)

    @property
    def gram(self) -> Float[Array, "weights weights"]:
        """The Gram matrix G = Jᵀ J."""
        return jnp.matmul(self.jacobian.T, self.jacobian, precision=lax.Precision.HIGHEST)

    @checked
    def features(
        self, x: Float[Array | np.ndarray, "n inputs"], *, linear: bool = False
    ) -> Float[Array, "n outputs paths"]:
        """The path features ∂f_k/∂v_p of each sample, such that Σ_p features · values is the network's output.

        They are the input that a path to output k starts from, where all hidden units of the path are active, and
        zero otherwise.

        Args:
            x: samples, raveled.
            linear: leave out the activations, so that every path is active.
        """
        x = jnp.asarray(x)
        active = x[:, self.units[:, 0]]
        hidden = x
        for at, (layer, matrix) in enumerate(zip(self.layers[:-1], self.matrices, strict=False)):
            hidden = jnp.matmul(hidden, matrix, precision=lax.Precision.HIGHEST)
            if layer.gated and not linear:
                active = jnp.where(hidden[:, self.units[:, at + 1]] > 0, active, 0)
                hidden = jnp.maximum(hidden, 0)
        ends = self.units[:, -1] == np.arange(self.layers[-1].coefficients.shape[1])[:, None]
        return jnp.where(ends, active[:, None], 0)


@checked
def enumerate_paths(weights: Sequence[Layer], masks: Sequence[Any] | None = None) -> Paths:
    """All paths of a network given layer by layer, with their values and their Jacobian.

    Pruned paths stay in the list, with value and derivatives zero. Works under jit and vmap over weights and masks.

    Args:
        weights: the layers, the one that reads the inputs first. Each is a matrix [inputs, outputs] or the `Edges` of
            `convolution` or `average_pooling`.
        masks: one for each layer, shaped like its weights; None in place of a mask keeps all weights, and stands for
            layers without weights.

    Returns:
        The paths.

    Raises:
        ValueError: if layers do not follow one another, masks do not fit, or there are more than 10,000 paths.

    Cost:
        O(paths · weights) memory.

    Source:
        gebhart2021paths.

    Example:
        >>> found = enumerate_paths([jnp.array([[2.0], [3.0]]), jnp.array([[5.0]])])
        >>> found.values.tolist(), found.jacobian.tolist()
        ([10.0, 15.0], [[5.0, 0.0, 2.0], [0.0, 5.0, 3.0]])
    """
    layers = tuple(layer if isinstance(layer, Edges) else _dense(layer) for layer in weights)
    given = [None] * len(layers) if masks is None else list(masks)
    _check(layers, given)
    units, edges = _topology(layers)
    kept = [_kept(layer, mask) for layer, mask in zip(layers, given, strict=True)]
    masked = [_masked(layer, mask) for layer, mask in zip(layers, given, strict=True)]
    matrices = tuple(layer.matrix(own) for layer, own in zip(layers, masked, strict=True))
    factors = [matrix[units[:, at], units[:, at + 1]] for at, matrix in enumerate(matrices)]
    values = math.prod(factors[1:], start=factors[0])
    jacobian = _jacobian(layers, units, edges, factors, jnp.concatenate(kept))
    return Paths(units, edges, values, jacobian, layers, matrices)


def _check(layers: Sequence[Edges], masks: Sequence[Any]) -> None:
    """Whether layers follow one another and masks fit them."""
    if not layers:
        raise ValueError("weights is empty; it takes at least one layer")
    if len(masks) != len(layers):
        raise ValueError(f"masks has {len(masks)} entries; it takes one for each layer, {len(layers)}")
    for at, (layer, mask) in enumerate(zip(layers, masks, strict=True)):
        if at and layer.indices.shape[0] != math.prod(layers[at - 1].output_shape):
            taken, before = layer.indices.shape[0], layers[at - 1].output_shape
            raise ValueError(f"weights[{at}] has {taken} inputs; it takes the outputs of the layer before, {before}")
        if mask is not None and jnp.shape(mask) != jnp.shape(layer.weights):
            expected = jnp.shape(layer.weights)
            raise ValueError(f"masks[{at}] has shape {jnp.shape(mask)}; it takes that of its weights, {expected}")


def _kept(layer: Edges, mask: Any) -> Array:
    """Which of the layer's weights are kept, raveled."""
    if layer.weights is None:
        return jnp.zeros(0, bool)
    whole = jnp.ones(jnp.shape(layer.weights)) if mask is None else jnp.asarray(mask)
    return (whole != 0).ravel()


def _masked(layer: Edges, mask: Any) -> Array | None:
    """The layer's weights under its mask."""
    if layer.weights is None:
        return None
    whole = jnp.asarray(layer.weights)
    return whole if mask is None else whole * jnp.asarray(mask).astype(whole.dtype)


def _jacobian(
    layers: Sequence[Edges], units: np.ndarray, edges: np.ndarray, factors: list[Array], kept: Array
) -> Float[Array, "paths weights"]:
    """∂v_p/∂θ_i: the product of a path's factors in the other layers, and of the edge's own coefficient."""
    dtype = jnp.result_type(*factors)
    jacobian = jnp.zeros((len(units), kept.size), dtype)
    for at, layer in enumerate(layers):
        used = np.flatnonzero(edges[:, at] >= 0)
        own = layer.coefficients[units[used, at], units[used, at + 1]].astype(dtype)
        others = math.prod((factor[used] for k, factor in enumerate(factors) if k != at), start=jnp.asarray(own))
        jacobian = jacobian.at[used, edges[used, at]].set(others)
    return jnp.where(kept, jacobian, 0)


def _dense(weights: Any) -> Edges:
    """A dense layer, with a weight of its own on every edge."""
    if jnp.ndim(weights) != 2:
        raise ValueError(f"weights has a layer of shape {jnp.shape(weights)}; it takes matrices and Edges")
    inputs, outputs = jnp.shape(weights)
    index = np.arange(inputs * outputs).reshape(inputs, outputs)
    return Edges(weights, index, np.ones((inputs, outputs)), (outputs,))


def _topology(layers: Sequence[Edges]) -> tuple[np.ndarray, np.ndarray]:
    """The units and the weights of every path, as in `Paths`."""
    reached = np.ones(layers[0].indices.shape[0])
    for layer in layers:
        reached = reached @ (layer.coefficients != 0)
    if reached.sum() > MAX_PATHS:
        raise ValueError(f"weights make {reached.sum():.6g} paths; enumerate_paths takes at most {MAX_PATHS}")
    units = np.arange(layers[0].indices.shape[0])[:, None]
    edges = np.zeros((len(units), 0), int)
    offset = 0
    for layer in layers:
        path, unit = np.nonzero(layer.coefficients[units[:, -1]])
        index = layer.indices[units[path, -1], unit]
        edges = np.column_stack([edges[path], np.where(index >= 0, index + offset, -1)])
        units = np.column_stack([units[path], unit])
        offset += 0 if layer.weights is None else math.prod(jnp.shape(layer.weights))
    return units, edges


Padding = str | Sequence[tuple[int, int]]
"""Either "SAME" or "VALID", or (low, high) for each axis of the image."""


@checked
def convolution(
    kernel: Float[Array | np.ndarray, "rows columns channels features"],
    image_shape: tuple[int, int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
) -> Edges:
    """A two-dimensional convolution as edges from the pixels of an image to those of its result.

    Layouts are those of flax.

    Args:
        kernel: the weights, [rows, columns, channels, features].
        image_shape: (height, width, channels).
        strides: of the kernel's places, along height and width.
        padding: with zeros: "SAME", "VALID", or (low, high) for height and for width.

    Returns:
        The layer. Its output shape is (height, width, features).

    Raises:
        ValueError: if the kernel does not fit the image.

    Example:
        >>> convolution(jnp.ones((1, 2, 1, 1)), (1, 3, 1), padding="VALID").indices.tolist()
        [[0, -1], [1, 0], [-1, 1]]
    """
    shape = jnp.shape(kernel)
    if len(shape) != 4 or shape[2] != image_shape[2]:
        raise ValueError(f"kernel has shape {shape}; it takes (rows, columns, {image_shape[2]}, features)")
    numbers = np.arange(math.prod(shape)).reshape(shape)
    places = _places(image_shape, shape[:2], strides, padding)
    output_shape = (*places.shape[:2], shape[3])
    index = np.full((math.prod(image_shape), math.prod(output_shape)), -1)
    channels, features = np.arange(shape[2])[:, None], np.arange(shape[3])
    for (i, j), tile in np.ndenumerate(places):
        for (a, b), pixel in tile.items():
            out = (i * places.shape[1] + j) * shape[3] + features
            index[pixel * shape[2] + channels, out] = numbers[a, b]
    return Edges(kernel, index, (index >= 0).astype(float), output_shape)


@checked
def average_pooling(
    image_shape: tuple[int, int, int],
    window: tuple[int, int],
    *,
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Edges:
    """An average pooling as edges with fixed coefficients 1/(rows · columns).

    Padding counts as entries, as in flax. No ReLU follows, because the averaged entries have passed one already.

    Args:
        image_shape: (height, width, channels).
        window: (rows, columns) that are averaged.
        strides: of the window's places, along height and width; the window's sides unless given.
        padding: with zeros: "SAME", "VALID", or (low, high) for height and for width.

    Returns:
        The layer. Its output shape is (height, width, channels).

    Raises:
        ValueError: if the window does not fit the image.

    Example:
        >>> average_pooling((1, 2, 1), (1, 2)).coefficients.tolist()
        [[0.5], [0.5]]
    """
    places = _places(image_shape, window, window if strides is None else strides, padding)
    channels = np.arange(image_shape[2])
    coefficients = np.zeros((math.prod(image_shape), places.size * image_shape[2]))
    for (i, j), tile in np.ndenumerate(places):
        for pixel in tile.values():
            rows = pixel * image_shape[2] + channels
            coefficients[rows, (i * places.shape[1] + j) * image_shape[2] + channels] = 1 / math.prod(window)
    output_shape = (*places.shape, image_shape[2])
    return Edges(None, np.full(coefficients.shape, -1), coefficients, output_shape, gated=False)


def _places(
    image_shape: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, int], padding: Padding
) -> np.ndarray:
    """For each place of a window on the image, which pixel each entry (row, column) of the window meets.

    Entries that meet padding are left out.
    """
    pads = lax.padtype_to_pads(image_shape[:2], window, strides, padding) if isinstance(padding, str) else padding
    counts = [
        (length + low + high - side) // step + 1
        for length, (low, high), side, step in zip(image_shape, pads, window, strides, strict=False)
    ]
    if min(counts) < 1:
        raise ValueError(f"image_shape is {tuple(image_shape)}; it takes one that holds the window {tuple(window)}")
    places = np.empty(counts, object)
    for i, j in np.ndindex(*counts):
        tile = {}
        for a, b in np.ndindex(*window):
            row, column = i * strides[0] + a - pads[0][0], j * strides[1] + b - pads[1][0]
            if 0 <= row < image_shape[0] and 0 <= column < image_shape[1]:
                tile[a, b] = row * image_shape[1] + column
        places[i, j] = tile
    return places
