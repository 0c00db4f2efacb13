"""How many floating-point operations the matrix products of a function take."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxprs_in_params, primitives

from sketchprune._jaxpr import aval


def product_operations(function: Callable[..., Any], *arguments: Any, trips: int = 1) -> int:
    """Floating-point operations in the matrix products and convolutions of a function; of branches, the most.

    Args:
        function: a function of arrays.
        arguments: arrays of the shapes that it is run on.
        trips: how often the body of a loop runs whose length is not known before it runs.
    """
    return _operations(jax.make_jaxpr(function)(*arguments).jaxpr, trips)


def _operations(jaxpr: Jaxpr, trips: int) -> int:
    """The operations of a jaxpr; the body of a loop counts as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        shapes = [aval(atom) for atom in (*equation.invars, *equation.outvars)]
        if equation.primitive is primitives.dot_general_p:
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * shapes[-1].size * math.prod(shapes[0].shape[axis] for axis in contracted)
        elif equation.primitive is primitives.conv_general_dilated_p:
            out, *_ = equation.params["dimension_numbers"].rhs_spec
            total += 2 * shapes[-1].size * shapes[1].size // shapes[1].shape[out]
        else:
            inner = [
                _operations(sub.jaxpr if isinstance(sub, ClosedJaxpr) else sub, trips)
                for sub in jaxprs_in_params(equation.params)
            ]
            combined = max(inner, default=0) if equation.primitive is primitives.cond_p else sum(inner)
            total += combined * loop_length(equation, trips)
    return total


def loop_length(equation: Any, trips: int) -> int:
    """How often the bodies inside an equation run.

    Args:
        equation: of a jaxpr.
        trips: how often the body of a loop runs whose length is not known.
    """
    if equation.primitive is primitives.while_p:
        return trips
    return equation.params.get("length", 1) if equation.primitive is primitives.scan_p else 1
