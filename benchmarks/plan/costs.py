"""What a program costs, by XLA's own analysis of it: operations, bytes, memory, and data that devices exchange."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun, jaxprs_in_params, primitives

from benchmarks._operations import loop_length, product_operations
from sketchprune._jaxpr import aval

_COLLECTIVE = re.compile(
    r"stablehlo\.(?:all_gather|all_reduce|all_to_all|reduce_scatter|collective_permute)\b.*?-> *\(?(tensor<[^)\n]*)",
    re.DOTALL,
)
_TENSOR = re.compile(r"tensor<([0-9x]*?)x?([a-z]+)([0-9]+)>")


class Cost(NamedTuple):
    """What one run of a program takes.

    Attributes:
        products: floating-point operations in matrix products and convolutions.
        elementwise: all other arithmetic, the generation of random bits included.
        lookups: slices that are read or written at computed places: gathers and scatters.
        bytes: what is read and written by the fused loops and products of the compiled program.
        memory: bytes at the peak: arguments, results and what lies between.
    """

    products: float
    elementwise: float
    lookups: float
    bytes: float
    memory: int


def cost(function: Callable[..., Any], *arguments: Any, trips: int = 1) -> Cost:
    """The cost of a function, by XLA's analysis.

    Operations are those of the program that is lowered for a TPU, where random bits are generated without loops. Bytes
    and memory are those of the program that is compiled here. XLA counts the body of a loop once: the bodies are
    analysed by themselves as well, and count as often as they run.

    Args:
        function: a function of arrays.
        arguments: arrays of the shapes that it is run on.
        trips: how often the body of a loop runs whose length is not known before it runs.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    products = product_operations(function, *arguments, trips=trips)
    compiled = _compiled(jaxpr)
    sizes = compiled.memory_analysis()
    assert sizes is not None  # XLA knows it on CPUs, GPUs and TPUs
    operations = _operations(jaxpr) + _further_rounds(jaxpr, _operations, trips)
    return Cost(
        products=products,
        elementwise=max(operations - products, 0.0),
        lookups=_lookups(jaxpr, trips),
        bytes=_bytes(compiled) + _further_rounds(jaxpr, lambda body: _bytes(_compiled(body)), trips),
        memory=sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes,
    )


def collective_bytes(text: str) -> int:
    """The bytes that each device has got from the others when a program has run once, its loops aside.

    Args:
        text: the program as StableHLO.
    """
    total = 0
    for results in _COLLECTIVE.findall(text):
        for sizes, _, bits in _TENSOR.findall(results):
            total += math.prod(int(size) for size in sizes.split("x") if size) * max(int(bits), 8) // 8
    return total


def _further_rounds(jaxpr: Jaxpr, counted_once: Callable[[Jaxpr], float], trips: int) -> float:
    """What XLA leaves out when it counts the bodies of loops once."""
    total = 0.0
    for equation, body in _loops(jaxpr):
        once, length = counted_once(body), loop_length(equation, trips)
        total += length * (once + _further_rounds(body, counted_once, trips)) - once
    return total


def _loops(jaxpr: Jaxpr) -> Iterator[tuple[Any, Jaxpr]]:
    """The loops of a jaxpr with their bodies; not the loops inside these."""
    for equation in jaxpr.eqns:
        if equation.primitive is primitives.while_p:
            yield equation, equation.params["body_jaxpr"].jaxpr
        elif equation.primitive is primitives.scan_p:
            yield equation, equation.params["jaxpr"].jaxpr
        else:
            for inner in _inner(equation):
                yield from _loops(inner)


def _inner(equation: Any) -> Iterator[Jaxpr]:
    """The jaxprs inside an equation."""
    for inner in jaxprs_in_params(equation.params):
        yield inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner


def _operations(jaxpr: Jaxpr) -> float:
    """All arithmetic, as XLA counts it in the program for a TPU."""
    function, arguments = _alone(jaxpr)
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",))
    return _entry(lowered.cost_analysis(), "flops")


def _compiled(jaxpr: Jaxpr) -> Any:
    """The program compiled here."""
    function, arguments = _alone(jaxpr)
    return jax.jit(function).lower(*arguments).compile()


def _bytes(compiled: Any) -> float:
    """The bytes that a compiled program reads and writes."""
    return _entry(compiled.cost_analysis(), "bytes accessed")


def _entry(analysis: Any, name: str) -> float:
    """One number of an analysis; 0 of a program in which XLA finds nothing to count."""
    return max(float((analysis or {}).get(name, 0.0)), 0.0)


def _alone(jaxpr: Jaxpr) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
    """A jaxpr as a function, and the shapes of its arguments and constants."""
    variables = [*jaxpr.constvars, *jaxpr.invars]
    shapes = [jax.ShapeDtypeStruct(aval(variable).shape, aval(variable).dtype) for variable in variables]
    count = len(jaxpr.constvars)
    return lambda *values: jaxpr_as_fun(ClosedJaxpr(jaxpr, values[:count]))(*values[count:]), shapes


def _lookups(jaxpr: Jaxpr, trips: int) -> float:
    """How many slices gathers read and scatters write."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "gather":
            total += aval(equation.outvars[0]).size / math.prod(equation.params["slice_sizes"])
        elif name.startswith("scatter"):
            places = aval(equation.invars[1]).shape  # the last axis holds the coordinates of a place
            total += math.prod(places[:-1])
        else:
            total += loop_length(equation, trips) * sum(_lookups(inner, trips) for inner in _inner(equation))
    return total
