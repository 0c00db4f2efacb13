"""Kernel blocks from the parts of a Jacobian: for each layer the order of contraction that costs least.

With J[n, k, q, i, j] = Σ_t a[n, q, t, i] g[n, k, q, t, j] and weights m[q, i, j] of its columns (the mask), a
layer adds Σ_qij m J[n, k] J[n', l] to the kernel's entry (n, n', k, l). For a pair of samples and K outputs the
multiply-adds of the orders are

    gram       Σ_tu (Σ_i a a')(Σ_j g g')       q t² (i + K² j)     without a mask
    hadamard   Σ_tu Σ_j (Σ_i m a a') g g'      q t² (i j + K² j)   any mask, traced and floating ones too
    columns    J first, then its Gram matrix   K² · columns kept   any mask; few columns where they are known

With only the trace over the outputs asked for, K² is K.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from sketchprune.structure import Layer, Sensitivities, Structure

STORED = 2**26
"""Numbers that the parts of all samples may take: 256 MiB in float32."""
PAIRED = 2**22
"""Numbers that the contraction of two blocks of samples may hold: about what a processor's caches do."""


class Selection(NamedTuple):
    """What a mask says of one leaf."""

    weight: Float[Array, "..."]
    """Of each entry of the leaf: ones where there is no mask."""
    masked: bool
    kept: int | None
    """A bound on how many weights are not zero, or None where the values are unknown."""


class Weights(NamedTuple):
    """The weights of some columns and, when these are not all there are, which they are."""

    weight: Float[Array, "..."]
    kept: Int[Array, " p"] | None


class Plan(NamedTuple):
    """How each layer is contracted, and what that takes."""

    orders: tuple[str, ...]
    """Of each layer: gram, hadamard, columns, or rows: columns that are formed once and stored."""
    weights: tuple[Weights | None, ...]
    """Of each layer, then of each plain leaf; None without a mask."""
    row_weight: Float[Array, " p"] | None
    """Of all stored columns together."""
    stored: int
    """Numbers stored of a sample."""
    passing: int
    """Numbers alive during the pass over a sample."""
    paired: int
    """Numbers alive during the contraction of a pair of samples."""


Factors = tuple[Float[Array, "*n q t i"], Float[Array, "*n k q t j"]]
"""a and g of one layer."""


class Parts(NamedTuple):
    """What is stored of a sample or, with a leading axis, of many: J, or for some layers its factors a and g."""

    rows: Float[Array, "*n k p"] | None
    factors: tuple[Factors, ...]


def plan(
    structure: Structure, selections: Sequence[Selection], *, outputs: int, samples: int, trace: bool
) -> Plan:
    """The cheapest order of each layer, under a mask given as one selection for each leaf."""
    square = outputs if trace else outputs**2
    orders, rows, factors, paired = [], [], [], [2 * square]
    for layer in structure.layers:
        q, t, i, j = layer.groups, layer.positions, layer.inputs, layer.outputs
        kept = _kept(layer.leaves, selections)
        columns = q * i * j if kept is None else kept
        costs = {"columns": square * columns + 2 * outputs * t * q * i * j / samples}
        alive = {"columns": square}
        if any(selections[leaf].masked for leaf in layer.leaves):
            costs["hadamard"] = q * t**2 * (i * j + square * j)
            alive["hadamard"] = q * t**2 * (i + j) + q * t * outputs * j + square
        else:
            costs["gram"] = q * t**2 * (i + square * (j + 1))
            alive["gram"] = q * t**2 * (1 + square) + square
        orders.append(min(costs, key=lambda order: costs[order]))
        rows.append(outputs * columns)
        factors.append(q * t * (i + outputs * j))
        paired.append(alive[orders[-1]])
    plain = outputs * sum(selections[leaf].weight.size for leaf in structure.plain)
    least = plain + sum(rows[at] if order == "columns" else factors[at] for at, order in enumerate(orders))
    orders = [
        "rows" if order == "columns" and (samples * least <= STORED or rows[at] <= factors[at]) else order
        for at, order in enumerate(orders)
    ]
    stored = plain + sum(rows[at] if order == "rows" else factors[at] for at, order in enumerate(orders))
    formed = sum(factors[at] for at, order in enumerate(orders) if order == "rows")
    every = [selection.weight for selection in selections]
    weights = [
        _weights(layer.columns(every), layer.leaves, selections, gather=order != "hadamard")
        for layer, order in zip(structure.layers, orders, strict=True)
    ]
    weights += [_weights(every[leaf], (leaf,), selections, gather=True) for leaf in structure.plain]
    in_rows = [
        (layer.groups * layer.inputs * layer.outputs, of)
        for layer, order, of in zip(structure.layers, orders, weights, strict=False)
        if order == "rows"
    ]
    in_rows += zip((every[leaf].size for leaf in structure.plain), weights[len(orders) :], strict=True)
    row_weight = None
    if any(of is not None for _, of in in_rows):
        row_weight = jnp.concatenate(
            [jnp.ones(size, every[0].dtype) if of is None else of.weight.reshape(-1) for size, of in in_rows]
        )
    return Plan(tuple(orders), tuple(weights), row_weight, stored, stored + formed, max(paired))


def _kept(leaves: Sequence[int], selections: Sequence[Selection]) -> int | None:
    bounds = [selections[leaf].kept for leaf in leaves]
    return None if None in bounds else sum(bound for bound in bounds if bound is not None)


def _weights(
    weight: Float[Array, "..."], leaves: Sequence[int], selections: Sequence[Selection], *, gather: bool
) -> Weights | None:
    if not any(selections[leaf].masked for leaf in leaves):
        return None
    bound = _kept(leaves, selections)
    if not gather or bound is None or bound > 0.75 * weight.size:  # a gather is no free lunch
        return Weights(weight, None)
    flat = weight.reshape(-1)
    (kept,) = jnp.nonzero(flat, size=bound, fill_value=0)
    return Weights(jnp.where(jnp.arange(bound) < jnp.count_nonzero(flat), flat[kept], 0), kept)


def parts(plan: Plan, found: Sensitivities) -> Parts:
    """What a plan stores of one sample."""
    rows, factors = [], []
    for order, weights, a, g in zip(plan.orders, plan.weights, found.inputs, found.outputs, strict=False):
        if order == "rows":
            jacobian = jnp.einsum("qti,kqtj->kqij", a, g).reshape(g.shape[0], -1)
            rows.append(_gathered(jacobian, weights))
        else:
            factors.append((a, g))
    plain = plan.weights[len(plan.orders) :]
    rows += [_gathered(jacobian, weights) for jacobian, weights in zip(found.jacobians, plain, strict=True)]
    return Parts(jnp.concatenate(rows, axis=1) if rows else None, tuple(factors))


def _gathered(jacobian: Float[Array, "k p"], weights: Weights | None) -> Float[Array, "k s"]:
    return jacobian if weights is None or weights.kept is None else jacobian[:, weights.kept]


def block(
    structure: Structure, plan: Plan, left: Parts, right: Parts, *, trace: bool
) -> Float[Array, "n m k k"] | Float[Array, "n m"]:
    """The kernel of two blocks of samples, from what was stored of them."""
    total = jnp.zeros((), jnp.result_type(*jax.tree.leaves(left)))
    if left.rows is not None and right.rows is not None:
        total = _rows(left.rows, right.rows, plan.row_weight, trace=trace)
    factored = [
        (layer, order, weights)
        for layer, order, weights in zip(structure.layers, plan.orders, plan.weights, strict=False)
        if order != "rows"
    ]
    for (layer, order, weights), a, b in zip(factored, left.factors, right.factors, strict=True):
        if order == "gram":
            total += _gram(a, b, trace=trace)
        elif order == "hadamard" and weights is not None:
            total += _hadamard(a, b, weights.weight, trace=trace)
        else:
            total += _columns(layer, a, b, weights, trace=trace)
    return total


def _rows(
    left: Float[Array, "n k p"],
    right: Float[Array, "m k p"],
    weight: Float[Array, " p"] | None,
    *,
    trace: bool,
) -> Float[Array, "..."]:
    if weight is not None:
        left = left * weight
    if trace:
        return jnp.einsum("nkp,mkp->nm", left, right)
    return jnp.einsum("nkp,mlp->nkml", left, right).transpose(0, 2, 1, 3)


def _gram(left: Factors, right: Factors, *, trace: bool) -> Float[Array, "..."]:
    (a, g), (b, h) = left, right
    inputs = jnp.einsum("nqti,mqui->qntmu", a, b)
    if trace:
        return jnp.sum(inputs * jnp.einsum("nkqtj,mkquj->qntmu", g, h), axis=(0, 2, 4))
    outputs = jnp.einsum("nkqtj,mlquj->qnktmlu", g, h)
    return jnp.sum(inputs[:, :, None, :, :, None] * outputs, axis=(0, 3, 6)).transpose(0, 2, 1, 3)


def _hadamard(
    left: Factors, right: Factors, weight: Float[Array, "q i j"], *, trace: bool
) -> Float[Array, "..."]:
    (a, g), (b, h) = left, right
    pairs = a[None, :, :, :, None] * b[:, None, :, None]  # m n q t u i
    mixed = jnp.einsum("mnqtui,qij->mnqtuj", pairs, weight)
    if trace:
        return jnp.einsum("mnqtuj,nkqtj,mkquj->nm", mixed, g, h)
    half = jnp.sum(mixed[:, :, None] * g[None, :, :, :, :, None], axis=4)  # m n k q u j
    return jnp.einsum("mnkquj,mlquj->mnkl", half, h).transpose(1, 0, 2, 3)


def _columns(
    layer: Layer, left: Factors, right: Factors, weights: Weights | None, *, trace: bool
) -> Float[Array, "..."]:
    """As many columns at a time as the memory for a pair of blocks has room for."""
    samples, outputs = left[1].shape[0] + right[1].shape[0], left[1].shape[1]
    room = max(1, PAIRED // (samples * outputs))
    shape = (layer.groups, layer.inputs, layer.outputs)
    if weights is not None and weights.kept is not None:
        size = min(weights.kept.size, max(1, room // layer.positions))
        steps = -(-weights.kept.size // size)
        padding = (0, steps * size - weights.kept.size)
        chunks = (
            jnp.pad(weights.kept, padding).reshape(steps, size),
            jnp.pad(weights.weight, padding).reshape(steps, size),
        )

        def form(factors: Factors, kept: Int[Array, " s"]) -> Float[Array, "n k s"]:
            group, entry, output = jnp.unravel_index(kept, shape)
            a, g = factors
            return jnp.einsum("snt,snkt->nks", a[:, group, :, entry], g[:, :, group, :, output])
    else:
        every = layer.outputs
        size = max(
            n for n in range(1, every + 1) if every % n == 0 and (n == 1 or n * math.prod(shape[:2]) <= room)
        )
        steps = every // size
        weight = jnp.ones(shape, left[0].dtype) if weights is None else weights.weight
        chunks = (
            jnp.arange(steps) * size,
            jnp.moveaxis(weight.reshape(*shape[:2], steps, size), 2, 0).reshape(steps, -1),
        )

        def form(factors: Factors, start: Int[Array, ""]) -> Float[Array, "n k s"]:
            a, g = factors
            g = lax.dynamic_slice_in_dim(g, start, size, axis=4)
            return jnp.einsum("nqti,nkqtj->nkqij", a, g).reshape(*g.shape[:2], -1)

    def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        columns, weight = chunk
        return total + _rows(form(left, columns), form(right, columns), weight, trace=trace), None

    (n, k), m = left[1].shape[:2], right[1].shape[0]
    return lax.scan(add, jnp.zeros((n, m) if trace else (n, m, k, k), left[0].dtype), chunks)[0]
