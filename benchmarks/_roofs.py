"""What this machine can do at most, measured: products, passes over memory, random words, lookups, calls."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from benchmarks._timing import Prepared, Timing, in_turns, prepared

_LEAST_S = 5e-3
"""How long a call of a roof takes at least, so that starting it does not count."""
_MEMORY_PART = 8
"""A roof takes at most one part in this number of the device's memory."""
_TABLE = 1024
_LARGE, _CACHED = 2**26, 2**18
"""Entries of an array that is larger than caches, 256 MiB, and of one that stays in them, 1 MiB."""


class Roof(NamedTuple):
    """A program that does one kind of work and nothing else.

    Attributes:
        name: the kind of work.
        run: runs it once.
        work: how much of it that is: operations, bytes, words, numbers or calls.
    """

    name: str
    run: Callable[[], Any]
    work: float

    def share(self, work: float, timing: Timing, roof: Timing) -> float:
        """The fraction of this rate at which another program does the same kind of work: the median over rounds.

        Args:
            work: how much of it the other program does in a run.
            timing: of the other program.
            roof: of this one, timed in the same rounds.
        """
        return work / self.work * roof.over(timing)

    def rate(self) -> float:
        """Work a second, measured now."""
        return self.work / in_turns({self.name: self.run}, rounds=15)[self.name].seconds


def products(dtype: DTypeLike = jnp.float32) -> Roof:
    """Floating-point operations of a square matrix product at precision "highest".

    Args:
        dtype: that of the matrices.
    """

    def square(size: int) -> Prepared:
        return prepared(lambda a: jnp.matmul(a, a, precision="highest"), jnp.ones((size, size), dtype))

    return _grown("products", square, lambda size: 2 * size**3, size=1024)


def memory() -> Roof:
    """Bytes that passes over an array larger than caches read and write, in place: no page of memory is new."""
    return _passes(_LARGE, 8)


def cached_memory() -> Roof:
    """Bytes that passes over an array of 1 MiB read and write; on a GPU the start of each pass counts."""
    return _passes(_CACHED, 16)


def _passes(entries: int, count: int) -> Roof:
    """Passes over an array in place, at least as many as are given."""

    def program(count: int) -> Prepared:
        # The count is an argument: of a known number of passes the compiler might make one.
        return prepared(lambda x, count: lax.fori_loop(0, count, lambda _, x: x + 1, x), jnp.ones(entries), count)

    return _grown("memory", program, lambda count: 8 * entries * count, size=count)


def random_words() -> Roof:
    """Random words of 32 bits from JAX's threefry generator."""

    def words(size: int) -> Prepared:
        return prepared(lambda key: jax.random.bits(key, (size,)), jax.random.key(0))

    return _grown("random words", words, lambda size: size, size=2**20)


def lookups() -> Roof:
    """Numbers that are read from a small table at random places."""
    table = jnp.arange(_TABLE, dtype=jnp.uint32)

    def reads(size: int) -> Prepared:
        places = jax.random.randint(jax.random.key(0), (size,), 0, _TABLE)
        return prepared(lambda table, at: table.at[at].get(mode="clip"), table, places)

    return _grown("lookups", reads, lambda size: size, size=2**18)


def calls() -> Roof:
    """Calls of a compiled program that has next to nothing to do."""
    return Roof("calls", prepared(lambda value: value + 1, jnp.ones(8)).run, 1)


def _grown(name: str, make: Callable[[int], Prepared], work: Callable[[int], int], *, size: int) -> Roof:
    """The program at the first size, doubled from the given one, at which a call takes long enough or memory ends."""
    most = _memory_bytes() // _MEMORY_PART
    found = make(size)
    # A doubled size takes four times the memory, where it is a side of a matrix.
    while 4 * found.peak_bytes <= most and min(in_turns({name: found.run}, rounds=3)[name].rounds) < _LEAST_S:
        size *= 2
        found = make(size)
    return Roof(name, found.run, work(size))


def _memory_bytes() -> int:
    """The memory of the device; that of the machine on a CPU."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
