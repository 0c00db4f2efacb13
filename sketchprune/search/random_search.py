"""Random masks by the million: each is made from its number, evaluated, and forgotten unless it is among the best.

Mask i of a search is ``law.sample(mask_key(key, i))``, made where it is used and never stored. Masks are evaluated in
fixed tiles of 256, with one compiled program for any number of them, and the tiles are summed up in the order of their
masks.

Results are therefore the same, bit for bit, for any batch, any number of devices of one kind, any number of processes,
and after a restart.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._processes import check_same_in_every_process
from sketchprune.search import _bins, _tiles
from sketchprune.search import mesh as meshes
from sketchprune.search._checkpoints import Checkpoints
from sketchprune.search._program import SearchProgram
from sketchprune.search._summary import SearchSummary
from sketchprune.search._tiles import MAX_TILES_PER_CALL, TILE
from sketchprune.search.objectives import Objective
from sketchprune.types import Key, Mask

_HOST_INTERVAL_S = 0.5
"""The least time between two returns to the host, where sums are merged, progress reported and checkpoints saved."""
_CHECKPOINT_INTERVAL_S = 60.0


@dataclass(frozen=True)
class Progress:
    """How far a search has come.

    Attributes:
        done: masks evaluated, those of earlier runs included.
        num_masks: total masks in this search.
        rate: masks per second in this run.
        seconds_left: time to the end at that rate.
        best: the smallest objective so far; NaN while none is defined.
    """

    done: int
    num_masks: int
    rate: float
    seconds_left: float
    best: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        masks: the best masks, stacked on a leading axis, the best first.
        indices: their numbers.
        values: their objectives, ascending; equal ones by number.
        num_masks: masks evaluated.
        undefined: how many of them have the objective NaN. They enter nothing else here.
        infinite: how many have an infinite objective. They enter the histogram, but not mean and variance.
        mean: mean of the finite values. NaN if there is none, or if float64 cannot hold the sum of their deviations
            from the first ones.
        variance: mean square deviation of the finite values from their mean; NaN as for the mean.
        largest: the largest value, infinities included.
        histogram: how many values each bin of ``edges`` holds.
        seconds: time that this run took, compilation excluded.
        rate: masks per second in this run.
    """

    masks: Mask
    indices: Int[np.ndarray, "best"]
    values: Float[np.ndarray, "best"]
    num_masks: int
    undefined: int
    infinite: int
    mean: float
    variance: float
    largest: float
    histogram: Int[np.ndarray, "bins"]
    seconds: float
    rate: float

    @property
    def edges(self) -> Float[np.ndarray, "edges"]:
        """The edges of the bins, one more than bins: 32 bins an octave and sign, the same for every search."""
        return _bins.edges()

    @checked
    def quantile(self, level: int | float) -> float:
        """The smallest value that a fraction ``level`` of the values do not exceed, within 1.1 %.

        Raises:
            ValueError: for a level outside [0, 1].
        """
        if not 0 <= level <= 1:
            raise ValueError(f"level is {level}; it takes a number in [0, 1]")
        return _bins.quantile(self.histogram, level)


@checked
def mask_key(key: Key, index: int) -> Key:
    """The key of one mask of a search: ``law.sample(mask_key(key, index))`` is that mask.

    Args:
        key: the key of the search.
        index: the number of the mask, 0 to 2^64 - 1.

    Returns:
        One key.

    Example:
        >>> bool(mask_key(jax.random.key(0), 2**32) == mask_key(jax.random.key(0), 0))
        False
    """
    return _tiles.mask_key(key, jnp.uint32(index >> 32), jnp.uint32(index & 0xFFFFFFFF))


@checked
def best(
    objective: Objective,
    law: Any,
    num_masks: int | float,
    *,
    key: Key,
    num_best: int = 16,
    batch: int | None = None,
    mesh: Mesh | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: int | float = _CHECKPOINT_INTERVAL_S,
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """The best of many random masks, with moments and a histogram of all their objectives.

    min_{i < N} f(m_i), where m_i = law.sample(mask_key(key, i)).

    A mask whose objective is NaN is counted, and is never among the best. With several processes, each makes this call
    and gets the result.

    Args:
        objective: mask -> one floating number, smaller is better; see the objectives of this package.
        law: a law of :mod:`sketchprune.laws` (any object with ``sample(key)``), or a function key -> mask.
        num_masks: total masks in this search, 1 to 2^63 - 1; may be a float such as 1e6.
        key: one threefry key, from which all masks derive (other kinds draw differently when vectorised).
        num_best: how many of the best masks are returned; fewer come back where the objective is NaN for the rest.
        batch: masks between two returns to the host, a multiple of 256 for each device; None for about half a second.
        mesh: the devices, at least one of every process; None for all, :func:`sketchprune.search.mesh.over`.
        checkpoint: a folder, or a path of ``etils.epath`` (gs://bucket/folder needs gcsfs). The search is saved there
            at intervals, at its end and on Ctrl-C. A search that is found there goes on, also to more masks than it
            had.
        checkpoint_seconds: time between two checkpoints.
        progress: called between batches.

    Returns:
        The best masks, and the statistics of all. Values have the dtype of the objective, at least float32.

    Raises:
        ValueError: for an argument outside the ranges above; an objective that is NaN for every mask; processes that
            search for different things; a checkpoint that is unreadable, of another search or of more than
            ``num_masks`` masks; and a checkpoint for a search that calls back to Python.

    Cost: num_masks masks and objectives; memory for the best and for a few tiles of 256 masks, fewer where the device
        has little memory. The programs of the last four searches are kept: another search with the same ``objective``
        and ``law`` objects, mesh and ``num_best`` compiles nothing. As under ``jax.jit``, the two functions are traced
        once.

    Source: sketch/existence.

    Example:
        >>> law = lambda key: jax.random.bernoulli(key, shape=(3,))
        >>> kept = lambda mask: jnp.sum(mask, dtype=jnp.float32)
        >>> found = best(kept, law, 1000, key=jax.random.key(0), num_best=1)
        >>> found.masks.tolist(), found.values.tolist(), round(found.mean, 1)
        ([[False, False, False]], [0.0], 1.5)
    """
    mesh = meshes.over() if mesh is None else mesh
    _check(key, num_masks, num_best, batch, mesh)
    num_masks = int(num_masks)
    program = SearchProgram(objective, getattr(law, "sample", law), key, mesh=mesh, num_best=num_best)
    _check_same_in_every_process(program, num_masks, batch, mesh, checkpoint)
    with _checkpoints(program, checkpoint, checkpoint_seconds) as checkpoints:
        summary = start = checkpoints.restored() or SearchSummary(num_best)
        if start.done > num_masks:
            raise ValueError(
                f"num_masks is {num_masks} with the checkpoint {checkpoint} of {start.done} masks; it takes no fewer"
            )
        clock = _Clock(program, start.done)
        for summary in _after_each_batch(program, start, num_masks, batch, mesh.size):
            # A part of a tile is not kept: a search that goes on to more masks sums up the whole tile.
            if summary.done % TILE == 0:
                checkpoints.update(summary, last=summary.done == _in_whole_tiles(num_masks))
            if progress is not None:
                progress(clock.progress(summary, num_masks))
        seconds = clock.seconds()
    return _result(program, summary, seconds, clock.rate(summary.done, seconds))


def _check(key: Key, num_masks: int | float, num_best: int, batch: int | None, mesh: Mesh) -> None:
    if not (1 <= num_masks < 2**63 and num_masks == int(num_masks)):
        raise ValueError(f"num_masks is {num_masks}; it takes a whole number from 1 to 2^63 - 1")
    _checks.whole("num_best", num_best, least=1)
    if num_best > num_masks:
        raise ValueError(f"num_best is {num_best}; it takes 1 to num_masks = {num_masks}")
    if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key) or key.ndim:
        raise ValueError(f"key is {key}; it takes one key of jax.random.key")
    if str(jax.random.key_impl(key)) not in ("threefry2x32", "fry"):
        raise ValueError(
            f"key is of the implementation {jax.random.key_impl(key)}, whose draws depend on what is vectorised; "
            "it takes a threefry2x32 key"
        )
    if batch is not None:
        _checks.whole("batch", batch, least=1)
        if batch % (TILE * mesh.size):
            raise ValueError(
                f"batch is {batch} with a mesh of {mesh.size} devices; it takes a multiple of {TILE * mesh.size}, "
                f"tiles of {TILE} masks that divide evenly"
            )
    if absent := set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}:
        raise ValueError(
            f"mesh has no device of process {', '.join(map(str, sorted(absent)))} of {jax.process_count()}; "
            "it takes devices of every process"
        )


def _check_same_in_every_process(
    program: SearchProgram, num_masks: int, batch: int | None, mesh: Mesh, checkpoint: str | os.PathLike | None
) -> None:
    """Every process makes the same search; otherwise all of them raise."""
    if jax.process_count() == 1:
        return
    devices = list(mesh.shape.items()), [device.id for device in mesh.devices.flat]
    arguments = {"num_masks": num_masks, "batch": batch, "mesh": devices, "with checkpoint": checkpoint is not None}
    check_same_in_every_process(program.fingerprint | arguments, "search for different things")


def _checkpoints(program: SearchProgram, folder: str | os.PathLike | None, interval_s: int | float) -> Checkpoints:
    if folder is None:
        return Checkpoints(None, {}, interval_s)
    if program.python_callers:
        raise ValueError(
            f"checkpoint is {folder} and {program.python_callers} calls back to Python, where another search cannot "
            "be told from this one; it takes None"
        )
    return Checkpoints(folder, program.identity, interval_s)


class _Clock:
    """The time of this run and its rate, which leave compilation and earlier runs out."""

    def __init__(self, program: SearchProgram, done: int):
        assert program.chunking  # compiled before the clock starts
        self._done_before = done
        self._started = time.monotonic()

    def seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    def rate(self, done: int, seconds: float) -> float:
        return (done - self._done_before) / seconds

    def progress(self, summary: SearchSummary, num_masks: int) -> Progress:
        rate = self.rate(summary.done, self.seconds())
        best = summary.best[0][0] if summary.best else math.nan
        return Progress(summary.done, num_masks, rate, (num_masks - summary.done) / rate, best)


def _after_each_batch(
    program: SearchProgram, summary: SearchSummary, num_masks: int, batch: int | None, num_devices: int
) -> Iterator[SearchSummary]:
    """Evaluates the masks that are left, and yields the summary after each batch."""
    smallest = program.chunking.tiles_per_step
    # Places within a batch are whole numbers of 32 bits.
    largest = min(MAX_TILES_PER_CALL, 2**31 // (TILE * num_devices) - 1)
    tiles = min(smallest if batch is None else batch // (TILE * num_devices), largest)
    while summary.done < num_masks:
        started = time.monotonic()
        end = _in_whole_tiles(num_masks)
        if summary.done == end:
            end = num_masks
        masks = min(tiles * TILE * num_devices, end - summary.done)
        summary = summary.plus(program.run(summary.done, tiles * TILE, masks), masks)
        if batch is None:
            seconds = time.monotonic() - started
            tiles = meshes.broadcast_int(min(_next_tiles(tiles, seconds, smallest), largest))
        yield summary


def _in_whole_tiles(num_masks: int) -> int:
    """How many of the masks fill whole tiles."""
    return num_masks - num_masks % TILE


def _next_tiles(tiles: int, seconds: float, smallest: int) -> int:
    """Tiles of each device in the next batch, after one that took this many seconds."""
    if seconds < _HOST_INTERVAL_S:
        return 2 * tiles
    if seconds > 4 * _HOST_INTERVAL_S:
        return max(tiles // 2 // smallest, 1) * smallest
    return tiles


def _result(program: SearchProgram, summary: SearchSummary, seconds: float, rate: float) -> SearchResult:
    if summary.undefined == summary.done:
        raise ValueError(
            f"objective is NaN for all of the {summary.done} masks; it takes one that is defined somewhere"
        )
    indices = np.array([index for _, index in summary.best], np.int64)
    mean, variance = summary.moments()
    return SearchResult(
        masks=program.masks(indices),
        indices=indices,
        values=np.array([value for value, _ in summary.best], program.dtype),
        num_masks=summary.done,
        undefined=summary.undefined,
        infinite=summary.done - summary.undefined - summary.finite,
        mean=mean,
        variance=variance,
        largest=summary.largest,
        histogram=summary.histogram,
        seconds=seconds,
        rate=rate,
    )
