"""Pruning at scale: exact selection, iterative SynFlow on VGG-16, training many masks; next to PyTorch if it is here.

PyTorch's CPU build is no dependency of the project: ``uv pip install torch`` into its environment to compare.
"""

import functools
import importlib
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from rich.console import Console
from rich.table import Table

from benchmarks.roofline import judged, matmul_rate, product_operations, timed
from sketchprune import data, laws, masks, models, prune, scores, train
from sketchprune.types import Params
from theory.cli import runtime

SCORES, DENSITY = 14_715_584, 0.05
IMAGE, ROUNDS, TIMED = (1, 32, 32, 3), 100, 5
"""SynFlow's rounds, and how many of them are timed: they cost the same."""
AIM = 0.2
"""Seconds of such a round: an aim, no requirement."""
MASKS, TORCH_MASKS, STEPS, BATCH, RATE, MOMENTUM = 64, 4, 300, 128, 0.1, 0.9
WIDTHS = (128, 128, 10)
THREADS = {"PyTorch loop, all cores": os.cpu_count() or 1, "PyTorch loop, one core": 1}
TURNS = 5
"""What is compared runs in turns, so that a machine which others use too slows all of it alike."""


def torch() -> Any:
    """The module, or None where it cannot be imported."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def in_turns(runs: Sequence[Callable[[], Any]], *, turns: int = TURNS) -> list[float]:
    """Median seconds of each, after a first call that compiles."""
    took: list[list[float]] = [[] for _ in runs]
    for turn in range(turns + 1):
        for run, seconds in zip(runs, took, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(run())
            if turn:
                seconds.append(time.perf_counter() - begin)
    return [statistics.median(seconds) for seconds in took]


# --- exact selection


def selection(table: Table, peer: Any) -> None:
    """Add the rows of exact selection: keep_top beside a sort and torch.topk."""
    values = jnp.asarray(np.random.default_rng(0).standard_exponential(SCORES, np.float32))
    keep = round(DENSITY * SCORES)
    sort = jax.jit(lambda values: jnp.zeros(SCORES, bool).at[jnp.argsort(-values)[:keep]].set(True))
    chosen = jax.jit(masks.keep_top)
    runs = [functools.partial(chosen, values, keep), functools.partial(sort, values)]
    if peer is not None:
        tensor = peer.tensor(np.asarray(values))
        runs.append(lambda: peer.topk(tensor, keep, sorted=False).indices.numpy())
    ours, sorted_in, *others = in_turns(runs, turns=3)  # argsort takes seconds
    # At the least, every score is read once and every entry of the mask written.
    least = 5 * SCORES / memory_rate()
    name = f"{SCORES / 1e6:.1f} million scores, {DENSITY:.0%} kept"
    row(table, name, "keep_top", ours, share=f"{least / ours:.0%} of memory rate")
    row(table, "", "jnp.argsort", sorted_in, ratio=sorted_in / ours, required=10)
    for seconds in others:
        row(table, "", "torch.topk", seconds, ratio=seconds / ours, required=1)


def memory_rate() -> float:
    """Bytes a second that one pass over an array reads and writes."""
    values = jnp.ones(SCORES, jnp.float32)
    return 8 * SCORES / timed(lambda values: values + 1, values)


# --- iterative SynFlow


def synflow(table: Table, peer: Any, rate: float) -> None:
    """Add the rows of iterative SynFlow on VGG-16."""
    x = jnp.ones(IMAGE, jnp.float32)
    apply, params = models.initial(models.vgg16(bias=False), jax.random.key(0), x)
    start = prune.size(params)
    counts = prune.exponential_schedule(start, round(0.01 * start), ROUNDS)

    def run() -> Any:
        return prune.iterative(scores.synflow, apply, None, params, (x, None), counts[:TIMED])

    runs: list[Callable[[], Any]] = [run]
    if peer is not None:
        runs.append(torch_synflow(peer, params, counts[:TIMED]))
    ours, *others = (seconds / TIMED for seconds in in_turns(runs))
    operations = product_operations(lambda params: scores.synflow(apply, None, params, (x, None)), params)
    row(
        table,
        f"SynFlow on VGG-16, {ROUNDS} rounds, each",
        "prune.iterative",
        ours,
        share=f"{operations / rate / ours:.0%} of matmul rate",
        required=f"aim: {AIM * 1e3:.0f} ms, {judged(ours <= AIM)}",
    )
    for seconds in others:
        row(table, "", "PyTorch", seconds, ratio=seconds / ours, required=1)


def torch_synflow(peer: Any, params: Params, counts: np.ndarray) -> Callable[[], None]:
    """The same rounds in PyTorch: masks on the weights, their absolute values, one backward pass, a global top-k."""
    functional = peer.nn.functional
    convolutions = [
        peer.tensor(np.asarray(params[f"Conv_{i}"]["kernel"]).transpose(3, 2, 0, 1).copy()) for i in range(13)
    ]
    weights = [*convolutions, peer.tensor(np.asarray(params["Dense_0"]["kernel"]).T.copy())]
    pool_after = {1, 3, 6, 9, 12}
    ones = peer.ones(1, 3, 32, 32)

    def prune_to(keep: int, kept: list[Any]) -> None:
        sizes = [(weight * mask).abs().requires_grad_() for weight, mask in zip(weights, kept, strict=True)]
        x = ones
        for i, size in enumerate(sizes[:-1]):
            x = functional.conv2d(x, size, padding=1).relu()
            x = functional.max_pool2d(x, 2) if i in pool_after else x
        (x.mean((2, 3)) @ sizes[-1].T).sum().backward()
        found = [(size.grad * size).detach() for size in sizes]
        threshold = peer.topk(peer.cat([score.ravel() for score in found]), keep, sorted=False).values.min()
        for mask, score in zip(kept, found, strict=True):
            mask.copy_(score >= threshold)

    def run() -> None:
        kept = [peer.ones_like(weight) for weight in weights]
        for keep in counts:
            prune_to(int(keep), kept)

    return run


# --- training many masks


def training(table: Table, peer: Any, rate: float) -> None:
    """Add the rows of training many masks at once."""
    digits = data.load()
    x, y = jnp.asarray(digits.x / 16, jnp.float32), jnp.asarray(digits.y)
    apply, params = models.initial(models.mlp(*WIDTHS), jax.random.key(0), x)
    keep = prune.count(params, 0.2)

    def drawn(key: Array) -> Any:
        size = jax.tree.map(
            lambda leaf, pruned: abs(leaf) if pruned else jnp.full_like(leaf, jnp.inf), params, prunable
        )
        return sampler(key, size, keep)

    prunable, sampler = masks.prunable(params), prune.proportional(laws.FixedSize)
    stack = jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(1), MASKS))
    optimizer, key = optax.sgd(RATE, MOMENTUM), jax.random.key(2)

    def run() -> Any:
        return train.fit_many(
            apply, train.cross_entropy, params, (x, y), optimizer, STEPS, mask=stack, key=key, batch_size=BATCH
        )

    runs: list[Callable[[], Any]] = [run]
    if peer is not None:
        some = jax.tree.map(lambda leaf: leaf[:TORCH_MASKS], stack)
        arrays = np.asarray(x), np.asarray(y)
        for threads in THREADS.values():
            runs.append(functools.partial(torch_training, peer, params, some, *arrays, threads=threads))
    ours, *others = in_turns(runs, turns=3)
    ours /= MASKS
    gradient = jax.grad(lambda params: train.cross_entropy(apply(params, x[:BATCH]), y[:BATCH]))
    operations = STEPS * product_operations(gradient, params)
    row(
        table,
        f"training {MASKS} masks of 64-{'-'.join(map(str, WIDTHS))}, {STEPS} steps, each",
        "train.fit_many",
        ours,
        share=f"{operations / rate / ours:.0%} of matmul rate",
    )
    for name, seconds in zip(THREADS, others, strict=False):
        row(table, "", name, seconds / TORCH_MASKS, ratio=seconds / TORCH_MASKS / ours, required=3)


def torch_training(peer: Any, params: Params, stack: Any, x: np.ndarray, y: np.ndarray, *, threads: int) -> None:
    """The same in PyTorch, mask by mask: gradients and weights are masked."""
    before = peer.get_num_threads()
    peer.set_num_threads(threads)
    inputs, labels = peer.tensor(x), peer.tensor(y).long()
    layers = range(len(WIDTHS))
    for number in range(TORCH_MASKS):
        net = peer.nn.Sequential()
        kept = [peer.tensor(np.asarray(stack[f"Dense_{i}"]["kernel"][number]).T.copy()) for i in layers]
        for i in layers:
            dense = peer.nn.Linear(*reversed(kept[i].shape))
            with peer.no_grad():
                dense.weight.copy_(peer.tensor(np.asarray(params[f"Dense_{i}"]["kernel"]).T.copy()) * kept[i])
                dense.bias.zero_()
            net.append(dense)
            if i < layers[-1]:
                net.append(peer.nn.ReLU())
        weights = [part.weight for part in net if hasattr(part, "weight")]
        optimizer = peer.optim.SGD(net.parameters(), RATE, MOMENTUM)
        per_epoch = len(x) // BATCH
        for step in range(STEPS):
            if step % per_epoch == 0:
                order = peer.randperm(len(x))
            chosen = order[step % per_epoch * BATCH :][:BATCH]
            optimizer.zero_grad()
            peer.nn.functional.cross_entropy(net(inputs[chosen]), labels[chosen]).backward()
            for weight, mask in zip(weights, kept, strict=True):
                weight.grad *= mask
            optimizer.step()
    peer.set_num_threads(before)


def row(
    table: Table,
    what: str,
    by: str,
    seconds: float,
    *,
    share: str = "",
    ratio: float | None = None,
    required: float | str = "",
) -> None:
    """Add one row; a required ratio is followed by whether it was met."""
    if ratio is not None and not isinstance(required, str):
        required = f"{required}x, {judged(ratio >= required)}"
    times = "" if ratio is None else f"{ratio:.1f}x"
    table.add_row(what, by, f"{seconds * 1e3:,.1f} ms", share, times, str(required))


def main() -> None:
    """Run the benchmark and print its table."""
    console = Console(width=130)
    peer = torch()
    if peer is None:
        console.print("PyTorch cannot be imported, so there is nothing to compare with: uv pip install torch")
    rate = matmul_rate()
    version = "" if peer is None else f", torch {peer.__version__}"
    table = Table(
        *("what", "by", "time", "roofline", "slower than ours", "required"),
        title=f"float32, {runtime.hardware()}, {rate / 1e9:.0f} GFLOP/s, jax {jax.__version__}{version}",
    )
    selection(table, peer)
    synflow(table, peer, rate)
    training(table, peer, rate)
    console.print(table)
    console.print(f"load of the machine, last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
