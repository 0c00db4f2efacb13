"""The linear network at powers: R_q, the sum over all paths of |v_p|^q u_p, at any scale.

`flow` evaluates a network on path sums (see `_path_sums`), with R_q as a function of the powers of the weights.

All units of a layer share one exponent, which the heaviest of them sets. A unit that no path runs through could
outweigh the others by a factor that grows with every layer, until they are rounded to zero beside it. `alive` finds
the weights that paths do run through.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from sketchprune._leaves import at_floating, differentiable_leaves
from sketchprune.paths._exponents import Exponent, exponent_of
from sketchprune.paths._path_sums import PathSum, Reader, raised, rescaled
from sketchprune.types import ApplyFn, Mask, Params

Leaves = list[Float[Array, "..."]]


class Flow(NamedTuple):
    """R_q as a function of the weights' powers, leaf by leaf: |θ_l|^q = powers_l * 2**(q exponents_l)."""

    powers: Leaves
    exponents: list[Exponent]
    total_and_lost_bits: Callable[[Leaves], tuple[Float[Array, ""], tuple[Exponent, Exponent]]]
    """From the powers to R_q = value * 2**exponent, as value and (exponent, lost bits).

    The value is differentiable any number of times. The lost bits say by how many powers of two the paths of R_q
    stood below heavier paths that end before the output.
    """

    def total(self, powers: Leaves) -> tuple[Float[Array, ""], Exponent]:
        """R_q = value * 2**exponent, as value and exponent."""
        value, (exponent, _) = self.total_and_lost_bits(powers)
        return value, exponent


def flow(
    apply: ApplyFn,
    params: Params,
    inputs: Float[Array, "..."],
    power: int,
    *,
    allow_max_and_bias: bool = False,
    forbid_reuse: bool = False,
    indicators: bool = False,
) -> Flow:
    """R_q(θ; u) of the floating leaves of ``params``, in their order, for one input u.

    Args:
        apply: the network.
        params: its parameters, masked where something is pruned.
        inputs: u, one sample, not negative.
        power: q.
        allow_max_and_bias: let through what has no paths, as the code of the SynFlow paper does: max pooling passes
            on the largest entry, and a bias or shift b is an edge |b|^q from an input of one. Otherwise both raise.
        forbid_reuse: raise where a path uses the same leaf twice. Entries taken from a leaf by slicing or indexing
            are not followed.
        indicators: replace all values and their derivatives by one where they are above zero.
    """
    leaves, tree = jax.tree.flatten(params)
    own, rebuild = differentiable_leaves(leaves)
    with jax.default_matmul_precision("highest"):
        program = jax.make_jaxpr(lambda leaves, x: apply(tree.unflatten(leaves), x))(leaves, inputs[None])
    weights = [raised(leaf, power)._replace(leaves=frozenset({number})) for number, leaf in enumerate(own)]
    start = rescaled(PathSum(inputs[None], jnp.int32(0), from_input=True))
    reader = Reader(power, allow_max_and_bias, forbid_reuse, indicators)

    def total_and_lost_bits(powers: Leaves) -> tuple[Array, tuple[Exponent, Exponent]]:
        terms = [weight._replace(values=values) for weight, values in zip(weights, powers, strict=True)]
        (outputs,) = reader(program, [*rebuild(terms), start])
        if not isinstance(outputs, PathSum) or not outputs.from_input:
            raise ValueError("apply returns what does not depend on x; it takes a network")
        value = jnp.sum(outputs.values)
        return value, (outputs.exponent, outputs.lost_bits - exponent_of(value))

    return Flow([each.values for each in weights], [each.exponent // power for each in weights], total_and_lost_bits)


def alive(
    apply: ApplyFn,
    params: Params,
    inputs: Float[Array, "..."],
    mask: Mask | None,
    *,
    allow_max_and_bias: bool = False,
) -> Params:
    """The parameters, with zeros where no path runs from a positive input over kept weights to an output.

    Where nothing is pruned and all inputs are positive the parameters are returned as they are. Otherwise this costs
    one forward and one backward pass on zeros and ones.
    """
    own, rebuild = differentiable_leaves(params)
    kept = support(params, mask)

    def used() -> Leaves:
        positive = (inputs > 0).astype(inputs.dtype)
        found = flow(apply, rebuild(kept), positive, 1, allow_max_and_bias=allow_max_and_bias, indicators=True)
        slopes, _ = jax.grad(found.total, has_aux=True)(found.powers)
        return [(slope > 0).astype(slope.dtype) for slope in slopes]

    unpruned = jnp.stack([jnp.all(inputs > 0), *(jnp.all(each > 0) for each in kept)]).all()
    factors = lax.cond(unpruned, lambda: kept, used)
    return rebuild([leaf * factor for leaf, factor in zip(own, factors, strict=True)])


def support(params: Params, mask: Mask | None) -> Leaves:
    """Ones where the mask keeps a floating leaf's weights, zeros elsewhere, in the dtypes of the leaves."""
    own, _ = differentiable_leaves(params)
    if mask is None:
        return [jnp.ones_like(leaf) for leaf in own]
    return [(kept != 0).astype(leaf.dtype) for leaf, kept in zip(own, at_floating(params, mask), strict=True)]
