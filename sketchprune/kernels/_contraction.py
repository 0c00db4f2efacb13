"""Kernel blocks from the stored parts of a Jacobian, contracted in the order that the plan says."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from sketchprune.kernels import _plan
from sketchprune.kernels._plan import ColumnWeights, Plan
from sketchprune.kernels.sensitivities import Sensitivities
from sketchprune.kernels.structure import Layer, Structure


class Factors(NamedTuple):
    """The factors of one layer's Jacobian, of one sample or, with a leading axis, of a block.

    Attributes:
        a: The inputs of the layer.
        g: The sensitivities of its results.
    """

    a: Float[Array, "*n q t i"]
    g: Float[Array, "*n k q t j"]


class Parts(NamedTuple):
    """What is stored of one sample or, with a leading axis, of a block.

    Attributes:
        rows: The columns of the Jacobian that are formed once, of all layers and leaves side by side.
        factors: The factors of the other layers.
    """

    rows: Float[Array, "*n k p"] | None
    factors: tuple[Factors, ...]


Form = Callable[[Factors, Int[Array, "..."]], Float[Array, "n k p"]]
"""Forms some columns of a layer's Jacobian from the factors of a block, given which columns."""


def stored_parts(plan: Plan, found: Sensitivities) -> Parts:
    """What a plan stores of one sample."""
    rows = []
    factors = []
    kept = [None] * (len(plan.orders) + len(found.jacobians))
    if plan.weights is not None:
        kept = [weights.kept for weights in plan.weights]
    for number, order in enumerate(plan.orders):
        own = Factors(found.inputs[number], found.outputs[number])
        if order == "rows":
            rows.append(_formed(own, kept[number]))
        else:
            factors.append(own)
    for columns, jacobian in zip(kept[len(plan.orders) :], found.jacobians, strict=True):
        rows.append(jacobian if columns is None else jacobian[:, columns])
    return Parts(jnp.concatenate(rows, axis=1) if rows else None, tuple(factors))


def _formed(factors: Factors, kept: Int[Array, " p"] | None) -> Float[Array, "k p"]:
    """One sample's Jacobian columns that are kept, each by itself where that is cheaper than forming all."""
    a, g = factors
    groups, positions, inputs = a.shape
    outputs = g.shape[3]
    if kept is not None and kept.size * positions <= groups * inputs * outputs:
        return _picked(factors, kept)
    every = jnp.einsum("qti,kqtj->kqji", a, g).reshape(g.shape[0], -1)
    return every if kept is None else every[:, kept]


def _picked(factors: Factors, columns: Int[Array, " p"]) -> Float[Array, "k p"]:
    """Some columns of one sample's Jacobian, each formed by itself."""
    a, g = factors
    group, output, entry = jnp.unravel_index(columns, (a.shape[0], g.shape[3], a.shape[2]))
    return jnp.einsum("st,skt->ks", a[group, :, entry], g[:, group, :, output])


def contract(
    structure: Structure, plan: Plan, left: Parts, right: Parts, *, trace: bool
) -> Float[Array, "n m k k"] | Float[Array, "n m"]:
    """The kernel of two blocks of samples, from what was stored of them."""
    terms = []
    if left.rows is not None and right.rows is not None:
        terms.append(_row_products(left.rows, right.rows, _row_weights(plan), trace=trace))
    factored = [number for number, order in enumerate(plan.orders) if order != "rows"]
    for number, a, b in zip(factored, left.factors, right.factors, strict=True):
        order = plan.orders[number]
        weights = None if plan.weights is None else plan.weights[number]
        if order == "gram":
            terms.append(_gram_products(a, b, trace=trace))
        elif order == "hadamard" and weights is not None:
            terms.append(_hadamard_products(a, b, weights.weight, trace=trace))
        else:
            terms.append(_column_products(structure.layers[number], a, b, weights, trace=trace))
    return functools.reduce(jnp.add, terms)


def _row_weights(plan: Plan) -> Float[Array, " p"] | None:
    """The weights of the columns that `Parts` has as rows, in their order."""
    if plan.weights is None:
        return None
    plain = len(plan.weights) - len(plan.orders)
    orders = (*plan.orders, *["rows"] * plain)
    return jnp.concatenate(
        [weights.weight.reshape(-1) for order, weights in zip(orders, plan.weights, strict=True) if order == "rows"]
    )


def _row_products(
    left: Float[Array, "n k p"],
    right: Float[Array, "m k p"],
    weight: Float[Array, " p"] | None,
    *,
    trace: bool,
) -> Float[Array, "..."]:
    """Σ_p m_p J[n, k, p] J[m, l, p], or its trace over the outputs."""
    if weight is not None:
        left = left * weight
    if trace:
        return jnp.einsum("nkp,mkp->nm", left, right)
    return jnp.einsum("nkp,mlp->nkml", left, right).transpose(0, 2, 1, 3)


def _gram_products(left: Factors, right: Factors, *, trace: bool) -> Float[Array, "..."]:
    """The product of the inputs' and the sensitivities' Gram matrices, entry by entry, summed over positions."""
    (a, g), (b, h) = left, right
    inputs = jnp.einsum("nqti,mqui->qntmu", a, b)
    if trace:
        return jnp.sum(inputs * jnp.einsum("nkqtj,mkquj->qntmu", g, h), axis=(0, 2, 4))
    outputs = jnp.einsum("nkqtj,mlquj->qnktmlu", g, h)
    return jnp.sum(inputs[:, :, None, :, :, None] * outputs, axis=(0, 3, 6)).transpose(0, 2, 1, 3)


def _hadamard_products(
    left: Factors, right: Factors, weight: Float[Array, "q j i"], *, trace: bool
) -> Float[Array, "..."]:
    """The products of inputs mixed by the mask, then with the sensitivities; for layers of one group."""
    (a, g), (b, h) = ((a[:, 0], g[:, :, 0]) for a, g in (left, right))
    mixed = jnp.einsum("munti,ji->muntj", b[:, :, None, None] * a[None, None], weight[0])
    if trace:
        return jnp.einsum("muntj,nktj,mkuj->nm", mixed, g, h)
    half = jnp.sum(mixed[:, :, :, None] * g[None, None], axis=4)  # m u n k j
    return jnp.einsum("munkj,mluj->mnkl", half, h).transpose(1, 0, 2, 3)


def _column_products(
    layer: Layer, left: Factors, right: Factors, weights: ColumnWeights | None, *, trace: bool
) -> Float[Array, "..."]:
    """Row products of columns formed on the way, as many at a time as the memory of a pair of blocks has room for."""
    n, k = left.g.shape[:2]
    m = right.g.shape[0]
    room = max(_plan.MAX_PAIRED // ((n + m) * k), 1)
    if weights is not None and weights.kept is not None:
        form, columns, weight = _kept_chunks(layer, weights.weight, weights.kept, room)
    else:
        shape = (layer.groups, layer.outputs, layer.inputs)
        every = jnp.ones(shape, left.a.dtype) if weights is None else weights.weight
        form, columns, weight = _output_chunks(every, room)

    def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        columns, weight = chunk
        return total + _row_products(form(left, columns), form(right, columns), weight, trace=trace), None

    zero = jnp.zeros((n, m) if trace else (n, m, k, k), left.a.dtype)
    return lax.scan(add, zero, (columns, weight))[0]


def _kept_chunks(
    layer: Layer, weight: Float[Array, " p"], kept: Int[Array, " p"], room: int
) -> tuple[Form, Int[Array, "chunks size"], Float[Array, "chunks size"]]:
    """The kept columns in chunks of about ``room`` numbers for one sample and output, each column formed by itself.

    The last chunk is filled up with column 0 at weight 0.
    """
    size = min(kept.size, max(room // layer.positions, 1))
    padding = (0, -kept.size % size)

    def form(factors: Factors, columns: Int[Array, " p"]) -> Float[Array, "n k p"]:
        return jax.vmap(lambda own: _picked(own, columns))(factors)

    return form, jnp.pad(kept, padding).reshape(-1, size), jnp.pad(weight, padding).reshape(-1, size)


def _output_chunks(
    weight: Float[Array, "q j i"], room: int
) -> tuple[Form, Int[Array, " chunks"], Float[Array, "chunks size"]]:
    """All columns in chunks of some outputs j: as many outputs as ``room`` allows and as divide their number."""
    groups, outputs, inputs = weight.shape
    divisors = (n for n in range(1, outputs + 1) if outputs % n == 0)
    size = max(n for n in divisors if n == 1 or n * groups * inputs <= room)

    def form(factors: Factors, start: Int[Array, ""]) -> Float[Array, "n k p"]:
        a, g = factors
        g = lax.dynamic_slice_in_dim(g, start, size, axis=4)
        return jnp.einsum("nqti,nkqtj->nkqji", a, g).reshape(*g.shape[:2], -1)

    weight = jnp.moveaxis(weight.reshape(groups, outputs // size, size, inputs), 1, 0)
    return form, jnp.arange(0, outputs, size), weight.reshape(outputs // size, -1)
