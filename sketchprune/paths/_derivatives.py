"""R_2's derivatives in the squared weights s = θ²: what trace, Gram matrix and scores are made of.

With s_l = powers_l 4^e_l for leaf l and the least e of all, ∂R_2/∂s_l = slopes_l relative_l 2^exponent, relative_l
= 4^(e − e_l) <= 1: leaves of any scale next to each other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune._leaves import differentiable_leaves
from sketchprune.paths._flow import Exponent, Flow, alive, flow, support, two_to
from sketchprune.types import ApplyFn, Mask, Params

Leaves = list[Float[Array, "..."]]


class Squares(NamedTuple):
    flow: Flow
    kept: Leaves
    """Ones where a column is kept, zeros elsewhere."""
    weights: Leaves
    """θ_l 2^−e_l, signed."""
    roots: Leaves
    """√relative_l, numbers."""
    base: Exponent
    """−2e: what changing the unit of s adds to an exponent."""

    @property
    def relative(self) -> Leaves:
        return [root**2 for root in self.roots]

    def slopes(self) -> tuple[Leaves, Exponent]:
        """∂R_2/∂s_l and the exponent that they have in common."""
        slopes, exponent = jax.grad(self.flow.total, has_aux=True)(self.flow.powers)
        return [slope * factor for slope, factor in zip(slopes, self.relative, strict=True)], exponent + self.base

    def curved(self, direction: Leaves) -> tuple[Leaves, Leaves, Exponent]:
        """Slopes and Hessian-vector product, both of the value in the powers, and their exponent."""

        gradient = jax.grad(self.flow.total, has_aux=True)
        slopes, curved, exponent = jax.jvp(gradient, (self.flow.powers,), (direction,), has_aux=True)
        return slopes, curved, exponent

    def drops(self) -> tuple[Leaves, Exponent]:
        """By how much removing a weight lowers Tr Π: ∂R_2/∂s_i + s_i ∂Tr Π/∂s_i."""
        direction = [factor * kept for factor, kept in zip(self.relative, self.kept, strict=True)]
        slopes, curved, exponent = self.curved(direction)
        rows = zip(slopes, curved, self.relative, self.flow.powers, strict=True)
        return [slope * factor + power * curve for slope, curve, factor, power in rows], exponent + self.base

    def gram_product(self, vector: Leaves) -> tuple[Leaves, Exponent]:
        """G times a vector over the kept columns: G_ii = ∂R_2/∂s_i, G_ij = θ_iθ_j ∂²R_2/∂s_i∂s_j."""
        columns = [kept * root for kept, root in zip(self.kept, self.roots, strict=True)]
        moved = [column * part for column, part in zip(columns, vector, strict=True)]
        slopes, curved, exponent = self.curved([w * part for w, part in zip(self.weights, moved, strict=True)])
        rows = zip(columns, slopes, moved, self.weights, curved, strict=True)
        return [c * (slope * part + w * curve) for c, slope, part, w, curve in rows], exponent + self.base


def squares(
    apply: ApplyFn, masked: Params, inputs: Float[Array, "..."], mask: Mask | None, *, authors: bool = False
) -> Squares:
    """R_2 of a network whose parameters are masked already; the mask says which columns are kept.

    ValueError where a path uses a weight twice: R_2 is then not linear in each s_i.
    """
    masked = alive(apply, masked, inputs, mask, authors=authors)
    weights, _ = differentiable_leaves(masked)
    found = flow(apply, masked, inputs, 2, authors=authors, once=True)
    least = jnp.stack(found.exponents).min()
    return Squares(
        found,
        support(masked, mask),
        [w * two_to(-e, w.dtype) for w, e in zip(weights, found.exponents, strict=True)],
        [two_to(least - e, w.dtype) for w, e in zip(weights, found.exponents, strict=True)],
        -2 * least,
    )
