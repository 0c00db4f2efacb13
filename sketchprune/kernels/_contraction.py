"""Kernel blocks from the parts of a Jacobian: for each layer the order of contraction that costs least.

With J[n, k, q, j, i] = Σ_t a[n, q, t, i] g[n, k, q, t, j] and weights m[q, j, i] of its columns (the mask), a
layer adds Σ_qji m J[n, k] J[n', l] to the kernel's entry (n, n', k, l). For a pair of samples and K outputs
the multiply-adds of the orders are

    gram       Σ_tu (Σ_i a a')(Σ_j g g')       q t² (i + K² j)     without a mask
    hadamard   Σ_tu Σ_j (Σ_i m a a') g g'      t² (i j + K² j)     any mask, traced too; one group
    columns    J first, then its Gram matrix   K² · columns kept   any mask; few columns where they are known

With only the trace over the outputs asked for, K² is K.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune.kernels.sensitivities import Sensitivities
from sketchprune.kernels.structure import Layer, Structure

STORED = 2**26
"""Numbers that the parts of all samples may take: 256 MiB in float32."""
PAIRED = 2**21
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
    weights: tuple[Weights, ...] | None
    """Of each layer, then of each plain leaf; None without a mask."""
    stored: int
    """Numbers stored of a sample."""
    passing: int
    """Numbers alive during the pass over a sample."""
    paired: int
    """Numbers alive during the contraction of a pair of samples."""
    work: float
    """Multiply-adds in the contraction of a pair of samples."""


Factors = tuple[Float[Array, "*n q t i"], Float[Array, "*n k q t j"]]
"""a and g of one layer."""


class Parts(NamedTuple):
    """What is stored of a sample or, with a leading axis, of many: J, or of some layers its factors."""

    rows: Float[Array, "*n k p"] | None
    factors: tuple[Factors, ...]


def plan(structure: Structure, selections: Sequence[Selection], *, outputs: int, samples: int, trace: bool) -> Plan:
    """The cheapest order of each layer, under a mask given as one selection for each leaf."""
    square = outputs if trace else outputs**2
    costs = [_cheapest(layer, selections, outputs, samples, square) for layer in structure.layers]
    plain = outputs * sum(selections[leaf].weight.size for leaf in structure.plain)
    least = plain + sum(cost.rows if cost.order == "columns" else cost.factors for cost in costs)
    rows_fit = samples * least <= STORED
    orders = tuple(
        "rows" if cost.order == "columns" and (rows_fit or cost.rows <= cost.factors) else cost.order for cost in costs
    )
    stored, formed = plain, passed(structure, outputs)
    for layer, order, cost in zip(structure.layers, orders, costs, strict=True):
        stored += cost.rows if order == "rows" else cost.factors
        formed += cost.factors + _forming(layer, selections, outputs) if order == "rows" else 0
    weights = None
    if any(selection.masked for selection in selections):
        every = [selection.weight for selection in selections]
        of_layers = [
            _weights(layer.columns(every), None if order == "hadamard" else _kept(layer.leaves, selections))
            for layer, order in zip(structure.layers, orders, strict=True)
        ]
        of_leaves = [_weights(every[leaf], _kept((leaf,), selections)) for leaf in structure.plain]
        weights = (*of_layers, *of_leaves)
    paired = max([2 * square, *(cost.alive for cost in costs)])
    work = sum(cost.work for cost in costs) + square * plain / outputs
    return Plan(orders, weights, stored, stored + formed, paired, work)


def passed(structure: Structure, outputs: int) -> int:
    """Numbers that the passes over one sample hold: what every equation gives, and the largest cotangents."""
    sizes = [math.prod(var.aval.shape) for equation in structure.program.eqns for var in equation.outvars]
    return sum(sizes) + outputs * max(sizes, default=0)


class _Cost(NamedTuple):
    order: str
    rows: int
    """Numbers to store of a sample if the columns are formed."""
    factors: int
    """Numbers to store of a sample if they are not."""
    alive: int
    """Numbers alive during the contraction of a pair of samples."""
    work: float


def _cheapest(layer: Layer, selections: Sequence[Selection], outputs: int, samples: int, square: int) -> _Cost:
    q, t, i, j = layer.groups, layer.positions, layer.inputs, layer.outputs
    kept = _kept(layer.leaves, selections)
    columns = q * i * j if kept is None else kept
    work = {"columns": square * columns + 2 * outputs * t * q * i * j / samples}
    alive = {"columns": square}
    if not any(selections[leaf].masked for leaf in layer.leaves):
        work["gram"] = q * t**2 * (i + square * (j + 1))
        alive["gram"] = q * t**2 * (1 + square) + square
    elif q == 1:
        work["hadamard"] = t**2 * (i * j + square * j)
        alive["hadamard"] = t**2 * (i + j) + t * outputs * j + square
    order = min(work, key=lambda order: work[order])
    return _Cost(order, outputs * columns, q * t * (i + outputs * j), alive[order], work[order])


def _forming(layer: Layer, selections: Sequence[Selection], outputs: int) -> int:
    """Numbers that `_formed` holds beside its result."""
    kept = _kept(layer.leaves, selections)
    every = layer.groups * layer.outputs * layer.inputs
    if kept is None or layer.positions == 1:
        return 0
    return (outputs + 1) * kept * layer.positions if kept * layer.positions <= every else outputs * every


def _kept(leaves: Sequence[int], selections: Sequence[Selection]) -> int | None:
    bounds = [selections[leaf].kept for leaf in leaves]
    return None if None in bounds else sum(bound for bound in bounds if bound is not None)


def _weights(weight: Float[Array, "..."], bound: int | None) -> Weights:
    if bound is None or bound > 0.75 * weight.size:  # gathering costs something too
        return Weights(weight, None)
    flat = weight.reshape(-1)
    (kept,) = jnp.nonzero(flat, size=bound, fill_value=0)
    return Weights(jnp.where(jnp.arange(bound) < jnp.count_nonzero(flat), flat[kept], 0), kept)


def parts(plan: Plan, found: Sensitivities) -> Parts:
    """What a plan stores of one sample."""
    rows, factors = [], []
    kept = [None] * (len(plan.orders) + len(found.jacobians))
    if plan.weights is not None:
        kept = [weights.kept for weights in plan.weights]
    for order, own, of in zip(plan.orders, kept, zip(found.inputs, found.outputs, strict=True), strict=False):
        if order == "rows":
            rows.append(_formed(of, own))
        else:
            factors.append(of)
    for own, jacobian in zip(kept[len(plan.orders) :], found.jacobians, strict=True):
        rows.append(jacobian if own is None else jacobian[:, own])
    return Parts(jnp.concatenate(rows, axis=1) if rows else None, tuple(factors))


def _formed(factors: Factors, kept: Int[Array, " s"] | None) -> Float[Array, "k s"]:
    """The columns of one sample's Jacobian, those kept by themselves where that is less than all of them."""
    a, g = factors
    (q, t, i), j = a.shape, g.shape[3]
    if kept is not None and kept.size * t <= q * i * j:
        return _picked(factors, kept)
    every = jnp.einsum("qti,kqtj->kqji", a, g).reshape(g.shape[0], -1)
    return every if kept is None else every[:, kept]


def _picked(factors: Factors, columns: Int[Array, " s"]) -> Float[Array, "k s"]:
    """Some columns of one sample's Jacobian, each by itself."""
    a, g = factors
    group, output, entry = jnp.unravel_index(columns, (a.shape[0], g.shape[3], a.shape[2]))
    return jnp.einsum("st,skt->ks", a[group, :, entry], g[:, group, :, output])


def _of_rows(plan: Plan, weights: Sequence[Weights]) -> list[Weights]:
    """The weights of what `Parts` has as rows, in its order."""
    every = (*plan.orders, *["rows"] * (len(weights) - len(plan.orders)))
    return [of for order, of in zip(every, weights, strict=True) if order == "rows"]


def block(
    structure: Structure, plan: Plan, left: Parts, right: Parts, *, trace: bool
) -> Float[Array, "n m k k"] | Float[Array, "n m"]:
    """The kernel of two blocks of samples, from what was stored of them."""
    terms = []
    if left.rows is not None and right.rows is not None:
        weight = None
        if plan.weights is not None:
            weight = jnp.concatenate([of.weight.reshape(-1) for of in _of_rows(plan, plan.weights)])
        terms.append(_rows(left.rows, right.rows, weight, trace=trace))
    factored = [at for at, order in enumerate(plan.orders) if order != "rows"]
    for at, a, b in zip(factored, left.factors, right.factors, strict=True):
        layer, order = structure.layers[at], plan.orders[at]
        weights = None if plan.weights is None else plan.weights[at]
        if order == "gram":
            terms.append(_gram(a, b, trace=trace))
        elif order == "hadamard" and weights is not None:
            terms.append(_hadamard(a, b, weights.weight, trace=trace))
        else:
            terms.append(_columns(layer, a, b, weights, trace=trace))
    return functools.reduce(jnp.add, terms)


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


def _hadamard(left: Factors, right: Factors, weight: Float[Array, "q j i"], *, trace: bool) -> Float[Array, "..."]:
    (a, g), (b, h) = ((a[:, 0], g[:, :, 0]) for a, g in (left, right))  # the one group
    mixed = jnp.einsum("munti,ji->muntj", b[:, :, None, None] * a[None, None], weight[0])
    if trace:
        return jnp.einsum("muntj,nktj,mkuj->nm", mixed, g, h)
    half = jnp.sum(mixed[:, :, :, None] * g[None, None], axis=4)  # m u n k j
    return jnp.einsum("munkj,mluj->mnkl", half, h).transpose(1, 0, 2, 3)


def _columns(
    layer: Layer, left: Factors, right: Factors, weights: Weights | None, *, trace: bool
) -> Float[Array, "..."]:
    """As many columns at a time as the memory for a pair of blocks has room for."""
    (n, k), m = left[1].shape[:2], right[1].shape[0]
    room = max(PAIRED // ((n + m) * k), 1)
    if weights is not None and weights.kept is not None:
        form, columns, weight = _kept_columns(layer, weights.weight, weights.kept, room)
    else:
        shape = (layer.groups, layer.outputs, layer.inputs)
        every = jnp.ones(shape, left[0].dtype) if weights is None else weights.weight
        form, columns, weight = _all_columns(every, room)

    def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        columns, weight = chunk
        return total + _rows(form(left, columns), form(right, columns), weight, trace=trace), None

    zero = jnp.zeros((n, m) if trace else (n, m, k, k), left[0].dtype)
    return lax.scan(add, zero, (columns, weight))[0]


Form = Callable[[Factors, Int[Array, "..."]], Float[Array, "n k s"]]
"""Some columns of the Jacobian, from the factors of a block."""


def _kept_columns(
    layer: Layer, weight: Float[Array, " p"], kept: Int[Array, " p"], room: int
) -> tuple[Form, Int[Array, "c s"], Float[Array, "c s"]]:
    """The columns kept, ``room`` numbers a row at a time: each formed by itself."""
    size = min(kept.size, max(room // layer.positions, 1))
    padding = (0, -kept.size % size)

    def form(factors: Factors, kept: Int[Array, " s"]) -> Float[Array, "n k s"]:
        return jax.vmap(lambda own: _picked(own, kept))(factors)

    return form, jnp.pad(kept, padding).reshape(-1, size), jnp.pad(weight, padding).reshape(-1, size)


def _all_columns(weight: Float[Array, "q j i"], room: int) -> tuple[Form, Int[Array, " c"], Float[Array, "c s"]]:
    """All columns, those of some outputs j at a time: as many as ``room`` allows and divide their number."""
    q, j, i = weight.shape
    size = max(n for n in range(1, j + 1) if j % n == 0 and (n == 1 or n * q * i <= room))

    def form(factors: Factors, start: Int[Array, ""]) -> Float[Array, "n k s"]:
        a, g = factors
        g = lax.dynamic_slice_in_dim(g, start, size, axis=4)
        return jnp.einsum("nqti,nkqtj->nkqji", a, g).reshape(*g.shape[:2], -1)

    weight = jnp.moveaxis(weight.reshape(q, j // size, size, i), 1, 0)
    return form, jnp.arange(0, j, size), weight.reshape(j // size, -1)
