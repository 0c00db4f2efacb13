"""The machine's measured rate of matrix products, and how the other benchmarks time and count."""

import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxprs_in_params, primitives
from jax.typing import DTypeLike
from rich.console import Console
from rich.table import Table


class Prepared(NamedTuple):
    """A function compiled for its arguments."""

    seconds: Callable[[], float]
    """Runs it once, and says how long that took."""
    compile: float
    """Seconds of tracing and compilation."""
    memory: int
    """Bytes at the peak: arguments, results and what XLA sets aside for the rest."""


def prepared(fn: Callable[..., Any], *args: Any) -> Prepared:
    begin = time.perf_counter()
    compiled = jax.jit(fn).lower(*args).compile()
    compilation = time.perf_counter() - begin
    sizes = compiled.memory_analysis()
    memory = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes

    def seconds() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        return time.perf_counter() - begin

    return Prepared(seconds, compilation, memory)


def timed(fn: Callable[..., Any], *args: Any, repeats: int = 7) -> float:
    """Seconds a call of a warm function: the median."""
    seconds = prepared(fn, *args).seconds
    seconds()
    return statistics.median(seconds() for _ in range(repeats))


def raced(fast: Prepared, slow: Prepared) -> tuple[float, float]:
    """The median seconds of two warm functions, run in turns, about as long: what else the machine does hits both."""
    alone = slow.seconds()
    rounds, repeats = 9 if alone < 2 else 3, min(max(round(alone / fast.seconds()), 1), 20)
    took: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        took[1].append(slow.seconds())
        took[0].extend(fast.seconds() for _ in range(repeats))
    return statistics.median(took[0]), statistics.median(took[1])


def matmul_rate(dtype: DTypeLike = jnp.float32, *, size: int = 2048) -> float:
    """Measured floating-point operations a second of a square matrix product at precision "highest"."""
    matrix = jnp.ones((size, size), dtype)
    return 2 * size**3 / timed(lambda a: jnp.matmul(a, a, precision="highest"), matrix, repeats=15)


def product_operations(fn: Callable[..., Any], *args: Any) -> int:
    """Floating-point operations in the matrix products and convolutions of ``fn``, the most of any branch."""
    return _operations(jax.make_jaxpr(fn)(*args).jaxpr)


def _operations(jaxpr: Jaxpr) -> int:
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
            several = max(inner, default=0) if equation.primitive is primitives.cond_p else sum(inner)
            total += several * equation.params.get("length", 1)
    return total


def judged(met: bool) -> str:
    """Whether what is required was met, in rich's markup."""
    return "met" if met else "[red]missed[/red]"


def hardware() -> str:
    """What the numbers were measured on."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or 1} x {names[0] if names else platform.processor()}"


def main() -> None:
    table = Table("dtype", "GFLOP/s", title=f"Matrix products on {hardware()}, jax {jax.__version__}")
    for dtype in (jnp.float32, jnp.bfloat16):
        table.add_row(jnp.dtype(dtype).name, f"{matmul_rate(dtype) / 1e9:.0f}")
    Console().print(table)
