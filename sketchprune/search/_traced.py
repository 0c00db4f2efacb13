"""Laws and objectives as programs: any function of a mask, with its data apart from its instructions.

A closure's arrays become arguments, which a mesh can hold, and both parts get a checksum, by which a checkpoint
knows its search again.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array


class Program(NamedTuple):
    """What a function computes, without its data: one equal object as long as JAX keeps the function's trace."""

    jaxpr: Jaxpr
    structure: Any

    def __call__(self, constants: list[Array], argument: Any) -> Any:
        """The function's value, its arrays being ``constants``."""
        flat = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, constants))(*jax.tree.leaves(argument))
        return jax.tree.unflatten(self.structure, flat)


class Traced:
    """A function of one argument, traced for arguments like ``example``."""

    def __init__(self, function: Callable[[Any], Any], example: Any):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(example)
        self.program = Program(closed.jaxpr, jax.tree.structure(shape))
        self.constants: list[Array] = closed.consts
        self.result = shape

    @property
    def instructions(self) -> str:
        """A checksum of what is computed."""
        # Functions kept for differentiation are printed with their addresses.
        return f"{zlib.crc32(re.sub(r'0x[0-9a-f]+', '', str(self.program.jaxpr)).encode()):08x}"

    @property
    def calls_back(self) -> bool:
        """Whether Python functions, which no checksum knows, have a part in the value."""
        every = (equation for jaxpr, _ in _parts(self.program.jaxpr, []) for equation in jaxpr.eqns)
        return any(equation.primitive.name in ("pure_callback", "io_callback") for equation in every)

    @property
    def data(self) -> str:
        """A checksum of the arrays that it is computed from."""
        crc32 = 0
        for value in (value for _, constants in _parts(self.program.jaxpr, self.constants) for value in constants):
            if jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
                value = jax.random.key_data(value)
            array = np.asarray(value)
            crc32 = zlib.crc32(f"{array.shape} {array.dtype}".encode(), crc32)
            crc32 = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc32)
        return f"{crc32:08x}"


def _parts(jaxpr: Jaxpr, constants: list[Array]) -> Iterator[tuple[Jaxpr, list[Array]]]:
    """A program and all programs inside it, with the arrays that those jitted on their own hold."""
    yield jaxpr, constants
    for equation in jaxpr.eqns:
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if isinstance(inner, ClosedJaxpr):
                    yield from _parts(inner.jaxpr, inner.consts)
                elif isinstance(inner, Jaxpr):
                    yield from _parts(inner, [])
