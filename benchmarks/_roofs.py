"""What this machine can do at most, measured: products, passes over memory, random words, lookups, calls."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from benchmarks._timing import Timing, in_turns, prepared

_WORDS = 2**20
_LOOKUPS = 2**18
_TABLE = 1024


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


def products(dtype: DTypeLike = jnp.float32, *, size: int = 2048) -> Roof:
    """Floating-point operations of a square matrix product at precision "highest".

    Args:
        dtype: that of the matrices.
        size: how many rows and columns they have.
    """
    matrix = jnp.ones((size, size), dtype)
    return Roof("products", prepared(lambda a: jnp.matmul(a, a, precision="highest"), matrix).run, 2 * size**3)


def memory(size: int = 2**24) -> Roof:
    """Bytes that one pass over an array of float32 reads and writes.

    Args:
        size: how many entries the array has: the default is larger than caches.
    """
    return Roof("memory", prepared(lambda values: values + 1, jnp.ones(size, jnp.float32)).run, 8 * size)


def random_words() -> Roof:
    """Random words of 32 bits from JAX's threefry generator."""
    return Roof("random words", prepared(lambda key: jax.random.bits(key, (_WORDS,)), jax.random.key(0)).run, _WORDS)


def lookups() -> Roof:
    """Numbers that are read from a small table at random places."""
    table = jnp.arange(_TABLE, dtype=jnp.uint32)
    places = jax.random.randint(jax.random.key(0), (_LOOKUPS,), 0, _TABLE)
    return Roof("lookups", prepared(lambda table, at: table.at[at].get(mode="clip"), table, places).run, _LOOKUPS)


def calls() -> Roof:
    """Calls of a compiled program that has next to nothing to do."""
    return Roof("calls", prepared(lambda value: value + 1, jnp.ones(8, jnp.float32)).run, 1)
