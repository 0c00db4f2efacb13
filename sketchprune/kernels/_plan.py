"""For each layer the order of contraction that costs least, and the memory that it takes.

With J[n, k, q, j, i] = Σ_t a[n, q, t, i] g[n, k, q, t, j] and weights m[q, j, i] of its columns (the mask), a layer
adds Σ_qji m J[n, k] J[n', l] to the kernel's entry (n, n', k, l). For one pair of samples and K outputs the orders
take these multiply-adds:

    gram       Σ_tu (Σ_i a a')(Σ_j g g')       q t² (i + K² j)     without a mask
    hadamard   Σ_tu Σ_j (Σ_i m a a') g g'      t² (i j + K² j)     any mask, traced too; one group
    columns    J first, then its Gram matrix   K² · columns kept   any mask; cheap when few columns are known to be kept

K² becomes K when only the trace over the outputs is asked for. Columns that fit in memory for all samples are formed
once and stored; this order is called "rows".
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sketchprune._jaxpr import aval
from sketchprune.kernels._network import Network, Selection
from sketchprune.kernels.structure import Layer, Structure

MAX_STORED = 2**26
"""Numbers that the stored parts of all samples may take: 256 MiB in float32."""
MAX_PAIRED = 2**21
"""Numbers that the contraction of two blocks of samples may hold: about the size of a processor's caches."""
_GATHER_BELOW = 0.75
"""Kept columns are gathered when they are known to be less than this part of all: gathering has a cost of its own."""

Order = Literal["gram", "hadamard", "columns", "rows"]


class ColumnWeights(NamedTuple):
    """The weights of some Jacobian columns.

    Attributes:
        weight: One weight for each column: [q, j, i] for all columns of a layer, else [p].
        kept: The numbers of the columns [p] when they are gathered; None when they are all columns there are.
    """

    weight: Float[Array, "..."]
    kept: Int[Array, " p"] | None


class Plan(NamedTuple):
    """How each layer is contracted, and what that takes.

    Attributes:
        orders: The order of each layer.
        weights: The weights of each layer's columns, then of each plain leaf's; None without a mask.
        stored: Numbers stored for one sample.
        passing: Numbers alive during the pass over one sample.
        paired: Numbers alive during the contraction of one pair of samples.
        work: Multiply-adds in the contraction of one pair of samples.
    """

    orders: tuple[Order, ...]
    weights: tuple[ColumnWeights, ...] | None
    stored: int
    passing: int
    paired: int
    work: float


class _Cost(NamedTuple):
    """The cheapest order of one layer.

    Attributes:
        order: The order: gram, hadamard or columns.
        rows: Numbers to store for one sample if the columns are formed.
        factors: Numbers to store for one sample if they are not.
        paired: Numbers alive during the contraction of one pair of samples.
        work: Multiply-adds for one pair of samples.
    """

    order: Order
    rows: int
    factors: int
    paired: int
    work: float


def choose_plan(net: Network, *, samples: int, trace: bool) -> Plan:
    """The cheapest order of each layer under the network's mask.

    ``samples`` is their number in the longer of the kernel's two arguments; ``trace`` asks for the trace over the
    outputs only.
    """
    structure, _, selections, outputs, _ = net
    output_pairs = outputs if trace else outputs**2
    costs = [_cheapest(layer, selections, outputs, samples, output_pairs) for layer in structure.layers]
    plain = outputs * sum(selections[leaf].weight.size for leaf in structure.plain)
    orders = _with_stored_columns(costs, plain, samples)
    stored = plain
    formed = pass_size(structure, outputs)
    for layer, order, cost in zip(structure.layers, orders, costs, strict=True):
        if order == "rows":
            stored += cost.rows
            formed += cost.factors + _forming_size(layer, selections, outputs)
        else:
            stored += cost.factors
    return Plan(
        orders=orders,
        weights=_column_weights(structure, selections, orders),
        stored=stored,
        passing=stored + formed,
        paired=max([2 * output_pairs, *(cost.paired for cost in costs)]),
        work=sum(cost.work for cost in costs) + output_pairs * plain / outputs,
    )


def pass_size(structure: Structure, outputs: int) -> int:
    """Numbers that the passes over one sample hold: the result of every equation, and the largest cotangents."""
    sizes = [math.prod(aval(variable).shape) for equation in structure.program.eqns for variable in equation.outvars]
    return sum(sizes) + outputs * max(sizes, default=0)


def _cheapest(layer: Layer, selections: Sequence[Selection], outputs: int, samples: int, output_pairs: int) -> _Cost:
    """The order of one layer with the fewest multiply-adds among those that its mask allows."""
    q, t, i, j = layer.groups, layer.positions, layer.inputs, layer.outputs
    kept = _kept_columns(layer.leaves, selections)
    columns = layer.size if kept is None else kept
    work: dict[Order, float] = {"columns": output_pairs * columns + 2 * outputs * t * layer.size / samples}
    paired: dict[Order, int] = {"columns": output_pairs}
    if not any(selections[leaf].masked for leaf in layer.leaves):
        work["gram"] = q * t**2 * (i + output_pairs * (j + 1))
        paired["gram"] = q * t**2 * (1 + output_pairs) + output_pairs
    elif q == 1:
        work["hadamard"] = t**2 * (i * j + output_pairs * j)
        paired["hadamard"] = t**2 * (i + j) + t * outputs * j + output_pairs
    order = min(work, key=lambda order: work[order])
    return _Cost(order, outputs * columns, q * t * (i + outputs * j), paired[order], work[order])


def _with_stored_columns(costs: Sequence[_Cost], plain: int, samples: int) -> tuple[Order, ...]:
    """The cheapest orders, with "rows" in place of "columns" where the formed columns can be stored."""
    least = plain + sum(cost.rows if cost.order == "columns" else cost.factors for cost in costs)
    all_fit = samples * least <= MAX_STORED
    return tuple(
        "rows" if cost.order == "columns" and (all_fit or cost.rows <= cost.factors) else cost.order for cost in costs
    )


def _forming_size(layer: Layer, selections: Sequence[Selection], outputs: int) -> int:
    """Numbers that forming a layer's stored columns holds beside the result."""
    kept = _kept_columns(layer.leaves, selections)
    if kept is None or layer.positions == 1:
        return 0
    if kept * layer.positions <= layer.size:
        return (outputs + 1) * kept * layer.positions
    return outputs * layer.size


def _kept_columns(leaves: Sequence[int], selections: Sequence[Selection]) -> int | None:
    """A bound on the columns of some leaves that are kept; None where it is unknown."""
    bounds = [selections[leaf].kept for leaf in leaves]
    return None if None in bounds else sum(bound for bound in bounds if bound is not None)


def _column_weights(
    structure: Structure, selections: Sequence[Selection], orders: Sequence[Order]
) -> tuple[ColumnWeights, ...] | None:
    """The weights of each layer's columns, then of each plain leaf's; None without a mask."""
    if not any(selection.masked for selection in selections):
        return None
    weights = [selection.weight for selection in selections]
    found = []
    for layer, order in zip(structure.layers, orders, strict=True):
        # The Hadamard order takes all columns, whatever is kept.
        bound = None if order == "hadamard" else _kept_columns(layer.leaves, selections)
        found.append(_gathered(layer.columns(weights), bound))
    for leaf in structure.plain:
        found.append(_gathered(weights[leaf], _kept_columns((leaf,), selections)))
    return tuple(found)


def _gathered(weight: Float[Array, "..."], bound: int | None) -> ColumnWeights:
    """The weights of the columns kept, where at most ``bound`` are, or of all columns where that is not cheaper.

    The numbers of the columns are filled up to the bound with 0, with weight 0 in these places.
    """
    if bound is None or bound > _GATHER_BELOW * weight.size:
        return ColumnWeights(weight, None)
    flat = weight.reshape(-1)
    (kept,) = jnp.nonzero(flat, size=bound, fill_value=0)
    is_filled = jnp.arange(bound) >= jnp.count_nonzero(flat)
    return ColumnWeights(jnp.where(is_filled, 0, flat[kept]), kept)
