"""Checksums, by which two runs or two processes see that they have the same arrays."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sketchprune._boundary import shown


def checksum(arrays: Any) -> int:
    """A checksum of a pytree: of the values, the shapes and the dtypes of its arrays, and of where each of them is.

    None has a place too. Static fields, such as the name of a data set, do not count.

    Raises:
        ValueError: a leaf is neither a number nor an array of numbers.

    >>> checksum([np.ones(2)]) == checksum([np.ones(2, np.float32)])
    False
    """
    crc32 = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(arrays, is_leaf=lambda leaf: leaf is None)[0]:
        place = jax.tree_util.keystr(path)
        if leaf is None:
            crc32 = zlib.crc32(f"{place} None".encode(), crc32)
            continue
        array = _array(f"arrays{place}", leaf)
        crc32 = zlib.crc32(f"{place} {array.shape} {array.dtype}".encode(), crc32)
        crc32 = zlib.crc32(array.tobytes(), crc32)
    return crc32


def _array(name: str, leaf: Any) -> np.ndarray:
    """A leaf as an array; of a random key its data."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufcV":  # "V" are the dtypes that JAX adds, such as bfloat16
        raise ValueError(f"{name} is {shown(leaf)}; it takes a number or an array of numbers")
    return array
