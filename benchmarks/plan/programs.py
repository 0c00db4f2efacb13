"""The work that is planned: masks of a search, entries of tangent kernels, trained masks; each measured here too."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import ntk, search, training
from benchmarks._timing import prepared
from benchmarks.plan.costs import collective_bytes, cost
from benchmarks.plan.model import Work
from sketchprune import kernels, train
from sketchprune import search as searches
from sketchprune.search import _bins
from sketchprune.search import mesh as meshes
from sketchprune.search._program import SearchProgram
from sketchprune.search._summary import SearchSummary
from sketchprune.search._tiles import MAX_TILES_PER_CALL, TILE, BatchSummary, Chunking

NUM_BEST = 16
TILES_AT_ONCE = 64
"""Tiles that an accelerator evaluates together."""
KERNELS = ("MLP 784-512-512-10", "ResNet-20")
BLOCK_FACTOR = 16
"""How many times as many samples as here an accelerator takes in one call of a kernel."""
MODELS, STEPS = 64, 300
ACCELERATOR_BYTES = 2**30
"""What is trained at once on an accelerator, and what a kernel needs beside itself."""


class Planned(NamedTuple):
    """Work, and a run of it on this machine.

    Attributes:
        work: what is planned.
        run: does ``made`` units here.
        made: how many.
        remark: what a plan of it takes for granted.
    """

    work: Work
    run: Callable[[], Any]
    made: int
    remark: str


def all_work() -> Iterator[Planned]:
    """Everything that is planned."""
    yield masks()
    for case in ntk.CASES:
        if case.name in KERNELS:
            yield kernel_entries(case)
    yield trained_masks()


def masks() -> Planned:
    """Masks of a search of the linear model."""
    model = search.linear_model()

    def tile(keys: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: model.objective(model.law.sample(key)))(keys)

    found = cost(tile, jax.random.split(jax.random.key(0), TILE))
    program = SearchProgram(
        model.objective, model.law.sample, jax.random.key(0), mesh=meshes.over(jax.devices()[:1]), num_best=NUM_BEST
    )
    text = program.lowered(Chunking(TILES_AT_ONCE, TILES_AT_ONCE * TILE), "tpu").as_text()
    work = Work(
        f"a mask of a search, {search.WHAT}",
        found,
        TILE,
        MAX_TILES_PER_CALL * TILE,
        host=merge_seconds,
        exchanged=collective_bytes(text),
        memory=found.memory * TILES_AT_ONCE,
    )
    run = functools.partial(searches.best, model.objective, model.law, search.PART, key=jax.random.key(0))
    return Planned(work, run, search.PART, f"calls of {MAX_TILES_PER_CALL:,} tiles")


@functools.cache
def merge_seconds(devices: int) -> float:
    """Seconds in which this host merges what one call of the search finds on all devices; measured once.

    Args:
        devices: of the whole search.
    """
    tiles = MAX_TILES_PER_CALL + TILES_AT_ONCE
    ones = np.ones((devices, tiles), np.float32)
    batch = BatchSummary(
        values=np.ones((devices, NUM_BEST), np.float32),
        places=np.ones((devices, NUM_BEST), np.int32),
        histogram=np.zeros(_bins.NUM_BINS, np.int32),
        undefined=np.zeros((), np.int32),
        scales=ones,
        counts=ones,
        means=ones,
        squares=ones,
        largest=np.ones((), np.float32),
    )
    summary = SearchSummary(NUM_BEST)
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        summary.plus(batch, devices * MAX_TILES_PER_CALL * TILE)
        took.append(time.perf_counter() - begin)
    return min(took)


def kernel_entries(case: ntk.Case) -> Planned:
    """Entries of a tangent kernel."""
    apply, params, mask, x = ntk.instance(case)

    def kernel(params, x):
        return kernels.ntk(apply, params, x, mask=mask)

    found = cost(kernel, params, x)
    entries = int(np.prod(jax.eval_shape(kernel, params, x).shape))
    per_call = entries * BLOCK_FACTOR**2
    work = Work(
        f"an entry of the NTK of {case.name}", found, entries, per_call, memory=4 * per_call + ACCELERATOR_BYTES
    )
    remark = f"blocks of {len(x) * BLOCK_FACTOR} samples, dealt to chips by hand"
    return Planned(work, prepared(kernel, params, x).run, entries, remark)


def trained_masks() -> Planned:
    """Trained masks."""
    posed = training.problem()

    def fit(mask, key):
        return train.fit(
            posed.apply,
            train.cross_entropy,
            posed.params,
            (posed.x, posed.y),
            training.OPTIMIZER,
            STEPS,
            mask=mask,
            key=key,
            batch_size=training.BATCH,
        )

    stack = posed.masks(MODELS)
    found = cost(jax.vmap(fit, (0, None)), stack, posed.key)
    widths = "-".join(map(str, training.WIDTHS))
    at_once = max(ACCELERATOR_BYTES * MODELS // found.memory, 1)
    work = Work(f"a trained mask of 64-{widths}, {STEPS} steps", found, MODELS, at_once, memory=ACCELERATOR_BYTES)
    run = functools.partial(training.fit_many, posed, MODELS)
    return Planned(work, run, MODELS, f"{at_once:,} masks a call, shared out by a search for the trained loss")
