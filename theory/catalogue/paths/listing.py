"""All paths of a network, one by one: what the claims measure, independently of the library's formulas."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from theory.catalogue.paths.networks import Net


class PathList(NamedTuple):
    """All paths of a network.

    Attributes:
        units: for each layer of units, inputs and outputs included, which of them each path runs through.
        values: [paths], v_p.
        jacobian: [paths, P], ∂v_p/∂θ_i over the kept weights: the product of the path's other weights.
        uses: [paths, P], 1 where a path runs over an edge with that kept weight.
    """

    units: list[np.ndarray]
    values: Float[Array, " paths"]
    jacobian: Float[Array, "paths P"]
    uses: Float[Array, "paths P"]

    @property
    def starts(self) -> np.ndarray:
        """The input that each path starts from."""
        return self.units[0]

    @property
    def gram(self) -> Float[Array, "P P"]:
        """G = JᵀJ."""
        return self.jacobian.T @ self.jacobian

    def weighted_jacobian(self, u: Float[Array, " d"]) -> Float[Array, "paths P"]:
        """The Jacobian with √u of the input that each path starts from, so that its squares are weighted by u."""
        return jnp.sqrt(u)[self.starts][:, None] * self.jacobian


def list_paths(net: Net, theta: Float[Array, " P"] | None = None, kept: Float[Array, " P"] | None = None) -> PathList:
    """The paths of the pruned network, with its own weights and mask unless others are given."""
    weights: Array = net.theta if theta is None else theta
    present: Array = net.kept if kept is None else kept
    units = [axis.ravel() for axis in np.indices(net.widths)]
    steps = list(zip(net.indices, net.coefficients, units, units[1:], strict=False))
    chosen = [index[start, end] for index, _, start, end in steps]
    fixed = [c[start, end] for _, c, start, end in steps]
    factors = [c * (weights * present)[weight] for c, weight in zip(fixed, chosen, strict=True)]
    jacobian = uses = jnp.zeros((units[0].size, weights.size), weights.dtype)
    for at, (weight, c) in enumerate(zip(chosen, fixed, strict=True)):
        others = c
        for k, factor in enumerate(factors):
            others = others if k == at else others * factor
        column = (weight[:, None] == jnp.arange(weights.size)) * present
        jacobian = jacobian + others[:, None] * column
        uses = uses + (c != 0)[:, None] * column
    values = factors[0]
    for factor in factors[1:]:
        values = values * factor
    return PathList(units, values, jacobian, uses)


def features_with_gates(
    net: Net, paths: PathList, preactivations: list[Float[Array, "n _"]], x: Float[Array, "n d"]
) -> Float[Array, "N paths"]:
    """∂f_k/∂v_p at each sample, N = n · k: the path's input where all of its gates are open and it ends in output k.

    The gates are open where the given pre-activations are positive. A path with a pruned weight is no path of the
    network, so its features are zero.
    """
    active = jnp.where(jnp.sum(paths.uses, axis=1) == net.depth, x[:, paths.starts], 0)
    for units, before in zip(paths.units[1:-1], preactivations, strict=True):
        active = active * (before > 0)[:, units]
    ends = paths.units[-1] == np.arange(net.widths[-1])[:, None]
    return (active[:, None] * ends).reshape(-1, ends.shape[1])


def path_features(net: Net, paths: PathList) -> Float[Array, "N paths"]:
    """J_v^f, the path features of the network itself on its samples."""
    return features_with_gates(net, paths, net.run(net.masked, net.x)[1], net.x)
