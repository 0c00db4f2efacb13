"""All paths of a small network, one by one: what the fast path formulas are tested against."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

MAX_PATHS = 10_000
"""Π has this many rows and columns at most: 800 MB in float64."""


class Edges(NamedTuple):
    """One layer as edges from inputs to outputs, each with at most one weight and a fixed coefficient.

    Attributes:
        weights: of any shape; None where no edge has one, as in a pooling.
        indices: [inputs, outputs], which of the weights (counted as raveled), -1 where the edge has none.
        coefficients: [inputs, outputs], 0 where there is no edge.
        output_shape: the outputs' shape before they were raveled.
        gated: whether a ReLU follows, unless the layer is the last.
    """

    weights: Any
    indices: np.ndarray
    coefficients: np.ndarray
    output_shape: tuple[int, ...]
    gated: bool = True

    def matrix(self, weights: Any) -> Float[Array, "inputs outputs"]:
        """The layer as a matrix, of these weights."""
        if weights is None:
            return jnp.asarray(self.coefficients)
        flat = jnp.ravel(jnp.asarray(weights))
        return jnp.where(self.indices >= 0, flat[self.indices], 1) * self.coefficients.astype(flat.dtype)


class Paths(NamedTuple):
    """Every path of a network and its derivatives. Numbers in the dtype of the weights.

    Attributes:
        units: [paths, layers + 1], the units that a path runs through.
        edges: [paths, layers], the weights that it uses, counted over all layers; -1 for a fixed coefficient.
        values: [paths], v_p, products of masked weights and of coefficients.
        jacobian: [paths, weights], ∂v_p/∂θ_i over the kept weights, zero for the others: the product of the other
            weights of the path, right at weights that are zero.
        layers: the network, for its activities.
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
        """Π = J Jᵀ."""
        return jnp.matmul(self.jacobian, self.jacobian.T, precision=lax.Precision.HIGHEST)

    @property
    def gram(self) -> Float[Array, "weights weights"]:
        """G = Jᵀ J."""
        return jnp.matmul(self.jacobian.T, self.jacobian, precision=lax.Precision.HIGHEST)

    def features(self, x: Float[Array, "n inputs"], *, linear: bool = False) -> Float[Array, "n outputs paths"]:
        """∂f_k/∂v_p at each sample: the input that a path to k starts from where all its hidden units are active.

        With ``linear`` there are no activations and every path is active. Σ_p features · values is the output.
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


def enumerate_paths(
    weights: Sequence[Float[Array, "inputs outputs"] | Edges], masks: Sequence[Any] | None = None
) -> Paths:
    """All paths of a network given layer by layer, inputs first, with their values and Jacobian.

    A layer is a matrix [inputs, outputs] or the :class:`Edges` of `convolution` and `average_pooling`. A mask is
    shaped like the layer's weights, None for all of them or where a layer has none. Works under jit and vmap over
    weights and masks: pruned paths stay in the list, with value and derivatives zero. ValueError for layers that
    do not follow one another, masks that do not fit, and more than 10,000 paths. O(paths * weights) memory.
    Source: gebhart2021paths.

    >>> found = enumerate_paths([jnp.array([[2.0], [3.0]]), jnp.array([[5.0]])])
    >>> found.values.tolist(), found.jacobian.tolist()
    ([10.0, 15.0], [[5.0, 0.0, 2.0], [0.0, 5.0, 3.0]])
    """
    layers = tuple(layer if isinstance(layer, Edges) else _dense(layer) for layer in weights)
    if not layers:
        raise ValueError("weights is empty; it takes at least one layer")
    given = [None] * len(layers) if masks is None else list(masks)
    if len(given) != len(layers):
        raise ValueError(f"masks has {len(given)} entries; it takes one a layer, {len(layers)}")
    for at, (layer, mask) in enumerate(zip(layers, given, strict=True)):
        if at and layer.indices.shape[0] != math.prod(layers[at - 1].output_shape):
            taken, before = layer.indices.shape[0], layers[at - 1].output_shape
            raise ValueError(f"weights[{at}] has {taken} inputs; it takes the outputs of the layer before, {before}")
        if mask is not None and jnp.shape(mask) != jnp.shape(layer.weights):
            expected = jnp.shape(layer.weights)
            raise ValueError(f"masks[{at}] has shape {jnp.shape(mask)}; it takes that of its weights, {expected}")
    units, edges = _topology(layers)

    masked, kept = [], []
    for layer, mask in zip(layers, given, strict=True):
        if layer.weights is None:
            masked.append(None)
            continue
        whole = jnp.asarray(layer.weights)
        mask = jnp.ones_like(whole) if mask is None else jnp.asarray(mask).astype(whole.dtype)
        masked.append(whole * mask)
        kept.append((mask != 0).ravel())
    matrices = tuple(layer.matrix(own) for layer, own in zip(layers, masked, strict=True))
    factors = [matrix[units[:, at], units[:, at + 1]] for at, matrix in enumerate(matrices)]
    values = math.prod(factors[1:], start=factors[0])

    columns = jnp.concatenate(kept) if kept else jnp.zeros(0, bool)
    jacobian = jnp.zeros((len(units), columns.size), values.dtype)
    for at, layer in enumerate(layers):
        used = np.flatnonzero(edges[:, at] >= 0)
        own = layer.coefficients[units[used, at], units[used, at + 1]].astype(values.dtype)
        others = math.prod((factor[used] for k, factor in enumerate(factors) if k != at), start=jnp.asarray(own))
        jacobian = jacobian.at[used, edges[used, at]].set(others)
    return Paths(units, edges, values, jnp.where(columns, jacobian, 0), layers, matrices)


def _dense(weights: Any) -> Edges:
    if jnp.ndim(weights) != 2:
        raise ValueError(f"weights has a layer of shape {jnp.shape(weights)}; it takes matrices and Edges")
    inputs, outputs = jnp.shape(weights)
    index = np.arange(inputs * outputs).reshape(inputs, outputs)
    return Edges(weights, index, np.ones((inputs, outputs)), (outputs,))


def _topology(layers: Sequence[Edges]) -> tuple[np.ndarray, np.ndarray]:
    """The units and the weights of every path."""
    reached = np.ones(layers[0].indices.shape[0])
    for layer in layers:
        reached = reached @ (layer.coefficients != 0)
    if reached.sum() > MAX_PATHS:
        raise ValueError(f"weights make {reached.sum():.6g} paths; enumerate_paths takes at most {MAX_PATHS}")
    units = np.arange(layers[0].indices.shape[0])[:, None]
    edges, offset = np.zeros((len(units), 0), int), 0
    for layer in layers:
        path, unit = np.nonzero(layer.coefficients[units[:, -1]])
        index = layer.indices[units[path, -1], unit]
        edges = np.column_stack([edges[path], np.where(index >= 0, index + offset, -1)])
        units = np.column_stack([units[path], unit])
        offset += 0 if layer.weights is None else math.prod(jnp.shape(layer.weights))
    return units, edges


Padding = str | Sequence[tuple[int, int]]


def convolution(
    kernel: Float[Array, "rows columns channels features"],
    image_shape: tuple[int, int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
) -> Edges:
    """A convolution as edges between the pixels of images [height, width, channels] and of its result.

    The layouts of flax. ``padding`` is "SAME", "VALID" or (low, high) an axis. ValueError for a kernel that does
    not fit the image.

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


def average_pooling(
    image_shape: tuple[int, int, int],
    window: tuple[int, int],
    *,
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Edges:
    """An average pooling as edges of fixed coefficients, 1/(rows * columns) (padding counts, as in flax).

    ``strides`` are the window's sides unless given. No ReLU follows: the averaged entries have passed one.

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
    """For each place of a window on the image: entry of the window -> pixel that it meets."""
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
