"""The journal of a run: one line of JSON for each verdict, so that a kill loses at most the claim in hand."""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sketchprune._files import strict_json, write_atomically
from theory.report.run import SCHEMA, Run, Selected
from theory.verdict import Verdict

NAME = "verdicts.jsonl"
"""The journal's file in the folder of a report. Its first line holds the settings of the run."""

ClaimKey = tuple[str, int | None]
"""What tells claims of a journal apart: the argument, and the checksum of the user's file."""


def key(item: Selected) -> ClaimKey:
    """The key of a claim in a journal."""
    return item.argument, item.file_crc32


def begin(folder: Path, run: Run, *, resume: bool) -> dict[ClaimKey, Verdict]:
    """Open the journal of a folder, and return the verdicts that it holds already.

    Without ``resume`` the journal starts empty.

    Args:
        folder: the folder of the report; it is made if it does not exist.
        run: the settings of this run.
        resume: whether to go on with the run that the folder holds.

    Raises:
        ValueError: the folder cannot be written, its journal cannot be read, or it is the journal of another run.
    """
    path = folder / NAME
    lines = _complete_lines(path) if resume else []
    if lines:
        _check_same_run(folder, run, lines[0])
        verdicts = _verdicts(path, lines[1:])
    else:
        lines, verdicts = [asdict(run)], {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Writing the complete lines anew drops a line that a kill cut short.
        write_atomically(path, "".join(map(_line, lines)))
    except OSError as error:
        raise ValueError(
            f"out is {folder}, which cannot be written ({error.strerror}); it takes a folder that can be written"
        ) from None
    return verdicts


def read(folder: Path) -> tuple[Run, dict[ClaimKey, Verdict]]:
    """The run whose journal a folder holds, and its verdicts.

    Raises:
        ValueError: there is no journal, or it cannot be read, or it is one of another version of its fields.
    """
    path = folder / NAME
    lines = _complete_lines(path)
    if not lines:
        raise ValueError(f"folder is {folder}, which holds no {NAME}; it takes a folder that verify wrote")
    try:
        run = Run(**lines[0])
    except TypeError as error:
        raise _damaged(path, 1, error) from None
    if run.schema != SCHEMA:
        raise ValueError(f"folder is {folder}, whose schema is {run.schema}; it takes schema {SCHEMA}")
    return run, _verdicts(path, lines[1:])


def append(folder: Path, item: Selected, verdict: Verdict):
    """Add a verdict to the journal. It is on disk when this returns.

    Raises:
        OSError: the disk is full, for example, or the journal is not there any more.
    """
    entry = {"argument": item.argument, "file_crc32": item.file_crc32, "verdict": strict_json(asdict(verdict))}
    with open(folder / NAME, "r+", encoding="utf-8") as file:  # unlike "a" this makes no journal without a header
        file.seek(0, os.SEEK_END)
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())


def setting_differences(run: Run, header: Any) -> list[str]:
    """How the settings of a run and those in a journal's first line differ, in words.

    Args:
        run: the run that is compared with.
        header: the first line of the journal, or the fields of another run.
    """
    if not (isinstance(header, dict) and isinstance(header.get("versions"), dict)):
        return ["its first line is no header"]
    ours = _flat_settings(asdict(run))
    theirs = _flat_settings(header)
    names = {"data_crc32": "checksum of data"}
    return [
        f"{names.get(name, name)} {theirs.get(name)}, not {value}"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]


def _line(entry: Any) -> str:
    """An entry as a line, with a checksum of the line without it as the last field."""
    return _text(entry | {"crc32": zlib.crc32(_text(entry).encode())}) + "\n"


def _text(entry: Any) -> str:
    return json.dumps(entry, allow_nan=False, separators=(",", ":"))


def _entry(line: str) -> dict[str, Any]:
    """The entry of a line. Raises ValueError where the checksum is not that of the rest."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("it is no entry")
    crc32 = entry.pop("crc32", None)
    if crc32 != zlib.crc32(_text(entry).encode()):
        raise ValueError("its checksum is wrong")
    return entry


def _complete_lines(path: Path) -> list[Any]:
    """The complete lines of a journal; none if there is no journal."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"out holds {path}, which cannot be read ({error}); it takes another folder") from None
    entries = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            entries.append(_entry(line))
        except ValueError as error:
            raise _damaged(path, number, error) from None
    return entries


def _verdicts(path: Path, entries: list[Any]) -> dict[ClaimKey, Verdict]:
    """The verdicts of a journal's lines after the first."""
    verdicts = {}
    for number, entry in enumerate(entries, 2):
        try:
            verdicts[entry["argument"], entry["file_crc32"]] = Verdict.from_json(entry["verdict"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, number, error) from None
    return verdicts


def _damaged(path: Path, number: int, error: Exception) -> ValueError:
    return ValueError(
        f"out holds {path}, whose line {number} is no line of a journal ({error}); "
        "it takes another folder, or a start without --resume"
    )


def _check_same_run(folder: Path, run: Run, header: Any):
    """Refuse a journal whose first line does not hold the settings of this run."""
    if differences := setting_differences(run, header):
        raise ValueError(
            f"out is {folder}, which holds verdicts of another run ({'; '.join(differences)}); "
            "it takes the settings of that run, another --out, or a start without --resume"
        )


def _flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with each version as a setting of its own."""
    return {**settings, **settings["versions"], "versions": None}
