"""What a run has found so far, on disk: a line a verdict, so that a kill loses at most the claim in hand."""

import json
import os
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sketchprune._files import strict_json, write_atomically
from theory.cli.select import Selected
from theory.verdict import LEVEL, Verdict

SCHEMA = 1
"""Version of the files' fields."""
NAME = "verdicts.jsonl"


@dataclass(frozen=True)
class Run:
    """What verdicts have in common that may stand in one report.

    Attributes:
        seed: of all random keys.
        tier: the tier's name.
        data: "digits" or the path, as it was given.
        data_crc32: checksum of the data's arrays.
        versions: of everything that the numbers depend on.
        level: probability of a wrong decision, per decision.
        schema: version of the files' fields.
    """

    seed: int
    tier: str
    data: str
    data_crc32: int
    versions: Mapping[str, str]
    level: float = LEVEL
    schema: int = SCHEMA

    def command(self, *arguments: str) -> str:
        """The command, quoted for a shell, that verifies these claims again."""
        words = ["sketchprune", "verify", *arguments, "--tier", self.tier, "--seed", str(self.seed)]
        return shlex.join(words + (["--data", self.data] if self.data != "digits" else []))


def begin(folder: Path, run: Run, *, resume: bool) -> dict[tuple[str, int | None], Verdict]:
    """Open the folder's journal; the verdicts it holds already, by argument and checksum of the file.

    Without ``resume`` the journal starts empty. Raises ValueError where the folder cannot be written, or
    holds the verdicts of another run.
    """
    lines = _lines(folder / NAME) if resume else []
    if lines and (differs := _differences(run, lines[0])):
        raise ValueError(
            f"out: {folder} holds verdicts of another run ({'; '.join(differs)}); "
            "takes the settings of that run, another --out, or a start without --resume"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A line that a kill cut short goes away here.
        write_atomically(folder / NAME, "".join(map(_line, lines or [asdict(run)])))
    except OSError as error:
        raise ValueError(f"out: got {folder}: {error.strerror}; takes a folder that can be written") from None
    return {(entry["argument"], entry["file_crc32"]): restored(entry["verdict"]) for entry in lines[1:]}


def append(folder: Path, chosen: Selected, verdict: Verdict):
    """Add a verdict to the journal; it is on disk when this returns."""
    entry = {"argument": chosen.argument, "file_crc32": chosen.file_crc32, "verdict": strict_json(asdict(verdict))}
    with open(folder / NAME, "a", encoding="utf-8") as file:
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())


def restored(entry: dict[str, Any]) -> Verdict:
    """The verdict that ``strict_json(asdict(verdict))`` stands for; its numbers that are None are NaN."""
    return Verdict.from_json(entry)


def fingerprint(arrays: Any) -> int:
    """A checksum of the arrays of a pytree, their shapes and types."""
    import jax
    import numpy as np

    crc32 = 0
    for leaf in map(np.asarray, jax.tree.leaves(arrays)):
        crc32 = zlib.crc32(f"{leaf.shape} {leaf.dtype}".encode(), crc32)
        crc32 = zlib.crc32(leaf.tobytes(), crc32)
    return crc32


def _line(entry: Any) -> str:
    return json.dumps(entry, allow_nan=False, separators=(",", ":")) + "\n"


def _lines(path: Path) -> list[Any]:
    """The complete lines of a journal; none where there is no journal."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"out: got {path}, which cannot be read: {error}") from None
    complete = text[: text.rfind("\n") + 1]
    try:
        return [json.loads(line) for line in complete.splitlines()]
    except json.JSONDecodeError as error:
        raise ValueError(f"out: got {path}, which is no journal: {error}") from None


def _differences(run: Run, header: Any) -> list[str]:
    if not (isinstance(header, dict) and isinstance(header.get("versions"), dict)):
        return ["its first line is no header"]
    ours, theirs = ({**fields, **fields["versions"], "versions": None} for fields in (asdict(run), header))
    words = {"data_crc32": "checksum of data"}
    return [
        f"{words.get(name, name)} {theirs.get(name)}, not {value}"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
