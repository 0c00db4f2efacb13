"""What each pruning score is before the conventions of `sketchprune.scores` are put on it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from sketchprune import kernels, masks
from sketchprune.paths._derivatives import SquaredNetwork, squared_network
from sketchprune.paths._exponents import Exponent, exponent_of, scaled
from sketchprune.paths._flow import Leaves, alive, flow
from sketchprune.types import Inputs, Key, Mask, Params

BLOCK = 256
"""Samples that go through the network at once."""


class Pruned(NamedTuple):
    """What a score is given; the parameters are masked already."""

    apply: Any
    loss: Any
    params: Params
    data: Any
    """The batch, or its inputs alone where targets are not used."""
    mask: Mask | None
    key: Any

    def rebuilt(self, leaves: Leaves) -> Params:
        """Leaves in the places of the parameters'."""
        return jax.tree.unflatten(jax.tree.structure(self.params), leaves)

    def kept(self, tree: Params) -> Params:
        """Zeros where the mask has pruned."""
        return tree if self.mask is None else masks.apply(tree, jax.tree.map(lambda m: m != 0, self.mask))


def random(pruned: Pruned) -> Params:
    leaves, tree = jax.tree.flatten(pruned.params)
    keys = jax.random.split(pruned.key, len(leaves))
    return tree.unflatten([jax.random.uniform(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)])


def magnitude(pruned: Pruned) -> Params:
    return jax.tree.map(abs, pruned.params)


def snip(pruned: Pruned) -> Params:
    return jax.tree.map(lambda g, w: abs(g * w), _gradient(pruned), pruned.params)


def grasp(pruned: Pruned) -> Params:
    direction = pruned.kept(_gradient(pruned))
    return jax.tree.map(jnp.multiply, _hessian_product(pruned, direction), pruned.params)


def synaptic_flow(pruned: Pruned, power: int, inputs: str) -> Params:
    fed = _fed(pruned, power, inputs)

    def shares(params: Params) -> tuple[Leaves, Array]:
        found = flow(pruned.apply, params, fed, power, allow_max_and_bias=True)
        (value, (exponent, lost_bits)), slopes = jax.value_and_grad(found.total_and_lost_bits, has_aux=True)(
            found.powers
        )
        products = [slope * part for slope, part in zip(slopes, found.powers, strict=True)]
        sound = (value > 0) & (lost_bits < jnp.finfo(value.dtype).maxexp // 2) & jnp.isfinite(_largest(products))
        return _representable(products, exponent), sound

    def again() -> Leaves:
        kept = jax.tree.map(lambda leaf: leaf != 0, pruned.params)
        return shares(alive(pruned.apply, pruned.params, fed, kept, allow_max_and_bias=True))[0]

    # Weights that are dead and yet heavy enough to matter are rare: not a pass more in every round for them.
    found, sound = shares(pruned.params)
    # Zeros cost less than copies of what is found.
    better = lax.cond(sound, lambda: [jnp.zeros_like(leaf) for leaf in found], again)
    found = [jnp.where(sound, *pair) for pair in zip(found, better, strict=True)]
    return pruned.rebuilt(found)


def path_trace(pruned: Pruned, inputs: str) -> Params:
    found = _squares(pruned, inputs)
    values, exponent = found.slopes()
    return pruned.rebuilt(_representable(_kept(found, values), exponent))


def trace_drop(pruned: Pruned, inputs: str) -> Params:
    found = _squares(pruned, inputs)
    values, exponent = found.removal_drops()
    return pruned.rebuilt(_representable(_kept(found, values), exponent))


def ntk_trace(pruned: Pruned) -> Params:
    return kernels.column_norms(pruned.apply, pruned.params, pruned.data)


def ntk_sap(pruned: Pruned, draws: int) -> Params:
    """Gradient, in factors of the weights that are one, of the squared derivative along a perturbation."""
    leaves, tree = jax.tree.flatten(pruned.params)
    ones = jax.tree.map(jnp.ones_like, pruned.params)

    def energy(factors: Params, perturbation: Params, x: Inputs, counted: Float[Array, " n"]) -> Array:
        point, tangent = (jax.tree.map(jnp.multiply, factors, each) for each in (pruned.params, perturbation))
        moved = jax.jvp(lambda params: pruned.apply(params, x), (point,), (tangent,))[1]
        return jnp.sum(counted[:, None] * moved**2)

    def add(total: Params, key: Key) -> tuple[Params, None]:
        keys = jax.random.split(key, len(leaves))
        normal = [jax.random.normal(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)]
        perturbation = tree.unflatten(normal)
        if pruned.mask is not None:
            perturbation = masks.apply(perturbation, pruned.mask)

        def gradient(x: Inputs, counted: Float[Array, " n"]) -> Params:
            return jax.grad(energy)(ones, perturbation, x, counted)

        counted = jnp.ones(len(pruned.data), jnp.result_type(*leaves))
        return jax.tree.map(jnp.add, total, _summed(gradient, pruned.data, counted)), None

    zero = jax.tree.map(jnp.zeros_like, pruned.params)
    total, _ = lax.scan(add, zero, jax.random.split(pruned.key, draws))
    return jax.tree.map(lambda leaf: abs(leaf) / draws, total)


def _gradient(pruned: Pruned) -> Params:
    """∂L/∂θ. Over several blocks: all outputs, the loss's gradient in them, then pullbacks block by block."""
    x, y = pruned.data
    if len(x) <= BLOCK:
        return jax.grad(lambda params: pruned.loss(pruned.apply(params, x), y))(pruned.params)
    outputs = _mapped(lambda part: pruned.apply(pruned.params, part), x)
    cotangents = jax.grad(pruned.loss)(outputs, y)
    return _summed(lambda part, cotangent: _pullback(pruned, part, pruned.params, cotangent), x, cotangents)


def _hessian_product(pruned: Pruned, direction: Params) -> Params:
    """∂²L/∂θ² times a direction: the derivative of `_gradient` along it, in the same steps."""
    x, y = pruned.data
    if len(x) <= BLOCK:
        gradient = jax.grad(lambda params: pruned.loss(pruned.apply(params, x), y))
        return jax.jvp(gradient, (pruned.params,), (direction,))[1]

    def push(part: Inputs) -> tuple[Array, Array]:
        return jax.jvp(lambda params: pruned.apply(params, part), (pruned.params,), (direction,))

    outputs, moved = _mapped(push, x)
    cotangents = jax.jvp(lambda outputs: jax.grad(pruned.loss)(outputs, y), (outputs,), (moved,))

    def pull(part: Inputs, cotangent: Array, its_move: Array) -> Params:
        primals, tangents = (pruned.params, cotangent), (direction, its_move)
        return jax.jvp(lambda *at: _pullback(pruned, part, *at), primals, tangents)[1]

    return _summed(pull, x, *cotangents)


def _pullback(pruned: Pruned, x: Inputs, params: Params, cotangent: Array) -> Params:
    return jax.vjp(lambda params: pruned.apply(params, x), params)[1](cotangent)[0]


def _blocks(array: Array, *, zeros: bool) -> Array:
    """[blocks, BLOCK, ...]; the last block is filled up with zeros, or with the last sample once more."""
    count = math.ceil(len(array) / BLOCK) * BLOCK
    at = jnp.arange(count)
    filled = array[jnp.minimum(at, len(array) - 1)]
    if zeros:
        filled = jnp.where((at < len(array)).reshape(-1, *(1 for _ in array.shape[1:])), filled, 0)
    return filled.reshape(-1, BLOCK, *array.shape[1:])


def _mapped(function: Callable[[Inputs], Any], x: Inputs) -> Any:
    """``function`` of all samples, block by block."""
    found = lax.map(function, _blocks(x, zeros=False))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: len(x)], found)


def _summed(function: Callable[..., Params], x: Inputs, *weights: Array) -> Params:
    """The sum over blocks of what is linear in the ``weights`` of the samples; those that fill up weigh nothing."""
    if len(x) <= BLOCK:
        return function(x, *weights)
    parts = _blocks(x, zeros=False), *(_blocks(each, zeros=True) for each in weights)
    shapes = jax.eval_shape(function, *(part[0] for part in parts))
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, function(*part)), None), start, parts)[0]


def _fed(pruned: Pruned, power: int, inputs: str) -> Float[Array, "..."]:
    """The input of a flow: ones, or the mean of |x|^q."""
    x, dtype = pruned.data, jnp.result_type(*jax.tree.leaves(pruned.params))
    if inputs not in ("ones", "data"):
        raise ValueError(f"inputs is {inputs!r}; it takes 'ones' or 'data'")
    if inputs == "ones":
        return jnp.ones(x.shape[1:], dtype)
    return jnp.mean(abs(x).astype(dtype) ** power, axis=0)


def _squares(pruned: Pruned, inputs: str) -> SquaredNetwork:
    return squared_network(pruned.apply, pruned.params, _fed(pruned, 2, inputs), pruned.mask, allow_max_and_bias=True)


def _kept(found: SquaredNetwork, values: Leaves) -> Leaves:
    """Zeros where the mask has pruned: what is not scored has no say in the scale."""
    return [kept * value for kept, value in zip(found.kept, values, strict=True)]


def _representable(values: Leaves, exponent: Exponent) -> Leaves:
    """values * 2**exponent, or times another power of two that brings the largest within the range."""
    most = jnp.finfo(values[0].dtype).maxexp
    largest = exponent + exponent_of(_largest(values))
    shift = jnp.clip(largest, -most // 4, most // 2) - largest
    return [scaled(value, exponent + shift) for value in values]


def _largest(values: Leaves) -> Array:
    return jnp.stack([jnp.max(value, initial=0) for value in values]).max()
