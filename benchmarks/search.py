"""The streamed search: its rate next to matrix products and a NumPy loop, its memory, more devices, networks."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.linear import AT_ONCE, BUDGET, FEATURES, OPERATIONS, SAMPLES, loop
from benchmarks.roofline import hardware, judged, matmul_rate
from sketchprune import data, laws, models, search, sketch, train
from sketchprune.search import SearchResult, mesh

ROUNDS = 5
"""What is compared runs in turns, so that a machine which others use too slows all of it alike."""
PART = 2**17
"""Masks of a round on a CPU."""
FEW, MANY = 10**5, 10**7
"""Masks between which memory is to stay the same."""
SMALL = 32, 64
"""Samples and features of the model with which memory is measured: many masks in little time."""
SHARE, LOOPS, GROWTH, LOSS = 0.45, 200, 0.05, 0.1
"""What is required: the share of matrix products' rate, the ratio to a NumPy loop, growth and loss at most."""
NETWORK_MASKS, DENSITY, STEPS, BATCH = 512, 0.1, 50, 256
ONE_AND_TWO = (1, 2)


def posed(samples: int = SAMPLES, features: int = FEATURES, budget: int = BUDGET) -> tuple[Any, Any, float, Any]:
    """The objective, the law and its expectation, and the arrays (x, w, p) they are made of."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((samples, features), np.float32))
    w = jnp.asarray(rng.standard_normal(features, np.float32))
    p = sketch.optimal_probabilities(x, w)
    law = laws.Multinomial(p, budget)
    return search.linear_error(x, w), law.sample, float(law.error(sketch.linear_items(x, w))), (x, w, p)


def linear(num_masks: int, devices: int | None = None, **options: Any) -> SearchResult:
    """A search of the benchmark's linear model."""
    objective, law, *_ = posed()
    over = mesh.over(jax.devices()[:devices])
    return search.best(objective, law, jax.random.key(0), num_masks, mesh=over, **options)


def product_rate() -> float:
    """Operations a second of a matrix product, over all devices."""
    if jax.default_backend() == "cpu":
        return matmul_rate(size=1024)  # on all cores already, which the devices share
    return matmul_rate(size=8192) * jax.device_count()


def rates(console: Console):
    """Masks a second in turns with matrix products and a NumPy loop."""
    on_cpu = jax.default_backend() == "cpu"
    _, _, theory, arrays = posed()
    x, w, p = map(np.asarray, arrays)
    count = PART if on_cpu else 10**8
    ours, products, loops, batches = [], [], [], []
    for _ in range(ROUNDS if on_cpu else 2):
        products.append(product_rate())
        result = linear(count)
        ours.append(result.rate)
        # Threads of a loop wait for one another where others use the cores: one alone is then the faster.
        loops.append(max(loop(x, w, p, threads=threads)[1] for threads in (None, 1)))
        batches.append(loop(x, w, p, threads=None, batch=AT_ONCE)[1])
    products.append(product_rate())
    around = [(a + b) / 2 for a, b in zip(products, products[1:], strict=False)]
    share = statistics.median(OPERATIONS * rate / product for rate, product in zip(ours, around, strict=True))
    ratio, batched = (
        statistics.median(rate / slow for rate, slow in zip(ours, others, strict=True)) for others in (loops, batches)
    )
    exact = np.sum((x.astype(np.float64) @ ((np.asarray(result.masks, np.float64) - 1) * w).T) ** 2, axis=0)
    rounding = float(np.max(abs(result.values - exact) / exact))
    rate = statistics.median(ours)
    # 200x is out of reach on a CPU: the rate of matrix products itself is some 14x a loop that is not starved.
    console.print(
        f"linear, d={FEATURES}, n={SAMPLES}, s={BUDGET}, float32, {count:,} masks a call: {rate:,.0f} masks/s "
        f"(10^6 in {1e6 / rate:.1f} s), {share:.0%} of the rate of matrix products "
        f"({statistics.median(products) / 1e9:,.0f} GFLOP/s; required: {SHARE:.0%}, {judged(share >= SHARE)}), "
        f"{ratio:.0f}x a NumPy loop on one core or all (required: {LOOPS}x, {judged(ratio >= LOOPS)}), "
        f"{batched:.1f}x NumPy on {AT_ONCE:,} masks at once; "
        f"mean ÷ theory {result.mean / theory:.4f}, float32 within {rounding:.0e} of float64",
        soft_wrap=True,
    )


def memory(console: Console):
    """The peak of this process after few and after many masks."""
    objective, law, *_ = posed(*SMALL, 8)
    peaks = []
    for count in (FEW, MANY):
        search.best(objective, law, jax.random.key(0), count)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    growth = peaks[1] / peaks[0] - 1
    console.print(
        f"memory: {peaks[0]:.0f} MiB after {FEW:,} masks, {peaks[1]:.0f} after {MANY:,}: {growth:+.1%} "
        f"(required: below {GROWTH:.0%}, {judged(growth < GROWTH)})",
        soft_wrap=True,
    )


def devices(console: Console):
    """One virtual CPU device against two, each in a process of its own, in turns."""
    command = f"from benchmarks.search import linear; print(linear({PART}).rate)"
    found: dict[int, list[float]] = {count: [] for count in ONE_AND_TWO}
    for _ in range(ROUNDS):
        for count in ONE_AND_TWO:
            flags = f"--xla_force_host_platform_device_count={count}"
            run = subprocess.run(
                [sys.executable, "-c", command],
                env=os.environ | {"XLA_FLAGS": flags},
                capture_output=True,
                text=True,
                check=True,
            )
            found[count].append(float(run.stdout))
    change = statistics.median(b / a for a, b in zip(*found.values(), strict=True)) - 1
    one, two = (statistics.median(rate) for rate in found.values())
    console.print(
        f"devices: {one:,.0f} masks/s on one virtual device, {two:,.0f} on two: {change:+.0%} "
        f"(required: a loss of {LOSS:.0%} at most, {judged(change >= -LOSS)})",
        soft_wrap=True,
    )


def networks(console: Console):
    """Masks a second of an MLP on digits, at initialisation and after training, beside PyTorch's vmap."""
    digits = data.load()
    x, y = jnp.asarray(digits.x[:BATCH] / 16, jnp.float32), jnp.asarray(digits.y[:BATCH], jnp.int32)
    apply, params = models.initial(models.mlp(64, 64, 10, bias=False), jax.random.key(0), x)
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, DENSITY, jnp.float32), params)
    law = laws.Poisson(rates, binary=True).sample

    loss = train.cross_entropy
    objectives = {
        "at initialisation": (search.initial_loss(apply, loss, params, (x, y)), 0, 64 * NETWORK_MASKS),
        f"after {STEPS} steps": (
            search.trained_loss(apply, loss, params, (x, y), optax.sgd(0.1), STEPS), STEPS, NETWORK_MASKS),
    }  # fmt: skip
    other = torch_rate([np.asarray(leaf) for leaf in jax.tree.leaves(params)], np.asarray(x), np.asarray(y))
    table = Table("MLP 64-64-64-10, 256 digits, float32", "masks/s", "PyTorch's vmap", "ratio")
    for name, (objective, steps, count) in objectives.items():
        rate = search.best(objective, law, jax.random.key(0), count).rate
        slow = None if other is None else other(steps)
        beside = ("", "") if slow is None else (f"{slow:,.0f}", f"{rate / slow:.1f}x")
        table.add_row(name, f"{rate:,.0f}", *beside)
    console.print(table)
    if other is None:
        console.print("PyTorch cannot be imported, so there is nothing to compare networks with")


def torch_rate(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Callable[[int], float] | None:
    """Masks a second of the same in PyTorch, vectorised over a tile of masks; None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs, labels = torch.tensor(x, device=device), torch.tensor(y, device=device).long()
    start = [torch.tensor(weight, device=device) for weight in weights]

    def loss(layers: Any) -> Any:
        hidden = inputs
        for layer in layers[:-1]:
            hidden = torch.relu(hidden @ layer)
        return torch.nn.functional.cross_entropy(hidden @ layers[-1], labels)

    def trained(kept: Any, steps: int) -> Any:
        layers = [weight * mask for weight, mask in zip(start, kept, strict=True)]
        for _ in range(steps):
            slopes = torch.func.grad(loss)(layers)
            layers = [w - 0.1 * g * mask for w, g, mask in zip(layers, slopes, kept, strict=True)]
        return loss(layers)

    def rate(steps: int) -> float:
        took = []
        for _ in range(3):
            begin = time.perf_counter()
            kept = [(torch.rand(256, *w.shape, device=device) < DENSITY).float() for w in start]
            torch.vmap(lambda *mask: trained(mask, steps))(*kept).cpu()
            took.append(time.perf_counter() - begin)
        return 256 / min(took)

    return rate


def main() -> None:
    jax.config.update("jax_num_cpu_devices", os.cpu_count())  # as the command does
    console = Console()
    console.print(f"search on {hardware()}, jax {jax.__version__}")
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        memory(console)
    rates(console)
    if on_cpu:
        devices(console)
    networks(console)
