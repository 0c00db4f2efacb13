"""The folder of ``sketchprune search``: whether a search may begin or go on in it, and how far the one there came."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sketchprune._files import in_a_cloud, write_atomically

if TYPE_CHECKING:
    from etils import epath

SETTING_FILE = "setting.json"
"""Lies beside the checkpoints, so that it goes when they are deleted."""


def masks_done(folder: "epath.Path") -> int:
    """How many masks the newest checkpoint in the folder covers; 0 where there is none."""
    # A checkpoint is a folder that is named by this number; one that a kill cut short has another name.
    names = (path.name for path in folder.glob("*") if path.is_dir())
    return max((int(name) for name in names if name.isdecimal()), default=0)


def open_folder(out: Path, folder: "epath.Path", setting: Mapping[str, Any], *, resume: bool) -> int:
    """Open the folders for a search of this setting, and say how many masks are done. Deletes nothing.

    Args:
        out: the folder of the results.
        folder: the folder of the checkpoints.
        setting: what names the search.
        resume: whether a search that is there is to go on.

    Returns:
        How many masks the checkpoint there covers; 0 where there is none.

    Raises:
        ValueError: where the folder cannot be written, holds a checkpoint that is not to be resumed, or one of another
            setting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = masks_done(folder)
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
            _write(folder / SETTING_FILE, json.dumps(dict(setting), indent=1) + "\n")
    except (OSError, ImportError) as error:  # a package that a cloud's storage takes
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"checkpoint is {folder}: {reason}; it takes a folder that can be written") from None
    return done


def _write(path: "epath.Path", text: str) -> None:
    """Replace a file in one step, as a cloud's storage does anyway."""
    if in_a_cloud(path):
        path.write_text(text)
    else:
        write_atomically(Path(path), text)


def _differences(path: "epath.Path", setting: Mapping[str, Any]) -> list[str]:
    """Where the setting in the file and this one differ; nothing where there is no file."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise ValueError("no record")
        return [
            f"{name.replace('_', '-')}: {there.get(name)} there, {setting.get(name)} here"
            for name in {**setting, **there}
            if there.get(name) != setting.get(name)
        ]
    except FileNotFoundError:
        return []
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"out is {path}, which is no setting: {error!r}; "
            f"it takes another --out, or a start after you delete {path.parent}"
        ) from None
