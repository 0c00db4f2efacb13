"""Arguments at the boundary of the library: each is checked against its annotation, and a message names it.

The decorator :func:`checked` stands on public functions. It sees shapes, dtypes and types, which are known under a
trace too, and so it costs nothing in a compiled program. What values may be is checked by the functions themselves.
"""

import functools
import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractArray, PyTree

from sketchprune.types import Count, Key, Number

_F = TypeVar("_F", bound=Callable[..., Any])
Lengths = dict[str, int]
"""Name of an axis -> its length, as earlier arguments of a call have it."""
_MAX_SHOWN = 60


def checked(function: _F) -> _F:
    """The function with its arguments checked against their annotations.

    Arrays have the annotated dtype and number of axes, and axes of one name have one length; trees hold arrays; what
    is called is a function. Of numbers nothing but that is checked.

    Raises:
        ValueError: by the function, in the wording ``x has shape (3,); it takes floating numbers [n, d]``.

    Cost: some tens of microseconds a call, and nothing in a compiled program.

    >>> from sketchprune.types import Matrix, PerColumn
    >>> @checked
    ... def weigh(x: Matrix, w: PerColumn): ...
    >>> weigh(np.ones((3, 2)), np.ones(3))
    Traceback (most recent call last):
    ValueError: w has shape (3,); it takes floating numbers [d] with d = 2
    """
    parameters = inspect.signature(function).parameters
    positional = [name for name, each in parameters.items() if each.kind is not each.KEYWORD_ONLY]
    several = next((name for name, each in parameters.items() if each.kind is each.VAR_POSITIONAL), None)

    @functools.cache
    def arguments() -> dict[str, tuple[_Argument, Any]]:
        """What each argument takes, and its default; made at the first call, when all names are known."""
        hints = typing.get_type_hints(function)
        named = {name: each.default for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}
        return {name: (_argument(hints[name]), default) for name, default in named.items() if name in hints}

    @functools.wraps(function)
    def wrapper(*values: Any, **keywords: Any) -> Any:
        expected, lengths = arguments(), {}
        for name, value in (*zip(_names(positional, several), values, strict=False), *keywords.items()):
            if name in expected:
                argument, default = expected[name]
                if value is not default and not argument.fits(value, lengths):
                    raise ValueError(f"{name} {argument.found(value)}; it takes {argument.takes(lengths)}")
        return function(*values, **keywords)

    return typing.cast(_F, wrapper)


def check(name: str, value: Any, annotation: Any) -> None:
    """Refuses a value that its annotation does not take, as :func:`checked` does for the arguments of a function.

    >>> check("loss", 3, Callable)
    Traceback (most recent call last):
    ValueError: loss is 3; it takes a function
    """
    argument = _argument(annotation)
    if not argument.fits(value, {}):
        raise ValueError(f"{name} {argument.found(value)}; it takes {argument.takes({})}")


def _names(positional: Sequence[str], several: str | None) -> Iterator[str]:
    """What positional arguments are called; those that one name takes come last."""
    return itertools.chain(positional, itertools.repeat(several) if several else ())


@dataclass(frozen=True)
class _Argument:
    """What an argument takes.

    Attributes:
        fits: (value, lengths) -> whether it takes the value; lengths of axes that are new are added.
        takes: lengths -> the same in words.
        found: value -> what the value is instead, in words.
    """

    fits: Callable[[Any, Lengths], bool]
    takes: Callable[[Lengths], str]
    found: Callable[[Any], str] = lambda value: f"is {shown(value)}"


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    if isinstance(value, dict | list | tuple) and not jax.tree.leaves(value):
        return "a pytree without arrays"
    text = f"the class {value.__name__}" if isinstance(value, type) else " ".join(repr(value).split())
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union; the annotation itself where it is none."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


@functools.cache
def _argument(hint: Any) -> _Argument:
    """What an argument of that annotation takes."""
    options = tuple(option for option in _options(hint) if option is not type(None))
    optional = len(options) < len(_options(hint))
    chosen = next((each for alias, each in _ALIASES if set(options) == set(_options(alias))), None)
    found = [chosen] if chosen else [_plain(option) for option in options]
    arrays = [option for option in options if _is_array(option)]

    def fits(value: Any, lengths: Lengths) -> bool:
        return (optional and value is None) or any(each.fits(value, lengths) for each in found)

    def takes(lengths: Lengths) -> str:
        return " or ".join(dict.fromkeys([*(each.takes(lengths) for each in found), *["None"][: int(optional)]]))

    return _Argument(fits, takes, functools.partial(_found_array, arrays) if arrays and not chosen else _Argument.found)


def _plain(hint: Any) -> _Argument:
    """What an argument takes whose annotation is no union."""
    if _is_array(hint):
        return _Argument(functools.partial(_fits_array, hint, *_axes(hint)), functools.partial(_array_words, hint))
    if _is_tree(hint):
        return _Argument(lambda value, _: _has_arrays(value), lambda _: "a pytree of arrays")
    origin = typing.get_origin(hint) or hint
    if origin is Callable:
        return _Argument(lambda value, _: callable(value), lambda _: "a function")
    if origin is Sequence:
        item = _argument(*(typing.get_args(hint) or (Any,)))
        return _Argument(
            lambda value, lengths: _is_sequence(value) and all(item.fits(each, {}) for each in _listed(value)),
            lambda _: f"a sequence of {_several(item.takes({}))}",
        )
    if origin is tuple and typing.get_args(hint):
        return _entries(hint)
    if origin in (jax.Array, np.ndarray):
        return _Argument(lambda value, _: hasattr(value, "shape") and _is_number(value), lambda _: "an array")
    if origin is bool:
        return _Argument(lambda value, _: _is_real(value), lambda _: "True or False")
    if isinstance(origin, type) and issubclass(origin, int | float | complex | np.generic):
        return _Argument(lambda value, _: _is_real(value), lambda _: "a number")
    if isinstance(origin, type) and origin is not Any and not getattr(origin, "_is_protocol", False):
        return _Argument(lambda value, _: isinstance(value, origin), lambda _: _with_article(origin.__name__))
    return _Argument(lambda value, _: True, lambda _: "anything")


def _entries(hint: Any) -> _Argument:
    """What an argument takes that is annotated as a tuple: a sequence of its length, each entry of its own kind."""
    args = typing.get_args(hint)
    if args[-1] is ...:
        return _argument(Sequence[args[0]])
    entries = [_argument(each) for each in args]

    def fits(value: Any, lengths: Lengths) -> bool:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str | bytes)
            and len(value) == len(entries)
            and all(entry.fits(each, lengths) for entry, each in zip(entries, value, strict=True))
        )

    def takes(lengths: Lengths) -> str:
        return f"a tuple ({', '.join(entry.takes(lengths) for entry in entries)})"

    return _Argument(fits, takes)


def _several(words: str) -> str:
    """The plural of what begins with an article ("an array [n]": "arrays [n]"); other words as they are."""
    found = re.fullmatch(r"an? (.*?)((?: of | \[).*)?", words)
    return words if found is None or " or " in words else f"{found[1]}s{found[2] or ''}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"


# --- Numbers, keys and trees


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or an array of numbers: its function says which ones it takes."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, int | float | complex)
    return jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)


def _is_real(value: Any) -> bool:
    """Whether a value is a real number, or an array of them."""
    dtype = getattr(value, "dtype", type(value))
    return _is_number(value) and not jnp.issubdtype(dtype, jnp.complexfloating)


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _has_arrays(value: Any) -> bool:
    """Whether a value is a pytree of numbers and arrays; functions among them are left alone, as equinox has them."""
    leaves = [leaf for leaf in jax.tree.leaves(value) if not callable(leaf)]
    return bool(leaves) and all(_is_number(leaf) or _is_key(leaf) for leaf in leaves)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray | jax.Array) and not isinstance(value, str | bytes)


def _listed(value: Any) -> Any:
    """The items of a sequence; those of an array are arrays, and not looked at."""
    return value if isinstance(value, Sequence) else ()


_ALIASES: tuple[tuple[Any, _Argument], ...] = (
    (Number, _Argument(lambda value, _: _is_real(value), lambda _: "a number")),
    (Count, _Argument(lambda value, _: _is_real(value), lambda _: "a whole number")),
    (Key, _Argument(lambda value, _: _is_key(value), lambda _: "a key of jax.random.key")),
)
"""Annotations that are unions and mean one thing."""


# --- Arrays


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _is_tree(hint: Any) -> bool:
    return hint is PyTree or (isinstance(hint, type) and issubclass(hint, PyTree))


def _axes(hint: Any) -> tuple[tuple[str, ...], int | None]:
    """The axes of an array's annotation, and the place of those that stand for any number of axes."""
    axes = tuple(hint.dim_str.split())
    return axes, next((place for place, axis in enumerate(axes) if axis.startswith(("*", "..."))), None)


def _fits_array(hint: Any, axes: tuple[str, ...], several: int | None, value: Any, lengths: Lengths) -> bool:
    shape = getattr(value, "shape", None)
    if shape is None or isinstance(value, type):
        return not axes and _is_real(value)
    if not isinstance(value, jax.Array | np.ndarray | np.generic) or not _has_dtype(hint, value.dtype):
        return False
    if several is None:
        named = zip(axes, shape, strict=False)
        right = len(shape) == len(axes)
    else:
        after = len(axes) - several - 1
        last = shape[len(shape) - after :]
        named = (*zip(axes[:several], shape, strict=False), *zip(axes[several + 1 :], last, strict=False))
        right = len(shape) >= len(axes) - 1
    new = {}
    for axis, length in named:
        if axis.isdigit():
            right = right and int(axis) == length
        elif axis.isidentifier() and axis != "_":
            right = right and lengths.get(axis, new.setdefault(axis, length)) == length
    if right:
        lengths.update(new)
    return right


def _has_dtype(hint: Any, dtype: Any) -> bool:
    """Whether an annotation takes a dtype: one that takes any takes those of numbers, booleans and keys."""
    if not isinstance(hint.dtypes, list | tuple):
        return any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool_, jax.dtypes.prng_key))
    name = "prng_key" if jnp.issubdtype(dtype, jax.dtypes.prng_key) else str(dtype)
    return name in hint.dtypes


def _array_words(hint: Any, lengths: Lengths) -> str:
    kinds = {
        "Float": "floating numbers",
        "Int": "whole numbers",
        "Bool": "booleans",
        "Shaped": "an array",
        "Key": "keys",
    }
    axes, _ = _axes(hint)
    known = [f"{axis} = {lengths[axis]}" for axis in axes if axis in lengths]
    words = kinds.get(hint.__name__.partition("[")[0], "real numbers") + (f" [{', '.join(axes)}]" if axes else "")
    return words + (f" with {', '.join(known)}" if known else "")


def _found_array(hints: Sequence[Any], value: Any) -> str:
    """What a value is that no annotation of arrays takes: of an array its dtype or its shape, whichever is wrong."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return f"is {shown(value)}"
    if _is_key(value):
        return "is a key"
    if not any(_has_dtype(hint, value.dtype) for hint in hints):
        return f"has dtype {value.dtype}"
    return f"has shape {tuple(value.shape)}"
