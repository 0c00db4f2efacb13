"""The streamed search: its rate next to matrix products and a NumPy loop, its memory, more devices, networks."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.linear import AT_ONCE, BUDGET, FEATURES, OPERATIONS, SAMPLES, loop
from benchmarks.roofline import judged, matmul_rate
from sketchprune import data, laws, models, search, sketch, train
from sketchprune.search import SearchResult
from sketchprune.search.objectives import Objective
from theory.cli import runtime

ROUNDS = 5
"""What is compared runs in turns, so that other work on the machine slows all of it alike."""
PART = 2**17
"""Masks of a round on a CPU."""
ACCELERATOR_MASKS = 10**8
"""Masks of a round on an accelerator."""
FEW_MASKS = 10**5
MANY_MASKS = 10**7
"""Between these numbers of masks the memory is to stay the same."""
SMALL_MODEL = {"samples": 32, "features": 64, "budget": 8}
"""The model with which memory is measured: many masks in little time."""
MIN_SHARE = 0.45
"""The share of matrix products' rate that is required."""
MIN_LOOP_RATIO = 200
"""How many times as fast as a NumPy loop is required."""
MAX_GROWTH = 0.05
"""The growth of memory that is allowed."""
MAX_LOSS = 0.1
"""The loss of speed on two devices that is allowed."""
NETWORK_MASKS = 512
DENSITY = 0.1
STEPS = 50
BATCH = 256
DEVICE_COUNTS = (1, 2)


class Linear(NamedTuple):
    """A random linear model: what is searched, and what it is made of."""

    objective: Objective
    law: laws.Multinomial
    expectation: float
    x: np.ndarray
    w: np.ndarray


def linear_model(samples: int = SAMPLES, features: int = FEATURES, budget: int = BUDGET) -> Linear:
    """The benchmark's linear model with Gaussian data and weights, under the optimal multinomial law."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, features), np.float32)
    w = rng.standard_normal(features, np.float32)
    law = laws.Multinomial(sketch.optimal_probabilities(jnp.asarray(x), jnp.asarray(w)), budget)
    return Linear(search.linear_error(x, w), law, float(law.error(sketch.linear_items(x, w))), x, w)


def search_linear(num_masks: int) -> SearchResult:
    """A search of the benchmark's linear model on all devices."""
    model = linear_model()
    return search.best(model.objective, model.law, num_masks, key=jax.random.key(0))


def product_rate() -> float:
    """Operations a second of a matrix product, over all devices."""
    if jax.default_backend() == "cpu":
        return matmul_rate(size=1024)  # on all cores already, which the devices share
    return matmul_rate(size=8192) * jax.device_count()


def rates(console: Console) -> None:
    """Masks a second in turns with matrix products and a NumPy loop."""
    on_cpu = jax.default_backend() == "cpu"
    model = linear_model()
    p = np.asarray(model.law.probabilities)
    count = PART if on_cpu else ACCELERATOR_MASKS
    results: list[SearchResult] = []
    products, loops, batches = [], [], []
    for _ in range(ROUNDS if on_cpu else 2):
        products.append(product_rate())
        results.append(search_linear(count))
        # Where other work uses the cores, the threads of a product wait for one another, and one thread is faster.
        loops.append(max(loop(model.x, model.w, p, threads=threads)[1] for threads in (None, 1)))
        batches.append(loop(model.x, model.w, p, threads=None, batch=AT_ONCE)[1])
    products.append(product_rate())

    ours = [result.rate for result in results]
    around = [(before + after) / 2 for before, after in zip(products, products[1:], strict=False)]
    share = OPERATIONS * median_ratio(ours, around)
    ratio = median_ratio(ours, loops)
    rate = statistics.median(ours)
    # 200x is out of reach on a CPU, where matrix products themselves are some 14x as fast as a loop with free cores.
    console.print(
        f"linear, d={FEATURES}, n={SAMPLES}, s={BUDGET}, float32, {count:,} masks a call: {rate:,.0f} masks/s "
        f"(10^6 in {1e6 / rate:.1f} s), {share:.0%} of the rate of matrix products "
        f"({statistics.median(products) / 1e9:,.0f} GFLOP/s; required: {MIN_SHARE:.0%}, {judged(share >= MIN_SHARE)}), "
        f"{ratio:.0f}x a NumPy loop on one core or all (required: {MIN_LOOP_RATIO}x, "
        f"{judged(ratio >= MIN_LOOP_RATIO)}), {median_ratio(ours, batches):.1f}x NumPy on {AT_ONCE:,} masks at once; "
        f"mean ÷ theory {results[-1].mean / model.expectation:.4f}, "
        f"float32 within {rounding(model, results[-1]):.0e} of float64",
        soft_wrap=True,
    )


def median_ratio(ours: list[float], others: list[float]) -> float:
    """The median over rounds of the ratio of two rates."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def rounding(model: Linear, result: SearchResult) -> float:
    """The largest relative error of the best values against float64."""
    masks = np.asarray(result.masks, np.float64)
    exact = np.sum((model.x.astype(np.float64) @ ((masks - 1) * model.w).T) ** 2, axis=0)
    return float(np.max(abs(result.values - exact) / exact))


def memory(console: Console) -> None:
    """The peak of this process after few and after many masks."""
    model = linear_model(**SMALL_MODEL)
    peaks = []
    for count in (FEW_MASKS, MANY_MASKS):
        search.best(model.objective, model.law, count, key=jax.random.key(0))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    growth = peaks[1] / peaks[0] - 1
    console.print(
        f"memory: {peaks[0]:.0f} MiB after {FEW_MASKS:,} masks, {peaks[1]:.0f} after {MANY_MASKS:,}: {growth:+.1%} "
        f"(required: below {MAX_GROWTH:.0%}, {judged(growth < MAX_GROWTH)})",
        soft_wrap=True,
    )


def devices(console: Console) -> None:
    """One virtual CPU device against two, each in a process of its own, in turns."""
    command = f"from benchmarks.search import search_linear; print(search_linear({PART}).rate)"
    found: dict[int, list[float]] = {count: [] for count in DEVICE_COUNTS}
    for _ in range(ROUNDS):
        for count in DEVICE_COUNTS:
            flags = f"--xla_force_host_platform_device_count={count}"
            run = subprocess.run(
                [sys.executable, "-c", command],
                env=os.environ | {"XLA_FLAGS": flags},
                capture_output=True,
                text=True,
                check=True,
            )
            found[count].append(float(run.stdout))
    change = median_ratio(found[2], found[1]) - 1
    one, two = (statistics.median(rate) for rate in found.values())
    console.print(
        f"devices: {one:,.0f} masks/s on one virtual device, {two:,.0f} on two: {change:+.0%} "
        f"(required: a loss of {MAX_LOSS:.0%} at most, {judged(change >= -MAX_LOSS)})",
        soft_wrap=True,
    )


def networks(console: Console) -> None:
    """Masks a second of an MLP on digits, at initialisation and after training, beside PyTorch's vmap."""
    digits = data.load()
    x, y = jnp.asarray(digits.x[:BATCH] / 16, jnp.float32), jnp.asarray(digits.y[:BATCH], jnp.int32)
    apply, params = models.initial(models.mlp(64, 64, 10, bias=False), jax.random.key(0), x)
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, DENSITY, jnp.float32), params)
    law = laws.Poisson(rates, binary=True)

    loss = train.cross_entropy
    objectives = {
        "at initialisation": (search.initial_loss(apply, loss, params, (x, y)), 0, 64 * NETWORK_MASKS),
        f"after {STEPS} steps": (
            search.trained_loss(apply, loss, params, (x, y), optax.sgd(0.1), STEPS), STEPS, NETWORK_MASKS),
    }  # fmt: skip
    other = torch_rate([np.asarray(leaf) for leaf in jax.tree.leaves(params)], np.asarray(x), np.asarray(y))
    table = Table("MLP 64-64-64-10, 256 digits, float32", "masks/s", "PyTorch's vmap", "ratio")
    for name, (objective, steps, count) in objectives.items():
        rate = search.best(objective, law, count, key=jax.random.key(0)).rate
        slow = None if other is None else other(steps)
        beside = ("", "") if slow is None else (f"{slow:,.0f}", f"{rate / slow:.1f}x")
        table.add_row(name, f"{rate:,.0f}", *beside)
    console.print(table)
    if other is None:
        console.print("PyTorch cannot be imported, so there is nothing to compare networks with")


def torch_rate(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Callable[[int], float] | None:
    """Masks a second of the same in PyTorch, vectorised over a tile of masks; None without PyTorch."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
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
    """Print the measurements."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())  # as the command does
    console = Console()
    console.print(f"search on {runtime.hardware()}, jax {jax.__version__}")
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        memory(console)
    rates(console)
    if on_cpu:
        devices(console)
    networks(console)
