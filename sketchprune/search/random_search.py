"""Random masks by the million: each made from its number, evaluated, counted, and forgotten but for the best few.

Mask i of a search is ``law(mask_key(key, i))``, made where it is used and never stored. Masks go through fixed tiles
of 256, one compiled program for any number of them, and what tiles add up to is merged without rounding: results are
the same, bit for bit, for any batch, any number of devices of one kind, any number of processes and after a restart.

A law is a function key -> mask, such as the ``sample`` of a law of :mod:`sketchprune.laws`; an objective is a function mask -> one floating number, the less the better. Several are here.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from sketchprune import _checks
from sketchprune.search import _bins
from sketchprune.search import mesh as meshes
from sketchprune.search._checkpoints import Checkpoints
from sketchprune.search.objectives import Objective as Objective
from sketchprune.search.objectives import initial_loss as initial_loss
from sketchprune.search.objectives import linear_error as linear_error
from sketchprune.search.objectives import ntk_error as ntk_error
from sketchprune.search.objectives import trained_loss as trained_loss
from sketchprune.search.objectives import training_error as training_error
from sketchprune.search._summary import Tally
from sketchprune.search._tiles import CAPACITY, TILE
from sketchprune.search._tiles import mask_key as _mask_key
from sketchprune.search._program import Worker
from sketchprune.types import Key, Mask

Law = Callable[[Key], Mask]
_LOOK, _SAVE = 0.5, 60.0
"""Seconds between looks of the host at least, and between checkpoints."""


@dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
        done: masks evaluated, those of earlier runs included.
        num_masks: of all.
        rate: masks a second in this run.
        seconds_left: at that rate.
    """

    done: int
    num_masks: int
    rate: float
    seconds_left: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        masks: the best masks, stacked on a leading axis, the best first.
        indices: their numbers.
        values: their objectives, ascending; equal ones by number.
        num_masks: masks evaluated.
        undefined: how many of them have the objective NaN; they are in nothing else here.
        infinite: how many have an infinite one; they are in the histogram, and not in mean and variance.
        mean, variance: of the finite values; the variance is the mean square about the mean. NaN where there is no
            finite value, and where float64 cannot hold it.
        largest: of all values.
        histogram: how many values each bin of ``edges`` holds.
        seconds: this run took, compilation excluded.
        rate: masks a second in this run.
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
        """The edges of the bins: 32 an octave and sign, the same for every search; one more than bins."""
        return _bins.edges()

    def quantile(self, level: float) -> float:
        """The value that a fraction ``level`` of the values does not exceed, within 1.1 %.

        ValueError for a level outside [0, 1].
        """
        if not 0 <= level <= 1:
            raise ValueError(f"level is {level}; it takes a number in [0, 1]")
        return _bins.quantile(self.histogram, level)


def mask_key(key: Key, index: int) -> Key:
    """The key of mask ``index`` of a search, below 2^64: ``law(mask_key(key, index))`` is that mask.

    >>> bool(mask_key(jax.random.key(0), 2**32) == mask_key(jax.random.key(0), 0))
    False
    """
    return _mask_key(key, jnp.uint32(index >> 32), jnp.uint32(index & 0xFFFFFFFF))


def best(
    objective: Objective,
    law: Law,
    key: Key,
    num_masks: int | float,
    *,
    best: int = 16,
    batch: int | None = None,
    mesh: Mesh | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = _SAVE,
    progress: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """The ``best`` masks of ``num_masks`` random ones, with moments and a histogram of all objectives.

    min_{i < N} f(m_i), m_i = law(mask_key(key, i)); N may be a float such as 1e6. ``batch``: masks between two looks
    of the host; by default about as many as take half a second. ``mesh``: the devices, by default all of all
    processes; see :func:`sketchprune.search.mesh.over`. ``checkpoint``: a folder in which the search is kept every
    ``checkpoint_seconds``, at its end and when it is interrupted from the keyboard; when it holds a checkpoint of this
    search, the search goes on from there. ``progress`` is called between batches. With several processes each makes
    this call, and gets the result; each owns a device of the mesh.

    The programs of the last four searches are kept: one more with the same ``objective`` and ``law`` objects, mesh and
    ``best`` compiles nothing, and what those functions read of Python's state is read once, as under ``jax.jit``.

    Values have the dtype of the objective, at least float32. A NaN is counted and never among the best; fewer than
    ``best`` masks come back when fewer are defined. ValueError for num_masks < 1 or from 2^63, best < 1 or above
    num_masks, a batch that is no multiple of 256 masks for each device of the mesh, an objective that is no
    floating scalar, a key that is no threefry key (others draw differently when vectorised), only NaN objectives,
    a checkpoint that is unreadable, of another search or of one that calls back to Python, a mesh without a device of
    some process, and processes that do not all search for the same. O(num_masks) masks and objectives; memory of a
    few tiles of 256 masks, fewer where the device's memory asks for it, and of the ``best``. Source: sketch/existence.

    >>> law = lambda key: jax.random.bernoulli(key, shape=(3,))
    >>> found = best(lambda mask: jnp.sum(mask, dtype=jnp.float32), law, jax.random.key(0), 1000, best=1)
    >>> found.masks.tolist(), found.values.tolist(), round(found.mean, 1)
    ([[False, False, False]], [0.0], 1.5)
    """
    _check(key, num_masks, best)
    num_masks, best = int(num_masks), int(best)
    mesh = meshes.over() if mesh is None else mesh
    if batch is not None:
        _checks.whole("batch", batch, least=1)
        batch = int(batch)
    if batch is not None and batch % (TILE * mesh.size):
        raise ValueError(
            f"batch is {batch} with a mesh of {mesh.size} devices; it takes a multiple of {TILE * mesh.size}, "
            f"tiles of {TILE} masks that divide evenly"
        )
    if absent := set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}:
        raise ValueError(
            f"mesh has no device of process {', '.join(map(str, sorted(absent)))} of {jax.process_count()}; "
            "it takes devices of every process"
        )
    worker = Worker(objective, law, key, mesh, best)
    over = list(mesh.shape.items()), [device.id for device in mesh.devices.flat]
    asked = {"num_masks": num_masks, "batch": batch, "mesh": over, "with checkpoint": checkpoint is not None}
    if jax.process_count() > 1:
        _check_same(worker.posed | asked)
    tally = Tally(best)
    saves = None
    if checkpoint is not None:
        if worker.calls_back:
            raise ValueError(
                f"checkpoint is {checkpoint} and {worker.calls_back} calls back to Python, where another search cannot "
                "be told from this one; it takes None"
            )
        saves = Checkpoints(checkpoint, worker.identity | {"num_masks": num_masks})
        if record := saves.restored():
            tally = Tally.restored(record)
    group = worker.shape.tiles  # compiled here, before the clock starts
    most = min(CAPACITY, 2**31 // (TILE * mesh.size) - 1)  # places within a batch are whole numbers of 32 bits
    tiles = min(batch // (TILE * mesh.size) if batch else group, most)
    began = saved = time.monotonic()
    before = kept = tally.done
    try:
        while tally.done < num_masks:
            look = time.monotonic()
            now = min(tiles * TILE * mesh.size, num_masks - tally.done)
            tally = tally.plus(worker.share(tally.done, tiles * TILE, now), now)
            took = time.monotonic() - look
            if not batch:
                tiles = meshes.agreed(min(_next_tiles(tiles, took, group), most))
            if saves is not None and (time.monotonic() - saved >= checkpoint_seconds or tally.done == num_masks):
                saves.save(tally.record())
                saved, kept = time.monotonic(), tally.done
            if progress is not None:
                rate = (tally.done - before) / (time.monotonic() - began)
                progress(Progress(tally.done, num_masks, rate, (num_masks - tally.done) / rate))
    except KeyboardInterrupt:
        if saves is not None and tally.done > kept:
            saves.save(tally.record())
        raise
    finally:
        if saves is not None:
            saves.close()
    seconds = max(time.monotonic() - began, 1e-9)
    if tally.undefined == num_masks:
        raise ValueError(f"objective is NaN for all of the {num_masks} masks; it takes one that is defined somewhere")
    return _result(tally, worker, seconds, (tally.done - before) / seconds)


def _check(key: Key, num_masks: int | float, best: int):
    if not (1 <= num_masks < 2**63 and num_masks == int(num_masks)):
        raise ValueError(f"num_masks is {num_masks}; it takes a whole number from 1 to 2^63 - 1")
    _checks.whole("best", best, least=1)
    if best > num_masks:
        raise ValueError(f"best is {best}; it takes 1 to num_masks = {num_masks}")
    if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key) or key.ndim:
        raise ValueError(f"key is {key}; it takes one key of jax.random.key")
    if str(jax.random.key_impl(key)) not in ("threefry2x32", "fry"):
        raise ValueError(
            f"key is of the implementation {jax.random.key_impl(key)}, whose draws depend on what is vectorised; "
            "it takes a threefry2x32 key"
        )


def _check_same(search: dict[str, Any]):
    """Every process has the same search; else all of them raise."""
    first, *others = map(json.loads, meshes.texts(json.dumps(search)))
    for number, other in enumerate(others, 1):
        if differs := [name for name in first if first[name] != other.get(name)]:
            named = "; ".join(
                f"{name}: {first[name]} in process 0, {other.get(name)} in process {number}" for name in differs
            )
            raise ValueError(f"the processes search for different things ({named}); each takes the same arguments")


def _next_tiles(tiles: int, took: float, group: int) -> int:
    """Tiles for each device until the next look, after a batch that took so many seconds."""
    if took < _LOOK:
        return 2 * tiles
    return max(tiles // 2 // group, 1) * group if took > 4 * _LOOK else tiles


def _result(tally: Tally, worker: Worker, seconds: float, rate: float) -> SearchResult:
    indices = np.array([index for _, index in tally.found], np.int64)
    mean, variance = tally.moments()
    return SearchResult(
        masks=worker.masks(indices),
        indices=indices,
        values=np.array([value for value, _ in tally.found], worker.dtype),
        num_masks=tally.done,
        undefined=tally.undefined,
        infinite=tally.done - tally.undefined - tally.count,
        mean=mean,
        variance=variance,
        largest=tally.largest,
        histogram=tally.histogram,
        seconds=seconds,
        rate=rate,
    )
