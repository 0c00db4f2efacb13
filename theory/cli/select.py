"""From what a user names on the command line to the claims and the data set that are meant."""

import contextlib
import difflib
import importlib.machinery
import importlib.util
import sys
import traceback
import zlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Literal

import jax

from sketchprune.data import Dataset, load
from theory.claim import Claim
from theory.report.run import Selected

CATALOGUE_NAME = "the catalogue"
"""What messages call the claims that ship."""


def select(selection: Sequence[str], catalogue: Sequence[Claim]) -> tuple[Selected, ...]:
    """The claims that a selection names, each once, in the order in which it names them.

    Args:
        selection: words, each of them the id of a claim, a shell pattern over ids, or ``FILE.py``, which an id or a
            pattern may follow after ``::``. An empty selection names the whole catalogue.
        catalogue: the claims that need no file.

    Raises:
        ValueError: a claim is unknown (the message offers the nearest ids), a pattern matches nothing, a file cannot
            be imported or defines no claim, or an id occurs twice.
    """
    chosen: dict[str, Selected] = {}
    shipped = [Selected(claim, claim.id) for claim in catalogue]
    _check_unique(shipped, CATALOGUE_NAME)
    for word in selection or ("*",):
        path, _, pattern = word.partition("::")
        if path.endswith(".py"):
            found = _matching(pattern or "*", claims_of(path, catalogue), path)
        else:
            found = _matching(word, shipped, CATALOGUE_NAME)
        chosen |= {item.argument: item for item in found}
    _check_unique(chosen.values(), "the selection")
    return tuple(chosen.values())


def with_earlier(
    chosen: Sequence[Selected], earlier: Iterable[tuple[str, int | None]], catalogue: Sequence[Claim]
) -> tuple[Selected, ...]:
    """The chosen claims, and those of an earlier run whose verdicts still count, so that its report keeps them.

    Args:
        chosen: the claims of this run.
        earlier: of each verdict of the earlier run the claim's argument, and the checksum of its file.
        catalogue: the claims that need no file.

    Returns:
        Claims of the catalogue in its order, then those of files; the chosen ones as they are where there is no other.
    """
    named = {item.argument for item in chosen}
    kept = []
    for argument, crc32 in earlier:
        if argument in named:
            continue
        with contextlib.suppress(ValueError):  # the file is gone, or has no such claim any more
            kept += [item for item in select([argument], catalogue) if item.file_crc32 == crc32]
    if not kept:
        return tuple(chosen)
    place = {claim.id: number for number, claim in enumerate(catalogue)}
    return tuple(sorted([*chosen, *kept], key=lambda item: place.get(item.argument, len(place))))


def dataset(source: str, split: Literal["train", "test"] | None = None) -> Dataset:
    """The data set that "digits" or a path names, as :func:`sketchprune.data.load` reads it.

    Args:
        source: "digits" or a path.
        split: the part that is wanted; None for all of it.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return load(source, split)
    except ValueError as error:
        raise ValueError(f"data is {source}: {error}") from None


def claims_of(path: str, catalogue: Sequence[Claim]) -> list[Selected]:
    """The claims that a Python file defines, as :func:`defined_claims` finds them: at least one.

    Args:
        path: the file.
        catalogue: claims that do not count when the file imports them.

    Raises:
        ValueError: the file cannot be imported, defines no claim, or defines two of one id.
    """
    if found := defined_claims(path, catalogue):
        return found
    raise ValueError(f"selection is {path}, which defines no claim; it takes a file with a Claim at its top level")


def defined_claims(path: str, catalogue: Sequence[Claim]) -> list[Selected]:
    """The claims that a Python file defines at its top level, alone or in a list or tuple.

    Args:
        path: the file. It is imported, with its folder at the end of the import path.
        catalogue: claims that do not count when the file imports them.

    Raises:
        ValueError: the file cannot be imported, or defines two claims of one id.
    """
    module, crc32 = imported(path)
    shipped = {id(claim) for claim in catalogue}
    found: dict[int, Claim] = {}
    for value in vars(module).values():
        for claim in value if isinstance(value, list | tuple) else (value,):
            if isinstance(claim, Claim) and id(claim) not in shipped:
                found[id(claim)] = claim
    claims = [Selected(claim, f"{path}::{claim.id}", crc32) for claim in found.values()]
    _check_unique(claims, path)
    return claims


def imported(path: str, argument: str = "selection", *, x64: bool = True) -> tuple[ModuleType, int]:
    """The module of a user's file, and a checksum of the file and of what it imports from its folder.

    Args:
        path: the file. Its folder is put at the end of the import path.
        argument: what names it in messages.
        x64: whether JAX's double precision is on meanwhile, so that arrays which the file makes have it.

    Raises:
        ValueError: the file cannot be read or imported.
    """
    file = Path(path)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{argument} is {path}, which cannot be read ({error.strerror}); it takes a Python file that can be read"
        ) from None
    # The checksum in the name keeps it apart from installed packages.
    name = f"{file.stem}_{zlib.crc32(str(file.resolve()).encode()):08x}"
    loader = importlib.machinery.SourceFileLoader(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None  # there is a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end, so that the files beside it shadow nothing
    try:
        with jax.enable_x64(x64):
            # The text that was read, whose checksum counts: cached bytecode may be of a text one second older.
            exec(loader.source_to_code(text, str(file)), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(
            f"{argument} is {path}, which fails to import with {reason(error, path)}; "
            "it takes a Python file that can be imported"
        ) from error
    return module, zlib.crc32(b"".join([text, *(other.read_bytes() for other in _neighbours(file))]))


def reason(error: BaseException, path: str | None = None) -> str:
    """What an exception says, in one line.

    Args:
        error: the exception.
        path: a file of the user; the last of its lines that the exception passed through is named.

    >>> reason(ValueError("no such case"))
    'ValueError: no such case'
    """
    if isinstance(error, SyntaxError):
        line, message = error.lineno, error.msg
    else:
        file = None if path is None else Path(path).resolve()
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if Path(frame.filename).resolve() == file), None)
        message = next(iter(str(error).strip().splitlines()), "")
    where = f" ({path}, line {line})" if path is not None and line is not None else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{where}"


def _neighbours(file: Path) -> list[Path]:
    """The imported modules that lie in the folder of a file, without the file itself."""
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = [Path(name) for name in names if name and name.endswith(".py")]
    own = file.resolve()
    # Thousands of modules lie in few folders, and to resolve a path asks the system about each of its parts.
    here = {folder for folder in {other.parent for other in files} if folder.resolve() == own.parent}
    return sorted({other.resolve() for other in files if other.parent in here} - {own})


def _matching(pattern: str, items: Sequence[Selected], owner: str) -> list[Selected]:
    """The claims of an owner (the catalogue or a file) whose ids match a pattern."""
    if found := [item for item in items if fnmatchcase(item.claim.id, pattern)]:
        return found
    families = sorted({item.claim.family + "/*" for item in items})
    if any(mark in pattern for mark in "*?["):
        raise ValueError(
            f"selection is {pattern!r}, which matches nothing; it takes a pattern of the ids in {owner}: "
            f"{', '.join(families) or 'there are none'}"
        )
    ids = [item.claim.id for item in items]
    near = difflib.get_close_matches(pattern, [*ids, *families], n=3, cutoff=0.5)
    known = "; `sketchprune list` shows those of the catalogue" if owner == CATALOGUE_NAME else f", of {', '.join(ids)}"
    hint = f" (nearest: {', '.join(near)})" if near else known
    raise ValueError(f"selection is {pattern!r}, an unknown claim; it takes an id or a pattern{hint}")


def _check_unique(items: Iterable[Selected], owner: str):
    """Refuse two claims of one id."""
    seen: dict[str, Selected] = {}
    for item in items:
        other = seen.setdefault(item.claim.id, item)
        if other is not item:
            where = f" ({other.argument} and {item.argument})" if other.argument != item.argument else ""
            raise ValueError(f"id is {item.claim.id!r} twice in {owner}{where}; it takes ids that differ")
