"""Functions as static arguments of compiled programs."""

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Bound:
    """A `functools.partial` that equals another of the same function and the same arguments."""

    function: Callable[..., Any]
    arguments: tuple[Hashable, ...]
    keywords: tuple[tuple[str, Hashable], ...]
    types: tuple[type, ...]
    """Of the arguments: 1, 1.0 and True are equal."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*self.arguments, *arguments, **dict(self.keywords) | keywords)


def static(function: Any) -> Any:
    """``function`` as a static argument: compiled once for each that differs.

    A `functools.partial` is another object each time that it is made; of arguments that can be hashed it is
    compared by what it binds. Of those that cannot, such as arrays, it is the object that it is. Any other function
    that cannot be hashed is compiled anew at each call: it may have changed.

    >>> static(functools.partial(round, ndigits=2)) == static(functools.partial(round, ndigits=2))
    True
    >>> static(functools.partial(round, ndigits=2))(1.234)
    1.23
    """
    if isinstance(function, functools.partial):
        keywords = tuple(sorted(function.keywords.items()))
        values = (*function.args, *(value for _, value in keywords))
        bound = _Bound(static(function.func), function.args, keywords, tuple(map(type, values)))
        if _can_be_hashed(bound):
            return bound
    return function if _can_be_hashed(function) else lambda *arguments, **keywords: function(*arguments, **keywords)


def _can_be_hashed(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
