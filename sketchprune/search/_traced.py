"""Laws and objectives as traced functions: their data apart from their instructions.

The arrays that a function closes over become arguments, which a mesh can hold. Both parts get a checksum, by which a
checkpoint knows its search again.
"""

import re
import types
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array

from sketchprune._checksums import checksum


class Instructions(NamedTuple):
    """What a function computes, without its data: the same object for as long as JAX keeps the function's trace."""

    jaxpr: Jaxpr
    structure: Any

    def __call__(self, constants: list[Array], argument: Any) -> Any:
        """The function's value at ``argument``, its arrays being ``constants``."""
        flat = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, constants))(*jax.tree.leaves(argument))
        return jax.tree.unflatten(self.structure, flat)


class TracedFunction:
    """A function of one argument, traced for arguments like ``example``.

    Attributes:
        instructions: what it computes.
        constants: the arrays that it closes over.
        result: the shapes and dtypes of its value.
    """

    def __init__(self, function: Callable[[Any], Any], example: Any):
        closed, shape = jax.make_jaxpr(_one_object(function), return_shape=True)(example)
        self.instructions = Instructions(closed.jaxpr, jax.tree.structure(shape))
        self.constants: list[Array] = closed.consts
        self.result = shape

    @property
    def instructions_checksum(self) -> str:
        """A checksum of what is computed."""
        # JAX prints functions that it keeps for differentiation with their addresses.
        return f"{zlib.crc32(re.sub(r'0x[0-9a-f]+', '', str(self.instructions.jaxpr)).encode()):08x}"

    @property
    def calls_python(self) -> bool:
        """Whether Python functions, which no checksum covers, take part in the value."""
        every = (equation for jaxpr, _ in _parts(self.instructions.jaxpr, []) for equation in jaxpr.eqns)
        return any(equation.primitive.name in ("pure_callback", "io_callback") for equation in every)

    @property
    def data_checksum(self) -> str:
        """A checksum of the arrays that the value is computed from."""
        parts = _parts(self.instructions.jaxpr, self.constants)
        return f"{checksum([array for _, constants in parts for array in constants]):08x}"


_METHODS: dict[tuple[int, Any], Callable[[Any], Any]] = {}
"""A function for each bound method that was traced, by the id of its object; it goes when the object does."""


def _one_object(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function itself; for a bound method, one function as long as the object lives.

    Python makes a new bound method at each access, such as ``law.sample``, and JAX would trace each of them anew.
    """
    if not isinstance(function, types.MethodType):
        return function
    name = id(function.__self__), function.__func__
    if name not in _METHODS:
        try:
            weakref.finalize(function.__self__, _METHODS.pop, name, None)
        except TypeError:  # an object that takes no weak references
            return function
        method = weakref.WeakMethod(function)  # so that the table keeps no object alive

        def call(argument: Any) -> Any:
            bound = method()
            assert bound is not None
            return bound(argument)

        _METHODS[name] = call
    return _METHODS[name]


def _parts(jaxpr: Jaxpr, constants: list[Array]) -> Iterator[tuple[Jaxpr, list[Array]]]:
    """A jaxpr and all jaxprs inside it, with the arrays that jitted functions in it hold of their own."""
    yield jaxpr, constants
    for equation in jaxpr.eqns:
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if isinstance(inner, ClosedJaxpr):
                    yield from _parts(inner.jaxpr, inner.consts)
                elif isinstance(inner, Jaxpr):
                    yield from _parts(inner, [])
