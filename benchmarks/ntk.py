"""The structured kernel beside the fastest of neural-tangents' implementations that run on current JAX."""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from benchmarks._operations import product_operations
from benchmarks._peers import absent
from benchmarks._record import OURS, Row, Target
from benchmarks._roofs import Roof, products
from benchmarks._timing import Prepared, in_turns, prepared
from sketchprune import kernels, models
from sketchprune.types import ApplyFn, Mask, Params

Kernel = Callable[[Params, Array], Array]
"""From parameters and samples to the kernel of all outputs."""
PEER = "neural-tangents"
CHECKED = 4
"""Samples of the kernel that is computed in float64."""


class Case(NamedTuple):
    """A network whose kernel is timed.

    Attributes:
        name: what it is called.
        network: the network.
        shape: shape of the samples, their number first.
        density: the fraction of the weights that a random mask keeps; None for no mask.
        required: how many times faster than neural-tangents it has to be.
    """

    name: str
    network: nn.Module
    shape: tuple[int, ...]
    density: float | None
    required: float


CASES = (
    Case("MLP 784-512-512-10", models.mlp(512, 512, 10, bias=False), (64, 784), None, 130),
    Case("MLP 784-512-512-10, 5 % mask", models.mlp(512, 512, 10, bias=False), (64, 784), 0.05, 35),
    Case("LeNet, average pooling", models.lenet(), (64, 28, 28, 1), None, 10),
    Case("LeNet, max pooling", models.lenet(pooling="max"), (64, 28, 28, 1), None, 10),
    Case("ResNet-20", models.resnet20(), (32, 32, 32, 3), None, 5),
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
    baselines: Mapping[str, Callable[[ApplyFn], Kernel]], apply: ApplyFn, params: Params, x: Array
) -> tuple[str, Prepared] | None:
    """The fastest of the baselines on a network, with its name; None if none of them works.

    Args:
        baselines: name -> what makes a kernel of a network.
        apply: the network.
        params: its parameters.
        x: the samples.
    """
    found: dict[str, Prepared] = {}
    for name, kernel in baselines.items():
        try:
            found[name] = prepared(kernel(apply), params, x)
            found[name].run()
        except Exception as error:  # an implementation may fail on a network in any way
            found.pop(name, None)
            print(f"{PEER}, {name} fails: {type(error).__name__}", file=sys.stderr)
    if not found:
        return None
    timings = in_turns({name: run.run for name, run in found.items()}, rounds=1)
    name = min(found, key=lambda name: timings[name].seconds)
    return name, found[name]


def rows() -> Iterator[Row]:
    """Our kernel and the fastest of the others, case by case."""
    others = baselines()
    roof = products()
    for case in CASES:
        yield from _rows(case, others, roof)


def _rows(case: Case, others: Mapping[str, Callable[[ApplyFn], Kernel]], roof: Roof) -> Iterator[Row]:
    """The rows of one case."""
    apply, params, mask, x = instance(case)

    def structured(params: Params, x: Array) -> Array:
        return kernels.ntk(apply, params, x, mask=mask)

    def masked(params: Params, x: Array) -> Array:
        return apply(params if mask is None else jax.tree.map(jnp.multiply, params, mask), x)

    what, target = f"NTK of {case.name}, {len(x)} samples", Target("ratio", least=case.required)
    ours = prepared(structured, params, x)
    other = fastest(others, masked, params, x)
    runs = {OURS: ours.run, roof.name: roof.run} | ({} if other is None else {PEER: other[1].run})
    timings = in_turns(runs)
    yield Row(
        what,
        seconds=timings[OURS].seconds,
        compile_s=ours.compile_s,
        roofline=roof.share(product_operations(structured, params, x), timings[OURS], timings[roof.name]),
        roof=roof.name,
        error=_error(apply, params, mask, x[:CHECKED]),
        memory_mib=ours.peak_mib,
    )
    if other is None:
        yield absent(what, PEER, target)
        return
    name, baseline = other
    yield Row(
        what,
        PEER,
        timings[PEER].seconds,
        compile_s=baseline.compile_s,
        ratio=timings[PEER].over(timings[OURS]),
        memory_mib=baseline.peak_mib,
        target=target,
        note=name.lower().replace("_", " "),
    )


def _error(apply: ApplyFn, params: Params, mask: Mask | None, x: Array) -> float:
    """The largest error of a kernel against the Jacobian's product in float64, relative to its largest entry."""
    found = np.asarray(kernels.ntk(apply, params, x, mask=mask), np.float64)
    with jax.enable_x64():
        doubled = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), (params, x))
        exact = np.asarray(kernels.ntk_reference(apply, *doubled, mask=mask))
    return float(np.max(abs(found - exact)) / np.max(abs(exact)))
