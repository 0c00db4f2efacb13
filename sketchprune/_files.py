"""Files that are replaced in one step, and values as strict JSON holds them."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etils import epath


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content in one step: whoever reads the file sees the old content or the new.

    Args:
        path: the file; its folder exists.
        content: the new content; text is written as UTF-8.

    Raises:
        OSError: when the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def folder_path(folder: str | os.PathLike) -> "epath.Path":
    """The absolute path of a folder, on this machine or in a cloud's storage (gs://bucket/folder).

    >>> str(folder_path("gs://bucket/folder"))
    'gs://bucket/folder'
    """
    from etils import epath  # slow to import

    path = epath.Path(folder)
    return path if in_a_cloud(path) else path.absolute()


def in_a_cloud(path: os.PathLike) -> bool:
    """Whether a path is in a cloud's storage, and not on this machine."""
    return "://" in os.fspath(path)


def strict_json(value: Any) -> Any:
    """The value as strict JSON holds it: arrays become lists, and numbers that are not finite become None.

    >>> strict_json({"measured": float("inf"), "interval": (0.5, float("nan"))})
    {'measured': None, 'interval': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): strict_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(item) for item in value]
    if hasattr(value, "tolist"):
        return strict_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
