"""The structured kernel next to the fastest of neural-tangents' implementations that run on current JAX."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

from benchmarks.roofline import Prepared, hardware, judged, matmul_rate, prepared, product_operations, raced, timed
from sketchprune import kernels, models
from sketchprune.types import ApplyFn, Mask, Params


class Case(NamedTuple):
    name: str
    network: nn.Module
    shape: tuple[int, ...]
    """Of the samples, their number first."""
    density: float | None
    """Of a random mask."""
    required: float | None
    """How many times faster than neural-tangents."""


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


def baselines() -> dict[str, Callable[[ApplyFn], Callable[[Params, Array], Array]]]:
    """neural-tangents' implementations that work on current JAX; none where it does not import.

    Told that samples are independent (vmap_axes=0) both are several times faster on every case here.
    """
    try:
        from sketchprune.kernels.infinite import neural_tangents

        nt: Any = neural_tangents()
    except ImportError:
        return {}

    def kernel(name: str, apply: ApplyFn) -> Callable[[Params, Array], Array]:
        implementation = nt.NtkImplementation[name]
        of = nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=implementation)
        return lambda params, x: of(x, None, params)

    return {name: functools.partial(kernel, name) for name in ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS")}


def main() -> None:
    console = Console(width=110)
    others = baselines()
    rate = matmul_rate()
    console.print(f"NTK of all outputs, float32, {hardware()}, {rate / 1e9:.0f} GFLOP/s, jax {jax.__version__}")
    if not others:
        console.print("neural-tangents cannot be imported, so there is nothing to compare with: sketchprune[infinite]")
    for case in CASES:
        console.print(table(case, others, rate, console))


def table(case: Case, others: dict[str, Any], rate: float, console: Console) -> Table:
    """Ours and the fastest of the others, measured in turns."""
    apply, params, mask, x = instance(case)

    def structured(params: Params, x: Array) -> Array:
        return kernels.ntk(apply, params, x, mask=mask)

    def masked(params: Params, x: Array) -> Array:
        return apply(params if mask is None else jax.tree.map(jnp.multiply, params, mask), x)

    ours = prepared(structured, params, x)
    ours.seconds()
    first: dict[str, tuple[float, Prepared]] = {}
    for name, of in others.items():
        console.print(f"{case.name}: neural-tangents, {name}", style="dim")
        try:
            other = prepared(of(masked), params, x)
            other.seconds()
            first[name] = other.seconds(), other
        except Exception as error:  # whatever an implementation does that does not work here
            console.print(f"  fails: {type(error).__name__}", style="dim")
    best = min(first, key=lambda name: first[name][0], default=None)
    steady, baseline = (timed(structured, params, x), None) if best is None else raced(ours, first[best][1])

    shown = Table(
        "kernel", "compile s", "steady ms", "peak MiB", "of matmul rate", "ratio", "required", title=case.name
    )

    def row(by: str, run: Prepared, seconds: float, *rest: str) -> None:
        shown.add_row(by, f"{run.compile:.1f}", f"{seconds * 1e3:.1f}", f"{run.memory / 2**20:.0f}", *rest)

    ratio = "" if baseline is None else f"{baseline / steady:.1f}x"
    required = "" if case.required is None else f"{case.required:g}x"
    if case.required is not None and baseline is not None:
        required += f", {judged(baseline / steady >= case.required)}"
    share = product_operations(structured, params, x) / steady / rate
    row("sketchprune", ours, steady, f"{share:.0%}", ratio, required)
    if best is not None and baseline is not None:
        row(best.lower(), first[best][1], baseline)
    return shown
