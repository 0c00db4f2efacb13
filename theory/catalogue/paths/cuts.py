"""How a network of the ``paths/`` family is cut: into one with fewer samples, inputs, hidden units or outputs."""

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
    pairs = list(zip(units, units[1:], strict=False))
    indices = [index[np.ix_(*pair)] for index, pair in zip(net.indices, pairs, strict=True)]
    coefficients = [c[np.ix_(*pair)] for c, pair in zip(net.coefficients, pairs, strict=True)]
    edges = [index[c != 0] for index, c in zip(indices, coefficients, strict=True)]
    used = np.unique(np.concatenate(edges))
    if not len(used):
        raise ValueError(f"units is {units}, between which no edge is left; it takes units with an edge")
    kept = net.kept[used]
    # Edges without a coefficient have the number of some weight, which may be gone: any other serves as well.
    numbers = [np.minimum(np.searchsorted(used, index), len(used) - 1).astype(index.dtype) for index in indices]
    present = np.flatnonzero(kept)
    return net.replace(
        theta=net.theta[used],
        kept=kept,
        indices=tuple(numbers),
        coefficients=tuple(coefficients),
        in_layer=net.in_layer[:, used],
        into_unit=net.into_unit[..., used],
        out_of_unit=net.out_of_unit[..., used],
        bias=net.bias[:, units[1]],
        x=net.x[:, units[0]],
        y=net.y[:, units[-1]],
        free_signs=np.resize(present, net.free_signs.shape).astype(net.free_signs.dtype),
    )


def _layers(layers: slice) -> Axis:
    """The units of some layers, all of one width, which lose the same ones."""

    def keep(net: Net, indices: np.ndarray) -> Net:
        units = [np.arange(width) for width in net.widths]
        units[layers] = [indices] * len(units[layers])
        return with_units(net, tuple(units))

    return Axis(lambda net: min(net.widths[layers]), keep)


AXES = {
    "samples": along(x=0, y=0),
    "inputs": _layers(slice(0, 1)),
    "hidden units": _layers(slice(1, -1)),
    "outputs": _layers(slice(-1, None)),
}
