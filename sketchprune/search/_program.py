"""The compiled program of a search: fitted to the memory of its devices, called for any range of masks."""

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

from sketchprune.search import _exact
from sketchprune.search import mesh as meshes
from sketchprune.search._tiles import TILE, Shape, Share, mask_key, program
from sketchprune.search._traced import Program, Traced
from sketchprune.types import Key, Mask

_MOST_TILES = 64
"""Tiles in flight on an accelerator, whose units a single tile would not fill; a CPU has one in flight."""
_CACHE, _FEWEST = 4 * 2**20, 4
"""Bytes of work in flight on a CPU: what stays in a core's caches (networks are two to three times as fast). But no
fewer masks for it than make a product with a matrix of one with a vector."""
_SEARCHES = 4
"""Searches whose programs are kept, the last ones."""


class Worker:
    """Evaluates ``objective(law(key of mask i))`` on the devices of a mesh for ranges of i."""

    def __init__(self, objective: Callable[..., Any], law: Callable[..., Any], key: Key, mesh: Mesh, best: int):
        self._law = Traced(law, key)
        self._objective = Traced(objective, self._law.result)
        result = self._objective.result
        shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
        if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"objective returns {result}; it takes a function mask -> one floating number")
        self.dtype = np.dtype(jnp.promote_types(dtype, jnp.float32))
        self._key = np.asarray(jax.random.key_data(key))
        self._mesh, self._best = mesh, best
        constants = self._law.constants, self._objective.constants
        self._constants = [[meshes.replicated(mesh, value) for value in part] for part in constants]

    @property
    def shape(self) -> Shape:
        """How the devices go through their masks."""
        return self._fitted[0]

    @property
    def calls_back(self) -> str:
        """Which of law and objective calls Python, by name; empty for neither."""
        called = {"law": self._law.calls_back, "objective": self._objective.calls_back}
        return " and ".join(name for name, back in called.items() if back)

    @functools.cached_property
    def posed(self) -> dict[str, Any]:
        """What is searched, by name: known before anything is compiled. Fetches all data."""
        device = self._mesh.local_devices[0]
        return {
            "key": self._key.tolist(),
            "law": f"{self._law.instructions}-{self._law.data}",
            "objective": self._objective.instructions,
            "data": self._objective.data,
            "best": self._best,
            "tile": TILE,
            "unit": f"2^-{_exact.SHIFT}",
            "device": device.device_kind,
            "jax": importlib.metadata.version("jaxlib"),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What the results depend on, by name."""
        return self.posed | {"in flight": list(self.shape)}

    def share(self, first: int, per_device: int, num_masks: int) -> Share:
        """The masks first … first + num_masks − 1, so many to each device: numbers on the host."""
        return Share(*jax.device_get(self._fitted[1](*self._arguments(first, per_device, num_masks))))

    def masks(self, indices: Int[np.ndarray, "n"]) -> Mask:
        """The masks of these numbers, stacked on a leading axis; in this process alone."""
        high, low = (indices >> 32).astype(np.uint32), (indices & 0xFFFFFFFF).astype(np.uint32)
        return _masks_of(self._law.program)(self._key, high, low, self._law.constants)

    def lowered(self, shape: Shape, platform: str | None = None) -> Any:
        """The program for devices that take masks in such groups, lowered for this platform or another."""
        traced = jax.jit(self._program(shape)).trace(*self._arguments(0, TILE, TILE))
        return traced.lower(lowering_platforms=None if platform is None else (platform,))

    def _program(self, shape: Shape) -> Callable[..., Share]:
        law, objective, dtype = self._law.program, self._objective.program, self.dtype

        def evaluate(keys, of_law, of_objective):
            # A constant objective may be a number of Python.
            return jax.vmap(lambda key: jnp.asarray(objective(of_objective, law(of_law, key)), dtype))(keys)

        run = program(evaluate, self._mesh, self._best, shape)

        def search(key, high, low, per_device, num_masks, constants):
            return run(_typed(key), high, low, per_device, num_masks, constants)

        return search

    def _arguments(self, first: int, per_device: int, num_masks: int) -> tuple[Any, ...]:
        high, low = np.uint32(first >> 32), np.uint32(first & 0xFFFFFFFF)
        return self._key, high, low, np.int32(per_device), np.int32(num_masks), self._constants

    @functools.cached_property
    def _fitted(self) -> tuple[Shape, Callable[..., Share]]:
        """The largest groups, by halving, whose program fits the device."""
        device = self._mesh.local_devices[0]
        masks = TILE * (1 if device.platform == "cpu" else _MOST_TILES)
        known = _compiled(self._law.program, self._objective.program, self._mesh, self._best)
        while True:
            shape = Shape(max(masks // TILE, 1), masks)
            if shape not in known:
                known[shape] = self.lowered(shape).compile()
            compiled = known[shape]
            memory = compiled.memory_analysis()
            needed = 0 if memory is None else memory.temp_size_in_bytes
            fewest = _FEWEST if device.platform == "cpu" and masks > _FEWEST else 1
            # Every process takes the groups of process 0.
            excess = meshes.agreed(-(-needed // (_memory(device) if fewest == 1 else _CACHE)))
            if excess <= 1 or masks == 1:
                return shape, compiled
            masks = max(masks >> (excess - 1).bit_length(), fewest)


@functools.lru_cache(maxsize=_SEARCHES)
def _compiled(law: Program, objective: Program, mesh: Mesh, best: int) -> dict[Shape, Any]:
    """What was compiled for a search so far, its key and its data aside, for its workers to add to."""
    return {}


@functools.lru_cache(maxsize=_SEARCHES)
def _masks_of(law: Program) -> Callable[..., Mask]:
    """Makes the masks of a law from the key data, the words of their numbers and the law's arrays."""

    def masks(key, high, low, constants):
        keys = _typed(key)
        return lax.map(lambda words: law(constants, mask_key(keys, *words)), (high, low), batch_size=TILE)

    return jax.jit(masks)


def _typed(key: UInt[Array, "2"]) -> Key:
    return jax.random.wrap_key_data(key, impl="threefry2x32")


def _memory(device: Any) -> int:
    """Bytes that a search may use on a device beside its data: half of it; on a CPU a sixteenth of the host's."""
    known = device.memory_stats() or {}
    if "bytes_limit" in known:
        return known["bytes_limit"] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16
