"""What the machine can do at most: the rates that other benchmarks are measured against."""

from collections.abc import Iterator

import jax.numpy as jnp

from benchmarks import _roofs
from benchmarks._record import Row
from benchmarks._timing import in_turns


def rows() -> Iterator[Row]:
    """One row for each rate; times are for one operation, byte, word, number or call."""
    roofs = {
        "an operation of a matrix product, float32": _roofs.products(),
        "an operation of a matrix product, bfloat16": _roofs.products(jnp.bfloat16),
        "a byte through memory, arrays larger than caches": _roofs.memory(),
        "a byte through memory, arrays of 1 MiB": _roofs.cached_memory(),
        "a random word of 32 bits": _roofs.random_words(),
        "a number read at a random place of a small table": _roofs.lookups(),
        "a call of a compiled program": _roofs.calls(),
    }
    timings = in_turns({what: roof.run for what, roof in roofs.items()})
    for what, roof in roofs.items():
        yield Row(what, f"jax, {roof.name}", timings[what].seconds / roof.work)
