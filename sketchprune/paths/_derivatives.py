"""Derivatives of R_2 in the squared weights s = θ², of which trace, Gram matrix and scores are made.

Leaf l is s_l = powers_l 4^e_l with an exponent e_l of its own; e is the least of them. Then
∂R_2/∂s_l = slopes_l scales_l 2^exponent with scales_l = 4^(e − e_l) <= 1, so that leaves of very different scale
share one exponent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune._leaves import differentiable_leaves
from sketchprune.paths._exponents import Exponent, power_of_two
from sketchprune.paths._flow import Flow, Leaves, alive, flow, support
from sketchprune.types import ApplyFn, Mask, Params


class SquaredNetwork(NamedTuple):
    """R_2 of a network, as a function of its squared weights."""

    flow: Flow
    kept: Leaves
    """Ones where a column is kept, zeros elsewhere."""
    weights: Leaves
    """θ_l 2^−e_l, with their signs."""
    root_scales: list[Float[Array, ""]]
    """√scales_l."""
    base: Exponent
    """−2e, which is added to an exponent where a derivative in s is taken."""

    @property
    def scales(self) -> list[Float[Array, ""]]:
        """scales_l = 4^(e − e_l)."""
        return [root**2 for root in self.root_scales]

    def slopes(self) -> tuple[Leaves, Exponent]:
        """∂R_2/∂s_l and their common exponent."""
        slopes, exponent = jax.grad(self.flow.total, has_aux=True)(self.flow.powers)
        return [slope * scale for slope, scale in zip(slopes, self.scales, strict=True)], exponent + self.base

    def slopes_and_hvp(self, direction: Leaves) -> tuple[Leaves, Leaves, Exponent]:
        """Gradient and Hessian-vector product of R_2's value, both in the powers, and R_2's exponent."""
        gradient = jax.grad(self.flow.total, has_aux=True)
        return jax.jvp(gradient, (self.flow.powers,), (direction,), has_aux=True)

    def removal_drops(self) -> tuple[Leaves, Exponent]:
        """By how much removing a weight lowers Tr Π: ∂R_2/∂s_i + s_i ∂Tr Π/∂s_i."""
        direction = [scale * kept for scale, kept in zip(self.scales, self.kept, strict=True)]
        slopes, hvp, exponent = self.slopes_and_hvp(direction)
        leaves = zip(slopes, hvp, self.scales, self.flow.powers, strict=True)
        return [slope * scale + power * change for slope, change, scale, power in leaves], exponent + self.base

    def gram_product(self, vector: Leaves) -> tuple[Leaves, Exponent]:
        """G times a vector over the kept columns: G_ii = ∂R_2/∂s_i, G_ij = θ_iθ_j ∂²R_2/∂s_i∂s_j."""
        columns = [kept * root for kept, root in zip(self.kept, self.root_scales, strict=True)]
        moved = [column * part for column, part in zip(columns, vector, strict=True)]
        direction = [weight * part for weight, part in zip(self.weights, moved, strict=True)]
        slopes, hvp, exponent = self.slopes_and_hvp(direction)
        leaves = zip(columns, slopes, moved, self.weights, hvp, strict=True)
        product = [column * (slope * part + weight * change) for column, slope, part, weight, change in leaves]
        return product, exponent + self.base


def squared_network(
    apply: ApplyFn,
    masked: Params,
    inputs: Float[Array, "..."],
    mask: Mask | None,
    *,
    allow_max_and_bias: bool = False,
) -> SquaredNetwork:
    """R_2 of a network whose parameters are masked already; the mask says which columns are kept.

    Raises ValueError where a path uses a weight twice, because R_2 is then not linear in each s_i.
    """
    masked = alive(apply, masked, inputs, mask, allow_max_and_bias=allow_max_and_bias)
    weights, _ = differentiable_leaves(masked)
    found = flow(apply, masked, inputs, 2, allow_max_and_bias=allow_max_and_bias, forbid_reuse=True)
    least = jnp.stack(found.exponents).min()
    return SquaredNetwork(
        flow=found,
        kept=support(masked, mask),
        weights=[w * power_of_two(-e, w.dtype) for w, e in zip(weights, found.exponents, strict=True)],
        root_scales=[power_of_two(least - e, w.dtype) for w, e in zip(weights, found.exponents, strict=True)],
        base=-2 * least,
    )
