"""How a network of the ``paths/`` family is cut: to fewer samples, layers, inputs, hidden units or outputs."""

import itertools

import numpy as np

from theory.catalogue.paths.networks import Net
from theory.claim import Axis, along

Units = tuple[np.ndarray, ...]
"""For each layer of units, inputs and outputs included, which of them are kept."""


def with_units(net: Net, units: Units) -> Net:
    """The network with these units, and with the weights that lie on an edge between them.

    Args:
        net: NumPy arrays.
        units: at least one of each layer, and the same ones of each hidden layer.

    Raises:
        ValueError: no edge is left.
    """
    pairs = list(itertools.pairwise(units))
    cut = net.replace(
        indices=tuple(index[np.ix_(*pair)] for index, pair in zip(net.indices, pairs, strict=True)),
        coefficients=tuple(c[np.ix_(*pair)] for c, pair in zip(net.coefficients, pairs, strict=True)),
        bias=net.bias[:, units[1]] if net.depth > 1 else net.bias,
        x=net.x[:, units[0]],
        y=net.y[:, units[-1]],
    )
    return _without_idle_weights(cut)


def with_layers(net: Net, layers: np.ndarray) -> Net:
    """The network with these layers of weights, each of which acts on what the one before it gives.

    Args:
        net: NumPy arrays.
        layers: numbers of layers, ascending.

    Raises:
        ValueError: no layer is left, or inputs, layers and targets do not fit each other any more.
    """
    widths = [net.indices[layer].shape for layer in layers]
    ends = [net.x.shape[1], *itertools.chain(*widths), net.y.shape[1]]
    if not widths or any(before != after for before, after in zip(ends[::2], ends[1::2], strict=True)):
        raise ValueError(f"layers is {layers}, whose widths are {widths}; it takes layers that fit each other")
    before, after = layers[:-1], layers[1:] - 1  # of each layer of hidden units
    cut = net.replace(
        indices=tuple(net.indices[layer] for layer in layers),
        coefficients=tuple(net.coefficients[layer] for layer in layers),
        in_layer=net.in_layer[layers],
        into_unit=net.into_unit[before],
        out_of_unit=net.out_of_unit[after],
        bias=net.bias[before],
    )
    return _without_idle_weights(cut)


def _without_idle_weights(net: Net) -> Net:
    """The network without the weights that are on no edge.

    Raises:
        ValueError: no edge is left.
    """
    edges = [index[c != 0] for index, c in zip(net.indices, net.coefficients, strict=True)]
    used = np.unique(np.concatenate(edges))
    if not len(used):
        raise ValueError("no edge of the network is left; it takes units and layers with an edge")
    kept = net.kept[used]
    # Edges without a coefficient have the number of some weight, which may be gone: any other serves as well.
    numbers = [np.minimum(np.searchsorted(used, index), len(used) - 1).astype(index.dtype) for index in net.indices]
    return net.replace(
        theta=net.theta[used],
        kept=kept,
        indices=tuple(numbers),
        in_layer=net.in_layer[:, used],
        into_unit=net.into_unit[..., used],
        out_of_unit=net.out_of_unit[..., used],
        free_signs=np.resize(np.flatnonzero(kept), net.free_signs.shape).astype(net.free_signs.dtype),
    )


def _units(layers: slice) -> Axis:
    """The units of some layers, all of one width, which lose the same ones."""

    def keep(net: Net, indices: np.ndarray) -> Net:
        units = [np.arange(width) for width in net.widths]
        units[layers] = [indices] * len(units[layers])
        return with_units(net, tuple(units))

    return Axis(lambda net: min(net.widths[layers], default=0), keep)


AXES = {
    "samples": along(x=0, y=0),
    "layers": Axis(lambda net: net.depth, with_layers),
    "inputs": _units(slice(0, 1)),
    "hidden units": _units(slice(1, -1)),
    "outputs": _units(slice(-1, None)),
}
