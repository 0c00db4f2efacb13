"""From what a user names (a claim, a pattern, a Python file; data) to the claims and the data set meant."""

import difflib
import importlib.util
import sys
import traceback
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from sketchprune.data import Dataset, load
from theory.claim import Claim


@dataclass(frozen=True)
class Selected:
    """A claim and what names it at the command line.

    Attributes:
        claim: the claim.
        argument: "family/name", or "FILE.py::family/name".
        file_crc32: checksum of the user's file and of what it imports from its folder, None for the catalogue: a
            verdict on a file that has changed since is a verdict on another claim.
    """

    claim: Claim
    argument: str
    file_crc32: int | None = None


def select(selection: Sequence[str], catalogue: Sequence[Claim]) -> tuple[Selected, ...]:
    """The claims that a selection names, each once, in the order in which it names them; all if it is empty.

    A word of the selection is a claim's id, a shell pattern over ids, or ``FILE.py`` with an optional
    ``::`` and an id or pattern. Raises ValueError for an unknown claim (nearest names offered), a pattern
    that matches nothing, a file that cannot be imported or defines no claim, and ids that are not unique.
    """
    chosen: dict[str, Selected] = {}
    shipped = [Selected(claim, claim.id) for claim in catalogue]
    _unique(shipped, "the catalogue")
    for word in selection or ("*",):
        path, _, pattern = word.partition("::")
        if path.endswith(".py"):
            found = _matching(pattern or "*", claims_of(path, catalogue), f"{path} defines")
        else:
            found = _matching(word, shipped, "the catalogue holds")
        chosen |= {item.argument: item for item in found}
    _unique(chosen.values(), "the selection")
    return tuple(chosen.values())


def dataset(source: str) -> Dataset:
    """The data set that "digits" or a path names: :func:`sketchprune.data.load`, whose ValueError names ``data``."""
    try:
        return load(source)
    except ValueError as error:
        raise ValueError(f"data: {error}") from None


def claims_of(path: str, catalogue: Sequence[Claim]) -> list[Selected]:
    """The claims that a Python file defines at its top level, alone or in a list or tuple."""
    module, crc32 = _imported(path)
    shipped = {id(claim) for claim in catalogue}
    found: dict[int, Claim] = {}
    for value in vars(module).values():
        for claim in value if isinstance(value, list | tuple) else (value,):
            if isinstance(claim, Claim) and id(claim) not in shipped:  # imported ones are not its own
                found[id(claim)] = claim
    if not found:
        raise ValueError(f"selection: {path} defines no claim; takes a file with a Claim at its top level")
    claims = [Selected(claim, f"{path}::{claim.id}", crc32) for claim in found.values()]
    _unique(claims, path)
    return claims


def _imported(path: str) -> tuple[ModuleType, int]:
    file = Path(path)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ValueError(f"selection: got {path}: {error.strerror}; takes a Python file that can be read") from None
    name = f"{file.stem}_{zlib.crc32(str(file.resolve()).encode()):08x}"  # no clash with an installed package
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # its neighbours can be imported, and shadow nothing
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"selection: {path} fails to import: {reason(error, path)}") from error
    return module, zlib.crc32(b"".join([text, *(other.read_bytes() for other in _neighbours(file))]))


def _neighbours(file: Path) -> list[Path]:
    """The modules in the folder of a file that are imported."""
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {Path(name).resolve() for name in names if name and name.endswith(".py")}
    return sorted(other for other in files - {file.resolve()} if other.parent == file.resolve().parent)


def reason(error: BaseException, path: str | None = None) -> str:
    """What an exception says, in one line, with the last line of ``path`` it passed through."""
    if isinstance(error, SyntaxError):
        line, message = error.lineno, error.msg
    else:
        file = None if path is None else Path(path).resolve()
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if Path(f.filename).resolve() == file), None)
        message = next(iter(str(error).strip().splitlines()), "")
    where = f" ({path}, line {line})" if path is not None and line is not None else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{where}"


def _matching(pattern: str, items: Sequence[Selected], owner: str) -> list[Selected]:
    if found := [item for item in items if fnmatchcase(item.claim.id, pattern)]:
        return found
    ids = [item.claim.id for item in items]
    if any(mark in pattern for mark in "*?["):
        families = ", ".join(sorted({item.claim.family + "/*" for item in items})) or "nothing"
        raise ValueError(f"selection: got {pattern!r}, which matches nothing; {owner} {families}")
    names = [*ids, *sorted({item.claim.family + "/*" for item in items})]
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
    hint = f"nearest are {', '.join(near)}" if near else "`sketchprune list` names those of the catalogue"
    raise ValueError(f"selection: got {pattern!r}, an unknown claim; {hint}")


def _unique(items: Iterable[Selected], owner: str):
    seen: dict[str, Selected] = {}
    for item in items:
        if (other := seen.setdefault(item.claim.id, item)) is not item:
            where = f" ({other.argument} and {item.argument})" if other.argument != item.argument else ""
            raise ValueError(f"id: got {item.claim.id!r} twice in {owner}{where}; takes ids that differ")
