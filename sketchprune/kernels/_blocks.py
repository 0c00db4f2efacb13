"""The passes behind `sketchprune.kernels`: over samples and over pairs of them, in blocks that fit memory."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree, Shaped

from sketchprune._leaves import at_floating, differentiable_leaves
from sketchprune.kernels._contraction import PAIRED, STORED, Parts, Selection, block, parts, passed, plan
from sketchprune.kernels.sensitivities import sensitivities
from sketchprune.kernels.structure import Layer, Structure, read
from sketchprune.linalg import ritz_values
from sketchprune.types import ApplyFn, Inputs, Key, Params

WORTHWHILE = 2.5e7
"""Multiply-adds for a pair of blocks that hide what a step of the loop costs."""
UNROLLED_PASSES = 4
"""Backward passes that are written out: convolutions are many times slower inside a loop on a CPU."""
UNROLLED_PAIRS = 10
"""Pairs of blocks that are written out, those of four blocks: a third faster for dense layers than a loop."""
Masks = Sequence[Shaped[Array, "..."] | None]
"""One for each parameter leaf; None where it changes nothing."""


class Network(NamedTuple):
    structure: Structure
    leaves: list[Array]
    selections: list[Selection]
    outputs: int
    dtype: DTypeLike


class Pair(NamedTuple):
    """Two blocks of samples. Blocks at the end overlap the ones before, so that all have one size."""

    first: Int[Array, ""]
    second: Int[Array, ""]
    """Where they start."""
    first_new: Int[Array, ""]
    second_new: Int[Array, ""]
    """Where the samples start that no earlier block had."""
    fresh: Int[Array, ""]
    """1 where the first block is another than in the pair before, else 0."""


def network(apply: ApplyFn, params: Params, masks: Masks, kept: Sequence[int | None] | None, x: Inputs) -> Network:
    leaves, tree = jax.tree.flatten(params)
    outputs = jax.eval_shape(apply, params, x)
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(x) or not shape[1]:
        raise ValueError(
            f"apply returns {outputs if shape is None else f'shape {shape}'} for {len(x)} samples; "
            f"it takes an apply that returns one row of outputs for each, ({len(x)}, K)"
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"apply returns {outputs.dtype}; it takes an apply with real floating outputs")
    structure = read(apply, params, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    (alone,) = structure.program.out_avals
    if alone.shape != (1, shape[1]):
        raise ValueError(
            f"apply returns shape {alone.shape} for one sample and {shape} for {len(x)}; "
            "it takes an apply that treats samples one by one"
        )
    known = kept if kept is not None else [None] * len(leaves)
    # The barrier: the compiler would take minutes to evaluate what is done with a large mask that is a constant.
    masks = [None if mask is None else lax.optimization_barrier(jnp.asarray(mask)) for mask in masks]
    selections = [
        Selection(
            jnp.ones(jnp.shape(leaf), outputs.dtype) if mask is None else mask.astype(outputs.dtype),
            mask is not None,
            jnp.size(leaf) if mask is None else bound,
        )
        for leaf, mask, bound in zip(leaves, masks, known, strict=True)
    ]
    return Network(structure, leaves, selections, shape[1], outputs.dtype)


def spans(samples: int, most: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Size of the blocks, where each starts, and where its new samples start."""
    size = math.ceil(samples / math.ceil(samples / most))
    new = np.arange(0, samples, size, dtype=np.int32)
    return size, np.minimum(new, samples - size), new


def fold(
    update: Callable[[Any, Array, Pair], Any],
    start: Any,
    net: Network,
    x1: Inputs,
    x2: Inputs | None,
    *,
    trace: bool,
    block_size: int | None,
) -> Any:
    """Runs ``update(state, values, pair)`` over all pairs of blocks; without ``x2`` over half of them."""
    if not (net.structure.layers or net.structure.plain):  # outputs that depend on no parameter
        return start
    samples = max(len(x1), len(x1 if x2 is None else x2))
    chosen = plan(net.structure, net.selections, outputs=net.outputs, samples=samples, trace=trace)
    fits = samples * chosen.stored <= STORED
    most = math.isqrt(PAIRED // chosen.paired)
    if not fits:
        most = min(most, STORED // (2 * chosen.stored))
    if x2 is None:  # of four blocks ten in sixteen pairs are computed; smaller ones are not worth their overhead
        most = min(most, max(math.ceil(samples / 4), math.ceil(math.sqrt(WORTHWHILE / (chosen.work + 1)))))
    at_once = max(STORED // chosen.passing, 1)
    if block_size is not None:
        most, at_once = block_size, min(at_once, block_size)

    def one(sample: Array) -> Parts:
        return parts(chosen, sensitivities(net.structure, net.leaves, sample[None]))

    def parts_from(x: Inputs, size: int) -> Callable[[Any], Parts]:
        if not fits:
            return lambda start: lax.map(one, lax.dynamic_slice_in_dim(x, start, size), batch_size=min(at_once, size))
        every = _passed(one, x, at_once)
        return lambda start: jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part, start, size), every)

    size, starts, new = spans(len(x1), max(most, 1))
    left_from = right_from = parts_from(x1, size)
    right_starts, right_new = starts, new
    if x2 is not None:
        size, right_starts, right_new = spans(len(x2), max(most, 1))
        right_from = parts_from(x2, size)
    pairs = np.array(
        [
            (starts[i], right_starts[j], new[i], right_new[j], j == (i if x2 is None else 0))
            for i in range(len(starts))
            for j in range(i if x2 is None else 0, len(right_starts))
        ],
        np.int32,
    )
    # Hadamard products are the exception: they take longer outside a loop.
    if len(pairs) == 1 or (fits and len(pairs) <= UNROLLED_PAIRS and "hadamard" not in chosen.orders):
        state = start
        for pair in pairs:
            values = block(net.structure, chosen, left_from(pair[0]), right_from(pair[1]), trace=trace)
            state = update(state, values, Pair(*pair))
        return state

    def step(carry: tuple[Any, Parts], pair: Pair) -> tuple[tuple[Any, Parts], None]:
        state, left = carry
        left = lax.cond(pair.fresh == 1, lambda: left_from(pair.first), lambda: left)
        values = block(net.structure, chosen, left, right_from(pair.second), trace=trace)
        return (update(state, values, pair), left), None

    empty = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(left_from, 0))
    return lax.scan(step, (start, empty), Pair(*jnp.asarray(pairs.T)))[0][0]


def _passed(one: Callable[[Array], Parts], x: Inputs, most: int) -> Parts:
    """``one`` of every sample, at most ``most`` at once."""
    if len(x) > UNROLLED_PASSES * most:
        return lax.map(one, x, batch_size=most)
    every: list[Parts] = []
    for start in range(0, len(x), most):
        chunk = x[start : start + most]
        if every:  # one after another: the next does not begin before the last has ended
            chunk, every = lax.optimization_barrier((chunk, every))
        every.append(jax.vmap(one)(chunk))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *every)


@functools.partial(jax.jit, static_argnames=("apply", "kept", "trace", "block_size"))
def ntk(
    apply: ApplyFn,
    params: Params,
    masks: Masks,
    x1: Inputs,
    x2: Inputs | None,
    *,
    kept: tuple[int | None, ...],
    trace: bool,
    block_size: int | None,
) -> Float[Array, "..."]:
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, kept, x1)

        def write(kernel: Array, values: Array, pair: Pair) -> Array:
            inner = (jnp.int32(0),) * (kernel.ndim - 2)
            kernel = lax.dynamic_update_slice(kernel, values, (pair.first, pair.second, *inner))
            if x2 is not None:
                return kernel
            mirrored = values.T if trace else values.transpose(1, 0, 3, 2)
            return lax.dynamic_update_slice(kernel, mirrored, (pair.second, pair.first, *inner))

        shape = (len(x1), len(x1 if x2 is None else x2), *(() if trace else (net.outputs, net.outputs)))
        return fold(write, jnp.zeros(shape, net.dtype), net, x1, x2, trace=trace, block_size=block_size)


@functools.partial(jax.jit, static_argnames=("apply", "kept"))
def frobenius_norm(
    apply: ApplyFn, params: Params, masks: Masks, x: Inputs, *, kept: tuple[int | None, ...]
) -> Float[Array, ""]:
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, kept, x)

        def add(total: tuple[Array, Array], values: Array, pair: Pair) -> tuple[Array, Array]:
            """The largest entry so far, and the sum of squares relative to it."""
            largest, squares = total
            n, m = values.shape[:2]
            rows = pair.first + jnp.arange(n) >= pair.first_new
            columns = pair.second + jnp.arange(m) >= pair.second_new
            now = jnp.maximum(largest, jnp.max(abs(values)))
            scale = jnp.where(now > 0, now, 1)
            counted = jnp.where(rows[:, None] & columns, jnp.sum((values / scale) ** 2, axis=(2, 3)), 0)
            more = jnp.where(pair.first == pair.second, 1, 2) * jnp.sum(counted)
            return now, squares * (largest / scale) ** 2 + more

        nothing = jnp.zeros((), net.dtype)
        largest, squares = fold(add, (nothing, nothing), net, x, None, trace=False, block_size=None)
        return largest * jnp.sqrt(squares)


@functools.partial(jax.jit, static_argnames=("apply",))
def column_norms(apply: ApplyFn, params: Params, masks: Masks, x: Inputs) -> PyTree[Float[Array, "..."]]:
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, None, x)
        layers, plain = net.structure.layers, net.structure.plain
        alive = passed(net.structure, net.outputs) + sum(net.outputs * net.leaves[leaf].size for leaf in plain)
        for layer in layers:
            formed = layer.inputs * (1 if layer.positions == 1 else net.outputs)
            alive += layer.groups * layer.outputs * formed
            alive += layer.groups * layer.positions * (layer.inputs + net.outputs * layer.outputs)
        size, starts, new = spans(len(x), max(STORED // max(alive, 1), 1))

        def step(norms: list[Array], at: tuple[Array, Array]) -> tuple[list[Array], None]:
            start, fresh = at
            samples = lax.dynamic_slice_in_dim(x, start, size)
            found = jax.vmap(lambda sample: sensitivities(net.structure, net.leaves, sample[None]))(samples)
            counted = start + jnp.arange(size) >= fresh
            added = [jnp.zeros_like(norm) for norm in norms]
            for layer, a, g in zip(layers, found.inputs, found.outputs, strict=True):
                for leaf, norm in zip(layer.leaves, _leaf_norms(net, layer, a, g, counted), strict=True):
                    added[leaf] = norm
            for leaf, jacobian in zip(plain, found.jacobians, strict=True):
                squares = jnp.sum(jacobian**2, axis=1)
                added[leaf] = jnp.where(counted, squares.T, 0).sum(1).reshape(norms[leaf].shape)
            return [norm + more for norm, more in zip(norms, added, strict=True)], None

        norms = [jnp.zeros(jnp.shape(leaf), net.dtype) for leaf in net.leaves]
        norms, _ = lax.scan(step, norms, (jnp.asarray(starts), jnp.asarray(new)))
        weighted = [norm * selection.weight for norm, selection in zip(norms, net.selections, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(params), weighted)


def _leaf_norms(
    net: Network,
    layer: Layer,
    a: Float[Array, "n q t i"],
    g: Float[Array, "n k q t j"],
    counted: Shaped[Array, " n"],
) -> list[Array]:
    """The squared column norms of a layer's leaves, summed over the samples that count."""
    if layer.positions == 1:
        squares = jnp.where(counted[:, None, None], jnp.sum(g**2, axis=(1, 3)), 0)
        columns = jnp.einsum("nqti,nqj->qji", a**2, squares)
    else:
        squares = jnp.sum(jnp.einsum("nqti,nkqtj->nkqji", a, g) ** 2, axis=1)
        columns = jnp.sum(jnp.where(counted[:, None, None, None], squares, 0), axis=0)

    def forward(*own: Array) -> Array:
        return layer.columns(dict(zip(layer.leaves, own, strict=True)))

    shapes = [jax.ShapeDtypeStruct(jnp.shape(net.leaves[leaf]), net.dtype) for leaf in layer.leaves]
    return list(jax.linear_transpose(forward, *shapes)(columns))


def _linearised(apply: ApplyFn, params: Params, masks: Masks, x: Inputs) -> tuple[Network, Callable[[Array], Array]]:
    """The network, and v -> J (m ∘ (Jᵀ v)) from a single linearisation."""
    net = network(apply, params, masks, None, x)
    own, rebuild = differentiable_leaves(params)
    _, push = jax.linearize(lambda own: apply(rebuild(own), x), own)
    pull = jax.linear_transpose(push, own)
    every = at_floating(params, [selection.weight for selection in net.selections])
    weights = [weight.astype(leaf.dtype) for weight, leaf in zip(every, own, strict=True)]

    def product(vector: Array) -> Array:
        (cotangent,) = pull(vector)
        return push([weight * part for weight, part in zip(weights, cotangent, strict=True)])

    return net, product


@functools.partial(jax.jit, static_argnames=("apply",))
def product(
    apply: ApplyFn, params: Params, masks: Masks, x: Inputs, vector: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    with jax.default_matmul_precision("highest"):
        net, times = _linearised(apply, params, masks, x)
        if jnp.shape(vector) != (len(x), net.outputs):
            expected = (len(x), net.outputs)
            raise ValueError(f"vector has shape {jnp.shape(vector)}; it takes that of the outputs, {expected}")
        return times(jnp.asarray(vector, net.dtype))


@functools.partial(jax.jit, static_argnames=("apply", "num_products"))
def extreme_eigenvalues(
    apply: ApplyFn, params: Params, masks: Masks, x: Inputs, key: Key, *, num_products: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    with jax.default_matmul_precision("highest"):
        net, times = _linearised(apply, params, masks, x)
        size = len(x) * net.outputs
        wide = jnp.promote_types(net.dtype, jnp.float32)  # no eigenvalues are found in half precision

        def product(vector: Array) -> Array:
            return times(vector.astype(net.dtype).reshape(len(x), -1)).reshape(-1).astype(wide)

        ritz = ritz_values(product, jax.random.normal(key, (size,), wide), num_products).astype(net.dtype)
        return ritz[0], ritz[-1]


@functools.partial(jax.jit, static_argnames=("apply", "trace"))
def reference(
    apply: ApplyFn, params: Params, masks: Masks, x1: Inputs, x2: Inputs | None, *, trace: bool
) -> Float[Array, "..."]:
    with jax.default_matmul_precision("highest"):
        net = network(apply, params, masks, None, x1)
        own, rebuild = differentiable_leaves(params)

        def jacobian(x: Inputs) -> Float[Array, "n k p"]:
            parts = jax.jacrev(lambda own: apply(rebuild(own), x))(own)
            return jnp.concatenate([part.reshape(len(x), net.outputs, -1) for part in parts], axis=2)

        weights = at_floating(params, [selection.weight for selection in net.selections])
        weight = jnp.concatenate([weight.reshape(-1) for weight in weights])
        left = jacobian(x1)
        right = left if x2 is None else jacobian(x2)
        kernel = jnp.einsum("nkp,p,mkp->nm" if trace else "nkp,p,mlp->nmkl", left, weight, right)
        return kernel.astype(net.dtype)
