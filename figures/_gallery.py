"""The gallery of a folder: every figure in it with its caption and what was found of its claims."""

import json
from pathlib import Path
from typing import Any

from sketchprune._files import write_atomically

_HEAD = """# Gallery

Each figure comes with the plotted numbers (CSV), a PDF, and how it was made (JSON).
"""


def write_gallery(folder: Path) -> None:
    """Write gallery.md, which shows the figures that a folder holds.

    Args:
        folder: the folder.
    """
    sections = [
        _section(folder, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("*.json"))
        if path.with_suffix(".png").exists()
    ]
    write_atomically(folder / "gallery.md", "\n".join([_HEAD, *sections]))


def _section(folder: Path, sidecar: dict[str, Any]) -> str:
    """A figure: its picture, its caption, its claims and its files."""
    name = sidecar["figure"]
    words = [f"`{claim}`: {found['verdict']}" for claim, found in sidecar["claims"].items()]
    claims = f"\n\nClaims: {', '.join(words)}." if words else ""
    samples = f"{sidecar['data']['samples']:,} samples of {sidecar['data']['name']}"
    files = " · ".join(f"[{suffix}]({name}.{suffix})" for suffix in ("pdf", "csv", "json"))
    return (
        f"## {name}\n\n![{name}]({name}.png)\n\n{sidecar['caption']}{claims}\n\n"
        f"Scale {sidecar['scale']}, seed {sidecar['seed']}, {samples} · {files}\n"
    )
