"""Functions of samples in blocks, so that memory does not grow with the number of samples."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from sketchprune.types import Inputs, Params


def mapped(function: Callable[[Inputs], Any], x: Inputs, block_size: int) -> Any:
    """``function`` of all samples, one block after another."""
    found = lax.map(function, _in_blocks(x, block_size, fill_with_zeros=False))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: len(x)], found)


def summed(function: Callable[..., Params], x: Inputs, *weights: Array, block_size: int) -> Params:
    """The sum over blocks of a function that is linear in the weights; samples that only fill up weigh nothing."""
    if len(x) <= block_size:
        return function(x, *weights)
    blocks = [_in_blocks(x, block_size, fill_with_zeros=False)]
    blocks += [_in_blocks(each, block_size, fill_with_zeros=True) for each in weights]
    shapes = jax.eval_shape(function, *(block[0] for block in blocks))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Params, block: tuple) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, total, function(*block)), None

    return lax.scan(add, zeros, tuple(blocks))[0]


def _in_blocks(array: Inputs, block_size: int, *, fill_with_zeros: bool) -> Array:
    """[blocks, block_size, ...]; the last block is filled up with zeros, or with copies of the last sample."""
    count = math.ceil(len(array) / block_size) * block_size
    index = jnp.arange(count)
    filled = jnp.asarray(array)[jnp.minimum(index, len(array) - 1)]
    if fill_with_zeros:
        filled = jnp.where((index < len(array)).reshape(-1, *(1 for _ in array.shape[1:])), filled, 0)
    return filled.reshape(-1, block_size, *array.shape[1:])
