"""What a benchmark has found, kept as JSON, so that a run that was interrupted goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sketchprune._files import write_atomically

FOLDER = Path(__file__).parent / "results"


def load(file: Path) -> dict[str, Any]:
    """What was kept in a file; nothing where there is none."""
    return json.loads(file.read_text()) if file.exists() else {}


def keep(file: Path, found: Mapping[str, Any]):
    """Write what was found, in place of what was kept before."""
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
