"""The folder of ``sketchprune search``: whether a search may begin or go on in it, and how far the one there came."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sketchprune._files import write_atomically

SETTING_FILE = "setting.json"
"""Lies beside the checkpoints, so that it goes when they are deleted."""


def checkpoint_folder(out: Path) -> Path:
    """The folder of the checkpoints."""
    return out / "checkpoint"


def masks_done(out: Path) -> int:
    """How many masks the newest checkpoint covers; 0 where there is none."""
    # A checkpoint is a folder that is named by this number; one that a kill cut short has another name.
    names = (path.name for path in checkpoint_folder(out).glob("*") if path.is_dir())
    return max((int(name) for name in names if name.isdecimal()), default=0)


def open_folder(out: Path, setting: Mapping[str, Any], *, resume: bool) -> int:
    """Open the folder for a search of this setting, and say how many masks are done. Deletes nothing.

    Args:
        out: the folder.
        setting: what names the search.
        resume: whether a search that is there is to go on.

    Returns:
        How many masks the checkpoint there covers; 0 where there is none.

    Raises:
        ValueError: where the folder cannot be written, holds a checkpoint that is not to be resumed, or one of another
            setting.
    """
    folder = checkpoint_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = masks_done(out)
        if done and not resume:
            raise ValueError(
                f"out is {out}, where {folder} holds a checkpoint of {done:,} masks; "
                f"it takes --resume to go on from it, another --out, or a start after you delete {folder}"
            )
        if done and (differences := _differences(folder / SETTING_FILE, setting)):
            raise ValueError(
                f"out is {out}, where {folder} is of another search ({'; '.join(differences)}); "
                "it takes the settings of that search, or another --out"
            )
        if not done:
            write_atomically(folder / SETTING_FILE, json.dumps(setting, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"out is {out}: {error.strerror}; it takes a folder that can be written") from None
    return done


def _differences(path: Path, setting: Mapping[str, Any]) -> list[str]:
    """Where the setting in the file and this one differ; nothing where there is no file."""
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
            f"out is {path}, which is no setting: {error!r}; "
            f"it takes another --out, or a start after you delete {path.parent}"
        ) from None
