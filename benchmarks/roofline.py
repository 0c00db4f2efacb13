"""The machine's measured rate of matrix products, and how the other benchmarks time functions and count operations."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxprs_in_params, primitives
from jax.typing import DTypeLike
from rich.console import Console
from rich.table import Table

from theory.cli import runtime


class Prepared(NamedTuple):
    """A function that is compiled for its arguments.

    Attributes:
        seconds: runs it once and returns how long that took.
        compile_s: seconds of tracing and compilation.
        peak_bytes: memory at the peak: arguments, results, and what XLA sets aside for the rest.
    """

    seconds: Callable[[], float]
    compile_s: float
    peak_bytes: int


def prepared(function: Callable[..., Any], *arguments: Any) -> Prepared:
    """Compile a function for its arguments.

    Args:
        function: a function of arrays.
        arguments: what it is run on.
    """
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - begin
    sizes = compiled.memory_analysis()
    peak_bytes = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes

    def seconds() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        return time.perf_counter() - begin

    return Prepared(seconds, compile_s, peak_bytes)


def timed(function: Callable[..., Any], *arguments: Any, repeats: int = 7) -> float:
    """Seconds of one call, compiled before: the median.

    Args:
        function: a function of arrays.
        arguments: what it is run on.
        repeats: how many calls are timed.
    """
    seconds = prepared(function, *arguments).seconds
    seconds()
    return statistics.median(seconds() for _ in range(repeats))


def timed_in_turns(fast: Prepared, slow: Prepared) -> tuple[float, float]:
    """The median seconds of two functions that are run in turns.

    In each turn both run for about as long, so that what else the machine does slows both alike.

    Args:
        fast: the one that is expected to be faster.
        slow: the other one.
    """
    slow_s = slow.seconds()
    turns = 9 if slow_s < 2 else 3
    fast_per_turn = min(max(round(slow_s / fast.seconds()), 1), 20)
    fast_times: list[float] = []
    slow_times: list[float] = []
    for _ in range(turns):
        slow_times.append(slow.seconds())
        fast_times.extend(fast.seconds() for _ in range(fast_per_turn))
    return statistics.median(fast_times), statistics.median(slow_times)


def matmul_rate(dtype: DTypeLike = jnp.float32, *, size: int = 2048) -> float:
    """Floating-point operations a second of a square matrix product at precision "highest", measured.

    Args:
        dtype: that of the matrices.
        size: how many rows and columns they have.
    """
    matrix = jnp.ones((size, size), dtype)
    return 2 * size**3 / timed(lambda a: jnp.matmul(a, a, precision="highest"), matrix, repeats=15)


def product_operations(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations in the matrix products and convolutions of a function; of branches, the most.

    Args:
        function: a function of arrays.
        arguments: arrays of the shapes that it is run on.
    """
    return _operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def _operations(jaxpr: Jaxpr) -> int:
    """The operations of a jaxpr; the body of a scan counts as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        shapes = [getattr(atom, "aval", None) for atom in (*equation.invars, *equation.outvars)]
        if equation.primitive is primitives.dot_general_p:
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * shapes[-1].size * math.prod(shapes[0].shape[axis] for axis in contracted)
        elif equation.primitive is primitives.conv_general_dilated_p:
            out, *_ = equation.params["dimension_numbers"].rhs_spec
            total += 2 * shapes[-1].size * shapes[1].size // shapes[1].shape[out]
        else:
            inner = [
                _operations(sub.jaxpr if isinstance(sub, ClosedJaxpr) else sub)
                for sub in jaxprs_in_params(equation.params)
            ]
            combined = max(inner, default=0) if equation.primitive is primitives.cond_p else sum(inner)
            total += combined * equation.params.get("length", 1)
    return total


def judged(met: bool) -> str:
    """Whether a requirement was met, in rich's markup."""
    return "met" if met else "[red]missed[/red]"


def main() -> None:
    """Print the rate of matrix products in float32 and bfloat16."""
    table = Table("dtype", "GFLOP/s", title=f"Matrix products on {runtime.hardware()}, jax {jax.__version__}")
    for dtype in (jnp.float32, jnp.bfloat16):
        table.add_row(jnp.dtype(dtype).name, f"{matmul_rate(dtype) / 1e9:.0f}")
    Console().print(table)
