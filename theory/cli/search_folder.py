"""The folder of ``sketchprune search``: whether a search may begin or go on in it, and how far the one there came."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sketchprune._files import write_atomically

NAME = "setting.json"
"""Beside the checkpoints: it goes when they are deleted."""


def checkpoints(out: Path) -> Path:
    """The folder of the checkpoints."""
    return out / "checkpoint"


def done(out: Path) -> int:
    """How many masks the newest checkpoint has behind it; 0 where there is none."""
    # A checkpoint is a folder that is named by this number; one that a kill cut short has another name.
    names = (path.name for path in checkpoints(out).glob("*") if path.is_dir())
    return max((int(name) for name in names if name.isdecimal()), default=0)


def begin(out: Path, setting: Mapping[str, Any], *, resume: bool) -> int:
    """Open the folder for a search of this setting, and say how many masks are behind it. Deletes nothing.

    ValueError where the folder cannot be written, holds a checkpoint that is not to be resumed, or one of another
    setting.
    """
    folder = checkpoints(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        behind = done(out)
        if behind and not resume:
            raise ValueError(
                f"out: {folder} holds a checkpoint of {behind:,} masks; "
                f"takes --resume to go on from it, another --out, or a start after you delete {folder}"
            )
        if behind and (differs := _differences(folder / NAME, setting)):
            raise ValueError(
                f"out: {folder} is of another search ({'; '.join(differs)}); "
                "takes the settings of that search, or another --out"
            )
        if not behind:
            write_atomically(folder / NAME, json.dumps(setting, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"out: got {out}: {error.strerror}; takes a folder that can be written") from None
    return behind


def _differences(path: Path, setting: Mapping[str, Any]) -> list[str]:
    """What the setting there and this one do not share; nothing where none is there."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        return [
            f"{name.replace('_', '-')}: {there[name]} there, {value} here"
            for name, value in setting.items()
            if there[name] != value
        ]
    except FileNotFoundError:
        return []
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"out: got {path}, which is no setting: {error!r}; "
            f"takes another --out, or a start after you delete {path.parent}"
        ) from None
