"""The libraries that benchmarks compare with, which are no dependencies of the project."""

import importlib
from typing import Any

from benchmarks._record import Row, Target


def torch() -> Any:
    """PyTorch, or None where it cannot be imported."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def absent(what: str, by: str, target: Target | None = None) -> Row:
    """The row of a peer that cannot be imported: its target is not measured.

    Args:
        what: the thing that it would have done.
        by: the peer.
        target: what was asked.
    """
    return Row(what, by, target=target, note="cannot be imported")
