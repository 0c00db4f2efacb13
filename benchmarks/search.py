"""The streamed search: next to matrix products and a NumPy loop, its memory, more devices, networks."""

import functools
import itertools
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._peers import Torch, absent, torch
from benchmarks._record import OURS, Row, Target
from benchmarks._roofs import products
from benchmarks._timing import in_turns
from benchmarks.linear import AT_ONCE, BUDGET, FEATURES, LOOPED, OPERATIONS, SAMPLES, WHAT, loop
from sketchprune import data, laws, models, search, sketch, train
from sketchprune.search import SearchResult
from sketchprune.search.objectives import Objective

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
LOOP, BATCHES, PEER = "NumPy loop, one core or all", f"NumPy, {AT_ONCE:,} masks at once", "torch.func.vmap"
NETWORK_MASKS = 512
TORCH_MASKS = 256
"""Masks that PyTorch vectorises over."""
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
    """Operations a second of a matrix product, over all devices; those of a CPU share cores that one product uses."""
    return products().rate() * (1 if jax.default_backend() == "cpu" else jax.device_count())


def rows() -> Iterator[Row]:
    """The linear model beside products and NumPy; on a CPU memory and more devices; networks beside PyTorch's vmap."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())  # as the command does
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        yield memory()
    yield from linear()
    if on_cpu:
        yield from devices()
    yield from networks()


def linear() -> Iterator[Row]:
    """Masks of the linear model, in turns with matrix products and with NumPy."""
    on_cpu = jax.default_backend() == "cpu"
    model = linear_model()
    p = np.asarray(model.law.probabilities)
    count = PART if on_cpu else ACCELERATOR_MASKS
    numpy = functools.partial(loop, model.x, model.w, p)
    results: list[SearchResult] = []
    rates: list[float] = []
    took: dict[str, list[float]] = {LOOP: [], BATCHES: []}
    for _ in range(ROUNDS if on_cpu else 2):
        rates.append(product_rate())
        results.append(search_linear(count))
        # Where other work uses the cores, the threads of a product wait for one another, and one thread is faster.
        threads = (functools.partial(numpy, threads=number) for number in (None, 1))
        took[LOOP].append(min(_seconds(run) for run in threads) / LOOPED)
        took[BATCHES].append(_seconds(functools.partial(numpy, threads=None, batch=AT_ONCE, count=AT_ONCE)) / AT_ONCE)
    rates.append(product_rate())

    ours = [1 / result.rate for result in results]
    least = [2 * OPERATIONS / (before + after) for before, after in itertools.pairwise(rates)]
    yield Row(
        WHAT,
        seconds=statistics.median(ours),
        roofline=median_ratio(least, ours),
        roof="products",
        error=rounding(model, results[-1]),
        target=Target("roofline", least=MIN_SHARE),
        note=f"{count:,} masks a call; mean ÷ theory {results[-1].mean / model.expectation:.4f}",
    )
    # A product itself is some 14 times as fast as a loop with free cores: 200 times is out of reach on a CPU.
    reach = f"the rate of products is {median_ratio(took[LOOP], least):.0f}x"
    target = Target("ratio", least=MIN_LOOP_RATIO)
    yield Row(
        WHAT, LOOP, statistics.median(took[LOOP]), ratio=median_ratio(took[LOOP], ours), target=target, note=reach
    )
    yield Row(WHAT, BATCHES, statistics.median(took[BATCHES]), ratio=median_ratio(took[BATCHES], ours))


def _seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def median_ratio(these: list[float], those: list[float]) -> float:
    """The median over rounds of a ratio."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def rounding(model: Linear, result: SearchResult) -> float:
    """The largest relative error of the best values against float64."""
    masks = np.asarray(result.masks, np.float64)
    exact = np.sum((model.x.astype(np.float64) @ ((masks - 1) * model.w).T) ** 2, axis=0)
    return float(np.max(abs(result.values - exact) / exact))


def memory() -> Row:
    """How much the peak of this process grows from few masks to many."""
    model = linear_model(**SMALL_MODEL)
    peaks = []
    for count in (FEW_MASKS, MANY_MASKS):
        search.best(model.objective, model.law, count, key=jax.random.key(0))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    what = f"growth of memory from {FEW_MASKS:,} to {MANY_MASKS:,} masks"
    growth = peaks[1] / peaks[0] - 1
    return Row(what, memory_mib=peaks[1], value=growth, target=Target("value", most=MAX_GROWTH))


def devices() -> Iterator[Row]:
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
            found[count].append(1 / float(run.stdout))
    one, two = (statistics.median(seconds) for seconds in found.values())
    what = f"{WHAT}, virtual devices"
    yield Row(what, f"{OURS}, one device", one)
    target = Target("ratio", most=1 / (1 - MAX_LOSS))
    yield Row(what, f"{OURS}, two devices", two, ratio=median_ratio(found[2], found[1]), target=target)


def networks() -> Iterator[Row]:
    """Masks of an MLP on digits, at initialisation and after training, beside PyTorch's vmap."""
    digits = data.load()
    x, y = jnp.asarray(digits.x[:BATCH] / 16, jnp.float32), jnp.asarray(digits.y[:BATCH], jnp.int32)
    apply, params = models.initial(models.mlp(64, 64, 10, bias=False), jax.random.key(0), x)
    rates = jax.tree.map(lambda leaf: jnp.full(leaf.shape, DENSITY, jnp.float32), params)
    law = laws.Poisson(rates, binary=True)

    loss = train.cross_entropy
    objectives = {
        "at initialisation": (search.initial_loss(apply, loss, params, (x, y)), 0, 64 * NETWORK_MASKS),
        f"after {STEPS} steps": (
            search.trained_loss(apply, loss, params, (x, y), optax.sgd(0.1), STEPS),
            STEPS,
            NETWORK_MASKS,
        ),
    }
    peer = torch()
    for name, (objective, steps, count) in objectives.items():
        what = f"the loss of a mask of 64-64-64-10 {name}, {BATCH} digits"
        # name -> run, and how many masks it evaluates
        runs: dict[str, tuple[Callable[[], Any], int]] = {
            OURS: (functools.partial(search.best, objective, law, count, key=jax.random.key(0)), count)
        }
        if peer is not None:
            weights = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
            losses = torch_losses(peer, weights, np.asarray(x), np.asarray(y), steps)
            runs[peer.named(PEER)] = losses, TORCH_MASKS
        timings = in_turns({by: run for by, (run, _) in runs.items()}, rounds=ROUNDS)
        for by, (_, done) in runs.items():
            ratio = None if by == OURS else timings[by].over(timings[OURS]) * count / done
            yield Row(what, by, timings[by].seconds / done, ratio=ratio)
        if peer is None:
            yield absent(what, PEER)


def torch_losses(peer: Torch, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, steps: int) -> Callable[[], Any]:
    """The losses of a tile of masks in PyTorch, vectorised over it: drawn, and trained for some steps."""
    module = peer.module
    inputs, labels = peer.tensor(x), peer.tensor(y).long()
    start = [peer.tensor(weight) for weight in weights]

    def loss(layers: Any) -> Any:
        hidden = inputs
        for layer in layers[:-1]:
            hidden = module.relu(hidden @ layer)
        return module.nn.functional.cross_entropy(hidden @ layers[-1], labels)

    def trained(*kept: Any) -> Any:
        layers = [weight * mask for weight, mask in zip(start, kept, strict=True)]
        for _ in range(steps):
            slopes = module.func.grad(loss)(layers)
            layers = [w - 0.1 * g * mask for w, g, mask in zip(layers, slopes, kept, strict=True)]
        return loss(layers)

    def run() -> Any:
        kept = [(module.rand(TORCH_MASKS, *w.shape, device=peer.device) < DENSITY).float() for w in start]
        return module.vmap(trained)(*kept)

    return peer.waiting(run)
