"""Pieces of work that are done once: each is kept in a file that its settings and its source name.

A piece counts as done as long as nothing that it is made from has changed: the settings of the run, the functions and
constants of ``figures`` that its function reaches, and the packages ``sketchprune`` and ``theory`` if it reaches them.
Comments and docstrings do not count, and neither does what only draws.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import io
import re
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sketchprune._files import write_atomically

Arrays = dict[str, np.ndarray]
_PACKAGES = ("sketchprune", "theory")
"""Packages that count as a whole."""


class Parts:
    """The pieces of work that are kept in a folder."""

    def __init__(self, folder: Path | None = None, say: Callable[[str], None] = lambda text: None) -> None:
        """Keep pieces in a folder.

        Args:
            folder: made when the first piece is written; None keeps nothing.
            say: takes a line about each piece that was done.
        """
        self.folder = folder
        self.say = say

    def done(self, label: str, function: Callable[[], Mapping[str, Any]], settings: Iterable[str]) -> Arrays:
        """What a function returns, from its file where there is one.

        Args:
            label: tells apart the pieces of a module.
            function: does the work.
            settings: what the piece depends on besides its source.
        """
        if self.folder is None:
            return _arrays(function())
        stem = f"{inspect.unwrap(_inner(function)).__module__}.{re.sub(r'[^A-Za-z0-9.]+', '-', label)}"
        stem += f".{_hashed((label, *settings))}"
        path = self.folder / f"{stem}.{fingerprint(function)}.npz"
        if path.exists():
            with np.load(path) as kept:
                return dict(kept)
        started = time.perf_counter()
        arrays = _arrays(function())
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
        for other in self.folder.glob(f"{stem}.*.npz"):
            if other != path:
                other.unlink(missing_ok=True)  # of an earlier source
        self.say(f"{label}, {time.perf_counter() - started:.1f} s")
        return arrays


def fingerprint(function: Callable[..., Any]) -> str:
    """A checksum of a function and of what it is made from.

    Args:
        function: a function of ``figures``, or a partial one.
    """
    texts, packages, seen = set(), {"sketchprune"}, {}
    pending = [function]
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing  # held, so that no other object gets its id
        text, reached = _described(thing)
        texts.add(text)
        packages |= {text for text in (_package(thing), *_imported(thing)) if text in _PACKAGES}
        pending += reached
    return _hashed([*sorted(texts), *(_code_of(package) for package in sorted(packages))])


def _described(thing: Any) -> tuple[str, list[Any]]:
    """A text that changes when an object does, and the objects that it uses."""
    if isinstance(thing, functools.partial):
        return "partial", [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, Mapping):
        return f"mapping {list(map(str, thing))}", [*thing, *thing.values()]
    if isinstance(thing, np.ndarray):
        return f"array {thing.dtype} {thing.shape} {hashlib.sha256(thing.tobytes()).hexdigest()}", []
    if isinstance(thing, list | tuple | set | frozenset):
        return f"{type(thing).__name__} of {len(thing)}", [*thing, type(thing)]
    if isinstance(thing, types.ModuleType):
        return _described_module(thing)
    if callable(thing) and not _package(thing) == "figures":
        return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}", []
    if isinstance(thing, type):
        return f"class {thing.__qualname__}", [value for value in vars(thing).values() if inspect.isfunction(value)]
    if type(thing).__module__ == "figures._config":
        return "config", []  # the settings of the run count by themselves
    if dataclasses.is_dataclass(thing):
        return f"{type(thing).__qualname__}", [type(thing), *vars(thing).values()]
    plain = inspect.unwrap(thing) if callable(thing) else thing
    if isinstance(plain, types.FunctionType):
        return _described_function(plain)
    return repr(thing) if isinstance(thing, str | int | float | complex | bool | None) else type(thing).__qualname__, []


def _described_function(function: types.FunctionType) -> tuple[str, list[Any]]:
    """The instructions of a function, and the globals, defaults and enclosed variables that it uses."""
    text, reached = [function.__qualname__], [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        reached.append(cell.cell_contents)
    for code in _codes(function.__code__):
        values = [value for value in code.co_consts if not isinstance(value, types.CodeType)]
        constants = [_constant(value) for value in values if value != function.__doc__]
        text += [code.co_code.hex(), repr(constants), repr(code.co_names), repr(code.co_varnames)]
        reached += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    return " ".join(text), reached


def _constant(value: Any) -> Any:
    """A constant of a function; sets in one order, which their own is not."""
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


def _described_module(module: types.ModuleType) -> tuple[str, list[Any]]:
    """A module of figures counts as a whole; others by their name, or as packages."""
    if _package(module) == "figures" and module.__file__:
        return f"module {module.__name__} {_stripped(Path(module.__file__))}", []
    return f"module {module.__name__}", []


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The instructions of a function and of those inside it."""
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _codes(value)


def _package(thing: Any) -> str:
    """The package that an object was defined in."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return (name or "").partition(".")[0]


def _imported(thing: Any) -> set[str]:
    """The packages that a function imports inside itself."""
    plain = inspect.unwrap(thing) if callable(thing) else thing
    if not isinstance(plain, types.FunctionType):
        return set()
    return {name.partition(".")[0] for code in _codes(plain.__code__) for name in code.co_names}


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a partial one."""
    return _inner(function.func) if isinstance(function, functools.partial) else function


@functools.cache
def _code_of(package: str) -> str:
    """A checksum of the code of a package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations  # both are installed with the figures
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.py"))
    return _hashed(_stripped(file) for file in files)


def _stripped(file: Path) -> str:
    """The syntax tree of a file, without comments, docstrings and places."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # pyright: ignore[reportAttributeAccessIssue]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a string alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hashed(texts: Iterable[str]) -> str:
    """A short checksum of texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:12]


def _arrays(found: Mapping[str, Any]) -> Arrays:
    """The values as NumPy arrays, off the device."""
    return {name: np.asarray(value) for name, value in found.items()}
