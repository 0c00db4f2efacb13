"""The structured kernel beside the fastest of neural-tangents' implementations that run on current JAX."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

from benchmarks.roofline import (
    Prepared,
    judged,
    matmul_rate,
    prepared,
    product_operations,
    timed,
    timed_in_turns,
)
from sketchprune import kernels, models
from sketchprune.types import ApplyFn, Mask, Params
from theory.cli import runtime

Kernel = Callable[[Params, Array], Array]
"""From parameters and samples to the kernel of all outputs."""


class Case(NamedTuple):
    """A network whose kernel is timed.

    Attributes:
        name: what the table is called.
        network: the network.
        shape: shape of the samples, their number first.
        density: the fraction of the weights that a random mask keeps; None for no mask.
        required: how many times faster than neural-tangents it has to be; None for no requirement.
    """

    name: str
    network: nn.Module
    shape: tuple[int, ...]
    density: float | None
    required: float | None


CASES = (
    Case("MLP 784-512-512-10", models.mlp(512, 512, 10, bias=False), (64, 784), None, 100),
    Case("the same, 5 % mask", models.mlp(512, 512, 10, bias=False), (64, 784), 0.05, 30),
    Case("LeNet, average pooling", models.lenet(), (64, 28, 28, 1), None, 5),
    Case("LeNet, max pooling", models.lenet(pooling="max"), (64, 28, 28, 1), None, 5),
    Case("ResNet-20", models.resnet20(), (32, 32, 32, 3), None, None),
)


def instance(case: Case) -> tuple[ApplyFn, Params, Mask | None, Float[Array, "n ..."]]:
    """The network, its parameters (masked ones under a mask), the mask, and the samples."""
    x_key, init_key, mask_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, case.shape)
    apply, params = models.initial(case.network, init_key, x)
    if case.density is None:
        return apply, params, None, x
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(mask_key, len(leaves))
    kept = [jax.random.bernoulli(key, case.density, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    mask = tree.unflatten(kept)
    return apply, jax.tree.map(jnp.multiply, params, mask), mask, x


def baselines() -> dict[str, Callable[[ApplyFn], Kernel]]:
    """The implementations of neural-tangents that work on current JAX; none if it cannot be imported.

    They are told that samples are independent (vmap_axes=0), which makes both several times faster on every case here.
    """
    try:
        from sketchprune.kernels.infinite import neural_tangents

        nt: Any = neural_tangents()
    except ImportError:
        return {}

    def kernel(name: str, apply: ApplyFn) -> Kernel:
        implementation = nt.NtkImplementation[name]
        ntk = nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=implementation)
        return lambda params, x: ntk(x, None, params)

    return {name: functools.partial(kernel, name) for name in ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS")}


def fastest(
    baselines: Mapping[str, Callable[[ApplyFn], Kernel]], apply: ApplyFn, params: Params, x: Array, console: Console
) -> tuple[str, Prepared] | None:
    """The fastest of the baselines on a network, with its name; None if none of them works.

    Args:
        baselines: name -> what makes a kernel of a network.
        apply: the network.
        params: its parameters.
        x: the samples.
        console: where progress and failures are printed.
    """
    found: dict[str, tuple[float, Prepared]] = {}
    for name, kernel in baselines.items():
        console.print(f"neural-tangents, {name}", style="dim")
        try:
            run = prepared(kernel(apply), params, x)
            run.seconds()
            found[name] = (run.seconds(), run)
        except Exception as error:  # an implementation may fail on a network in any way
            console.print(f"  fails: {type(error).__name__}", style="dim")
    if not found:
        return None
    name = min(found, key=lambda name: found[name][0])
    return name, found[name][1]


def table(case: Case, others: Mapping[str, Callable[[ApplyFn], Kernel]], rate: float, console: Console) -> Table:
    """Our kernel and the fastest of the others, run in turns.

    Args:
        case: the network.
        others: the baselines.
        rate: the machine's rate of matrix products.
        console: where progress is printed.
    """
    apply, params, mask, x = instance(case)

    def structured(params: Params, x: Array) -> Array:
        return kernels.ntk(apply, params, x, mask=mask)

    def masked(params: Params, x: Array) -> Array:
        return apply(params if mask is None else jax.tree.map(jnp.multiply, params, mask), x)

    console.print(case.name, style="dim")
    ours = prepared(structured, params, x)
    ours.seconds()
    other = fastest(others, masked, params, x, console)
    shown = Table(
        "kernel", "compile s", "steady ms", "peak MiB", "of matmul rate", "ratio", "required", title=case.name
    )

    def row(name: str, run: Prepared, seconds: float, *rest: str) -> None:
        shown.add_row(name, f"{run.compile_s:.1f}", f"{seconds * 1e3:.1f}", f"{run.peak_bytes / 2**20:.0f}", *rest)

    required = "" if case.required is None else f"{case.required:g}x"
    operations = product_operations(structured, params, x)
    if other is None:
        seconds = timed(structured, params, x)
        row("sketchprune", ours, seconds, f"{operations / seconds / rate:.0%}", "", required)
        return shown
    name, baseline = other
    seconds, baseline_s = timed_in_turns(ours, baseline)
    ratio = baseline_s / seconds
    if case.required is not None:
        required += f", {judged(ratio >= case.required)}"
    row("sketchprune", ours, seconds, f"{operations / seconds / rate:.0%}", f"{ratio:.1f}x", required)
    row(name.lower(), baseline, baseline_s)
    return shown


def main() -> None:
    """Print a table for each case."""
    console = Console(width=110)
    others = baselines()
    rate = matmul_rate()
    console.print(f"NTK of all outputs, float32, {runtime.hardware()}, {rate / 1e9:.0f} GFLOP/s, jax {jax.__version__}")
    if not others:
        console.print("neural-tangents cannot be imported, so there is nothing to compare with: sketchprune[infinite]")
    for case in CASES:
        console.print(table(case, others, rate, console))
