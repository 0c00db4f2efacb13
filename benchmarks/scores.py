"""Pruning at scale: exact selection, and rounds of SynFlow on VGG-16; next to PyTorch if it is here."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._operations import product_operations
from benchmarks._peers import Torch, absent, torch
from benchmarks._record import OURS, Row, Target
from benchmarks._roofs import memory, products
from benchmarks._timing import in_turns
from sketchprune import masks, models, prune, scores
from sketchprune.types import ApplyFn, Params

SCORES, DENSITY = 14_715_584, 0.05
IMAGE, ROUNDS, TIMED = (1, 32, 32, 3), 100, 5
"""SynFlow's rounds, and how many of them are timed: they cost the same."""


def rows() -> Iterator[Row]:
    """Selection, then SynFlow."""
    yield from selection()
    yield from synflow()


def selection() -> Iterator[Row]:
    """keep_top beside a sort and torch.topk."""
    values = jnp.asarray(np.random.default_rng(0).standard_exponential(SCORES, np.float32))
    keep = round(DENSITY * SCORES)
    sort = jax.jit(lambda values: jnp.zeros(SCORES, bool).at[jnp.argsort(-values)[:keep]].set(True))
    chosen = jax.jit(masks.keep_top)
    runs: dict[str, Callable[[], Any]] = {
        OURS: functools.partial(chosen, values, keep),
        "jnp.argsort": functools.partial(sort, values),
    }
    targets = {"jnp.argsort": Target("ratio", least=10), "torch.topk": Target("ratio", least=2)}
    if (peer := torch()) is not None:
        tensor, name = peer.tensor(np.asarray(values)), peer.named("torch.topk")
        runs[name] = peer.waiting(lambda: peer.module.topk(tensor, keep, sorted=False).indices)
        targets[name] = targets.pop("torch.topk")
    what = f"{DENSITY:.0%} of {SCORES / 1e6:.1f} million scores kept"
    roof = memory()
    timings = in_turns(runs | {roof.name: roof.run}, rounds=3)  # argsort takes seconds
    smallest = np.partition(np.asarray(values), SCORES - keep)[SCORES - keep]  # these scores have no ties
    wrong = np.mean(np.asarray(runs[OURS]()) != (np.asarray(values) >= smallest))
    yield Row(
        what,
        seconds=timings[OURS].seconds,
        compile_s=timings[OURS].compile_s,
        # At the least, every score is read once and every entry of the mask written.
        roofline=roof.share(5 * SCORES, timings[OURS], timings[roof.name]),
        roof=roof.name,
        error=float(wrong),
    )
    for name, target in targets.items():
        if name in timings:
            ratio = timings[name].over(timings[OURS])
            yield Row(what, name, timings[name].seconds, ratio=ratio, target=target)
        else:
            yield absent(what, name, target)


def synflow() -> Iterator[Row]:
    """Rounds of SynFlow on VGG-16."""
    x = jnp.ones(IMAGE, jnp.float32)
    apply, params = models.initial(models.vgg16(bias=False), jax.random.key(0), x)
    start = prune.size(params)
    counts = prune.exponential_schedule(start, round(0.01 * start), ROUNDS)

    def run() -> Any:
        return prune.iterative(scores.synflow, apply, None, params, (x, None), counts[:TIMED])

    runs: dict[str, Callable[[], Any]] = {OURS: run}
    if (peer := torch()) is not None:
        runs[peer.named("PyTorch")] = torch_synflow(peer, params, counts[:TIMED])
    roof = products()
    timings = in_turns(runs | {roof.name: roof.run})
    what, seconds = f"SynFlow on VGG-16, one round of {ROUNDS}", timings[OURS].seconds / TIMED
    operations = product_operations(lambda params: scores.synflow(apply, None, params, (x, None)), params)
    yield Row(
        what,
        seconds=seconds,
        compile_s=timings[OURS].compile_s,
        roofline=roof.share(operations * TIMED, timings[OURS], timings[roof.name]),
        roof=roof.name,
        error=_error(apply, params, x),
        target=Target("seconds", most=0.2),
        note="products of one image: each weight is read for two operations",
    )
    target = Target("ratio", least=1)
    if peer is None:
        yield absent(what, "PyTorch", target)
        return
    name = peer.named("PyTorch")
    other = timings[name]
    yield Row(what, name, other.seconds / TIMED, ratio=other.over(timings[OURS]), target=target)


def _error(apply: ApplyFn, params: Params, x: jax.Array) -> float:
    """The largest error of a score against float64, relative to its own size.

    Both have a largest score of 1: where sums leave the range of float32, all scores are divided by one power of two.
    """
    found = jax.tree.leaves(scores.synflow(apply, None, params, (x, None)))
    with jax.enable_x64():
        doubled, image = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), (params, x))
        exact = jax.tree.leaves(scores.synflow(apply, None, doubled, (image, None)))
    own, true = (np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves]) for leaves in (found, exact))
    scored = np.isfinite(true) & (true != 0)  # the logits' biases and other leaves that are never pruned score infinity
    own, true = own[scored] / own[scored].max(), true[scored] / true[scored].max()
    return float(np.max(abs(own - true) / true))


def torch_synflow(peer: Torch, params: Params, counts: np.ndarray) -> Callable[[], None]:
    """The same rounds in PyTorch: masks on the weights, their absolute values, one backward pass, a global top-k."""
    module, functional = peer.module, peer.module.nn.functional
    convolutions = [
        peer.tensor(np.asarray(params[f"Conv_{i}"]["kernel"]).transpose(3, 2, 0, 1).copy()) for i in range(13)
    ]
    weights = [*convolutions, peer.tensor(np.asarray(params["Dense_0"]["kernel"]).T.copy())]
    pool_after = {1, 3, 6, 9, 12}
    ones = module.ones(1, 3, 32, 32, device=peer.device)

    def prune_to(keep: int, kept: list[Any]) -> None:
        sizes = [(weight * mask).abs().requires_grad_() for weight, mask in zip(weights, kept, strict=True)]
        x = ones
        for i, size in enumerate(sizes[:-1]):
            x = functional.conv2d(x, size, padding=1).relu()
            x = functional.max_pool2d(x, 2) if i in pool_after else x
        (x.mean((2, 3)) @ sizes[-1].T).sum().backward()
        found = [(size.grad * size).detach() for size in sizes]
        threshold = module.topk(module.cat([score.ravel() for score in found]), keep, sorted=False).values.min()
        for mask, score in zip(kept, found, strict=True):
            mask.copy_(score >= threshold)

    def run() -> None:
        kept = [module.ones_like(weight) for weight in weights]
        for keep in counts:
            prune_to(int(keep), kept)

    return peer.waiting(run)
