"""Pieces of work that are done once: each is kept in a file that its settings and its source name.

A piece counts as done as long as nothing that it is made from has changed: the settings of the run, the functions and
constants of ``figures`` that its function reaches, and the packages ``sketchprune`` and ``theory`` if it reaches them.
Comments and docstrings do not count, and neither does what only draws.
"""

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import io
import itertools
import re
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
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
        with contextlib.suppress(FileNotFoundError), np.load(path) as kept:
            return dict(kept)
        started = time.perf_counter()
        arrays = _arrays(function())
        content = io.BytesIO()
        np.savez(content, **arrays)
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
    walk = _Walk()
    walk.visit(function)
    return _hashed([*walk.texts, *(_code_of(package) for package in sorted(walk.packages))])


class _Walk:
    """What a function is made from: a text for each object that it reaches, in the order in which it reaches them.

    Attributes:
        texts: the texts.
        packages: the packages that count as a whole.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.packages = {"sketchprune"}
        self._numbers: dict[int, int] = {}
        self._held: list[Any] = []  # so that no other object gets the id of one that was seen

    def visit(self, thing: Any) -> None:
        """Describe an object and what it uses."""
        if isinstance(thing, str | int | float | complex | None | np.generic | range):
            self.texts.append(repr(thing))
            return
        if (number := self._numbers.get(id(thing))) is not None:
            self.texts.append(f"again {number}")
            return
        self._numbers[id(thing)] = len(self._numbers)
        self._held.append(thing)
        text, reached = _described(thing)
        self.texts.append(text)
        self.packages |= {name for name in (_package(thing), *_imported(thing)) if name in _PACKAGES}
        for each in reached:
            self.visit(each)


def _described(thing: Any) -> tuple[str, Iterable[Any]]:
    """A text that changes when an object does, and the objects that it uses."""
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if kind == "figures._config.Config":
        return "config", (type(thing).settings, type(thing).halves)  # the settings of the run count by themselves
    if kind == "figures._style.Look":
        return "look", ()  # draws, and changes no number
    if isinstance(thing, functools.partial):
        return "partial", (thing.func, *thing.args, thing.keywords)
    if isinstance(thing, Mapping):
        return f"mapping of {len(thing)}", itertools.chain.from_iterable(thing.items())
    if isinstance(thing, np.ndarray | jax.Array):
        return _described_array(thing), ()
    if isinstance(thing, set | frozenset):
        return f"set {sorted(map(repr, thing))}", ()
    if isinstance(thing, list | tuple):
        return f"{kind} of {len(thing)}", (*thing, type(thing))
    if isinstance(thing, types.MethodType):
        return "method", (thing.__func__, thing.__self__)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return kind, (type(thing), *(getattr(thing, field.name, None) for field in dataclasses.fields(thing)))
    if isinstance(thing, type):
        functions = [value for value in vars(thing).values() if inspect.isfunction(value)]
        return f"class {thing.__module__}.{thing.__qualname__}", functions if _package(thing) == "figures" else ()
    plain = inspect.unwrap(thing) if callable(thing) else thing
    return _described_function(plain) if isinstance(plain, types.FunctionType) else (kind, ())


def _described_array(array: np.ndarray | jax.Array) -> str:
    """The entries of an array; of random keys, their words."""
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    values = np.asarray(array)
    return f"array {values.dtype} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"


def _described_function(function: types.FunctionType) -> tuple[str, list[Any]]:
    """The defaults and enclosed variables of a function; of one of figures, its instructions and globals as well."""
    text = [f"function {function.__module__}.{function.__qualname__}"]
    reached = [*(function.__defaults__ or ()), function.__kwdefaults__]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty yet
            reached.append(cell.cell_contents)
    if _package(function) != "figures":
        return text[0], reached
    for code in _codes(function.__code__):
        values = [value for value in code.co_consts if not isinstance(value, types.CodeType)]
        constants = [_constant(value) for value in values if value != function.__doc__]
        text += [code.co_code.hex(), repr(constants), repr(code.co_names), repr(code.co_varnames)]
        used = [function.__globals__[name] for name in code.co_names if name in function.__globals__]
        for thing in used:
            if isinstance(thing, types.ModuleType) and _package(thing) == "figures":
                reached += [vars(thing)[name] for name in code.co_names if name in vars(thing)]
            else:
                reached.append(thing)
    return " ".join(text), reached


def _constant(value: Any) -> Any:
    """A constant of a function; sets in one order, which their own is not."""
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


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
    """The packages that a function imports inside itself; a figure that asks for verdicts depends on the theory."""
    plain = inspect.unwrap(thing) if callable(thing) else thing
    if not isinstance(plain, types.FunctionType) or _package(plain) != "figures":
        return set()
    names = {name for code in _codes(plain.__code__) for name in code.co_names}
    return {"theory" if name == "verdict" else name.partition(".")[0] for name in names}


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
            node.body = [line for line in body if not _is_text(line)]  # pyright: ignore[reportAttributeAccessIssue] - most nodes have no body
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
    arrays = {name: np.asarray(value) for name, value in found.items()}
    for name, values in arrays.items():
        if values.dtype.hasobject:
            raise ValueError(f"{name} is an array of objects; it takes numbers or text")
    return arrays
