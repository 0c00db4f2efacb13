"""The work that is planned: masks of a search, entries of tangent kernels, trained masks; each measured here too."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import ntk, search, training
from benchmarks._timing import in_turns, prepared
from benchmarks.plan.costs import collective_bytes, cost
from benchmarks.plan.model import Work
from sketchprune import kernels, train
from sketchprune.search import _bins
from sketchprune.search import mesh as meshes
from sketchprune.search._program import SearchProgram
from sketchprune.search._summary import SearchSummary
from sketchprune.search._tiles import MAX_TILES_PER_CALL, TILE, BatchSummary, Chunking

NUM_BEST = 16
TILES_AT_ONCE = 64
"""Tiles that an accelerator evaluates together."""
KERNELS = ("MLP 784-512-512-10", "ResNet-20")
MODELS, STEPS = 64, 300


class Planned(NamedTuple):
    """Work, and how long a unit of it takes on this machine.

    Attributes:
        work: what is planned.
        measure: seconds of one unit here, measured when it is called.
        remark: what a plan of it takes for granted.
    """

    work: Work
    measure: Callable[[], float]
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
    return Planned(work, lambda: 1 / search.search_linear(search.PART).rate, "a call of 4,096 tiles a chip")


@functools.cache
def merge_seconds(devices: int) -> float:
    """Seconds in which this host merges what a call of the search found on so many devices; measured once.

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
    work = Work(f"an entry of the NTK of {case.name}", found, entries, entries, memory=found.memory)

    def measure() -> float:
        return in_turns({"": prepared(kernel, params, x).run}, rounds=5)[""].seconds / entries

    return Planned(work, measure, f"{len(x)} samples a call; blocks of pairs are dealt to processes by hand")


def trained_masks() -> Planned:
    """Trained masks."""
    posed = training.problem()

    def fit(mask, key):
        return train.fit(
            posed.apply, train.cross_entropy, posed.params, (posed.x, posed.y), training.OPTIMIZER, STEPS,
            mask=mask, key=key, batch_size=training.BATCH,
        )  # fmt: skip

    stack = posed.masks(MODELS)
    found = cost(jax.vmap(fit, (0, None)), stack, posed.key)
    widths = "-".join(map(str, training.WIDTHS))
    work = Work(f"a trained mask of 64-{widths}, {STEPS} steps", found, MODELS, MODELS, memory=found.memory)

    def measure() -> float:
        run = functools.partial(training.fit_many, posed, MODELS)
        return in_turns({"": run}, rounds=3)[""].seconds / MODELS

    return Planned(work, measure, f"{MODELS} masks a call; a search for the trained loss shares them out over chips")
