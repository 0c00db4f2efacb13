"""The compiled program of a search: fitted to the memory of its devices, and run for any range of masks."""

import functools
import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt

from sketchprune.search import mesh as meshes
from sketchprune.search._tiles import TILE, BatchSummary, Chunking, mask_key, over_devices
from sketchprune.search._traced import Instructions, TracedFunction
from sketchprune.types import Key, Mask

_ACCELERATOR_TILES = 64
"""Tiles evaluated together on an accelerator, whose units a single tile would not fill. A CPU takes one at a time."""
_CPU_CACHE_BYTES = 4 * 2**20
"""Temporary memory of the masks evaluated together on a CPU: what fits a core's caches. Networks are two to three
times as fast with it."""
_MIN_CPU_MASKS = 4
"""At least 4 masks are evaluated together on a CPU, so that products stay matrix-matrix."""
_KEPT_SEARCHES = 4
"""How many searches' programs are kept: those of the last ones."""


class SearchProgram:
    """Evaluates ``objective(law(key of mask i))`` on the devices of a mesh, for ranges of i."""

    def __init__(self, objective: Callable[..., Any], law: Callable[..., Any], key: Key, *, mesh: Mesh, num_best: int):
        self._law = TracedFunction(law, key)
        self._objective = TracedFunction(objective, self._law.result)
        result = self._objective.result
        shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
        if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"objective returns {result}; it takes a function mask -> one floating number")
        self.dtype = np.dtype(jnp.promote_types(dtype, jnp.float32))
        self._key = np.asarray(jax.random.key_data(key))
        self._mesh = mesh
        self._num_best = num_best
        constants = self._law.constants, self._objective.constants
        self._constants = [[meshes.replicated(mesh, value) for value in part] for part in constants]

    @property
    def chunking(self) -> Chunking:
        """How the devices go through their masks. The first use compiles the program."""
        return self._compiled_for_memory[0]

    @property
    def python_callers(self) -> str:
        """Which of law and objective call Python functions, by name; empty for neither."""
        calls = {"law": self._law.calls_python, "objective": self._objective.calls_python}
        return " and ".join(name for name, called in calls.items() if called)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What is searched, by name. It needs no compilation, but all data come to the host for it."""
        return {
            "key": self._key.tolist(),
            "law": f"{self._law.instructions_checksum}-{self._law.data_checksum}",
            "objective": self._objective.instructions_checksum,
            "data": self._objective.data_checksum,
            "best": self._num_best,
            "tile": TILE,
            "sums": "float64 in order",
            "device": self._mesh.local_devices[0].device_kind,
            "jax": importlib.metadata.version("jaxlib"),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """All that the results depend on, by name: the fingerprint, and the chunking, which enters by rounding."""
        return self.fingerprint | {"in flight": list(self.chunking)}

    def run(self, first: int, per_device: int, num_masks: int) -> BatchSummary:
        """Evaluate the masks first … first + num_masks − 1, per_device on each device; the results are on the host."""
        compiled = self._compiled_for_memory[1]
        return BatchSummary(*jax.device_get(compiled(*self._arguments(first, per_device, num_masks))))

    def masks(self, indices: Int[np.ndarray, "n"]) -> Mask:
        """The masks of these numbers, stacked on a leading axis, in this process alone."""
        high = (indices >> 32).astype(np.uint32)
        low = (indices & 0xFFFFFFFF).astype(np.uint32)
        return _mask_maker(self._law.instructions)(self._key, high, low, self._law.constants)

    def lowered(self, chunking: Chunking, platform: str | None = None) -> Any:
        """The program with this chunking, lowered for this platform or another."""
        traced = jax.jit(self._search(chunking)).trace(*self._arguments(0, TILE, TILE))
        return traced.lower(lowering_platforms=None if platform is None else (platform,))

    def _search(self, chunking: Chunking) -> Callable[..., BatchSummary]:
        """The function that is compiled."""
        law = self._law.instructions
        objective = self._objective.instructions
        dtype = self.dtype

        def evaluate(keys, of_law, of_objective):
            # An objective that is constant may be a number of Python.
            return jax.vmap(lambda key: jnp.asarray(objective(of_objective, law(of_law, key)), dtype))(keys)

        run = over_devices(evaluate, self._mesh, self._num_best, chunking)

        def search(key, high, low, per_device, num_masks, constants):
            return run(_typed(key), high, low, per_device, num_masks, constants)

        return search

    def _arguments(self, first: int, per_device: int, num_masks: int) -> tuple[Any, ...]:
        high = np.uint32(first >> 32)
        low = np.uint32(first & 0xFFFFFFFF)
        return self._key, high, low, np.int32(per_device), np.int32(num_masks), self._constants

    @functools.cached_property
    def _compiled_for_memory(self) -> tuple[Chunking, Callable[..., Any]]:
        """The program that evaluates as many masks at once as fit the device, found by halving."""
        device = self._mesh.local_devices[0]
        on_cpu = device.platform == "cpu"
        masks = TILE * (1 if on_cpu else _ACCELERATOR_TILES)
        known = _compiled_programs(self._law.instructions, self._objective.instructions, self._mesh, self._num_best)
        while True:
            chunking = Chunking(max(masks // TILE, 1), masks)
            if chunking not in known:
                known[chunking] = self.lowered(chunking).compile()
            memory = known[chunking].memory_analysis()
            needed = 0 if memory is None else memory.temp_size_in_bytes
            # For the sake of its caches a CPU goes down to a few masks; below that only memory counts.
            fits_cache = on_cpu and masks > _MIN_CPU_MASKS
            allowed = _CPU_CACHE_BYTES if fits_cache else _usable_memory(device)
            # Every process takes the chunking of process 0.
            excess = meshes.broadcast_int(-(-needed // allowed))
            if excess <= 1 or masks == 1:
                return chunking, known[chunking]
            masks = max(masks >> (excess - 1).bit_length(), _MIN_CPU_MASKS if fits_cache else 1)


@functools.lru_cache(maxsize=_KEPT_SEARCHES)
def _compiled_programs(law: Instructions, objective: Instructions, mesh: Mesh, num_best: int) -> dict[Chunking, Any]:
    """The programs compiled so far for a search, whatever its key and its data; each new one is added to them."""
    return {}


@functools.lru_cache(maxsize=_KEPT_SEARCHES)
def _mask_maker(law: Instructions) -> Callable[..., Mask]:
    """Makes the masks of a law from the key's data, the words of their numbers and the law's arrays."""

    def masks(key, high, low, constants):
        typed = _typed(key)
        return lax.map(lambda words: law(constants, mask_key(typed, *words)), (high, low), batch_size=TILE)

    return jax.jit(masks)


def _typed(data: UInt[Array, "2"]) -> Key:
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def _usable_memory(device: Any) -> int:
    """Bytes that a search may use beside its data: half of a device's memory; on a CPU a sixteenth of the host's."""
    known = device.memory_stats() or {}
    if "bytes_limit" in known:
        return known["bytes_limit"] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16
