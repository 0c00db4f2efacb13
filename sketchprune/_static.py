"""Functions as static arguments of compiled programs."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Bound:
    """A `functools.partial` that equals another one of the same function with the same arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]
    types: tuple[type, ...]
    """The types of the arguments, which tell 1, 1.0 and True apart."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*self.arguments, *arguments, **dict(self.keywords) | keywords)


def static(function: Any) -> Any:
    """``function`` as a static argument of a compiled program, so that equal functions share one program.

    A `functools.partial` is a new object each time it is made. Where its arguments can be hashed it is compared by
    what it binds; where they cannot, such as arrays, by identity. Any other function that cannot be hashed may have
    changed since the last call, so it is compiled again at each call.

    >>> static(functools.partial(round, ndigits=2)) == static(functools.partial(round, ndigits=2))
    True
    >>> static(functools.partial(round, ndigits=2))(1.234)
    1.23
    """
    if isinstance(function, functools.partial):
        keywords = tuple(sorted(function.keywords.items()))
        values = (*function.args, *(value for _, value in keywords))
        bound = _Bound(static(function.func), function.args, keywords, tuple(map(type, values)))
        if can_be_hashed(bound):
            return bound
    return function if can_be_hashed(function) else lambda *arguments, **keywords: function(*arguments, **keywords)


def can_be_hashed(value: Any) -> bool:
    """Whether ``hash(value)`` works, of the parts of a tuple too."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
