"""Functions of one instance, mapped over many of them in bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

CHUNK_BYTES = 2**25
"""Working memory of the instances that are treated together."""


def map_in_chunks(function: Callable[..., Any], at_once: int, *arrays: Array) -> Any:
    """``jax.vmap(function)(*arrays)``, at most ``at_once`` entries of the leading axis at a time."""
    count = len(arrays[0])
    if count <= max(1, at_once):
        return jax.vmap(function)(*arrays)
    chunks = -(-count // max(1, at_once))
    size = -(-count // chunks)

    def cut(array: Array) -> Array:
        padding = [(0, chunks * size - count)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding, mode="edge").reshape(chunks, size, *array.shape[1:])

    mapped = lax.map(lambda chunk: jax.vmap(function)(*chunk), tuple(map(cut, arrays)))
    return jax.tree.map(lambda part: part.reshape(chunks * size, *part.shape[2:])[:count], mapped)
