"""Theorems as data, and the verifier that measures them.

Names load on first use; importing the catalogue runs no JAX operation.
"""

import importlib
from typing import Any

_HOMES = {
    "theory.catalogue": ("CATALOGUE",),
    "theory.claim": ("Axis", "Case", "Claim", "Sides", "Source", "along"),
    "theory.testing": ("check_claim",),
    "theory.verdict": ("TIERS", "CaseVerdict", "Certificate", "Decision", "Replay", "Tier", "Verdict"),
    "theory.verification": ("verify",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name[:1].isupper() and name in _kinds():
        return getattr(importlib.import_module("theory.kinds"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOME, *_kinds()])


def _kinds() -> tuple[str, ...]:
    """Names of the kinds of claims that ship."""
    return tuple(kind.__name__ for kind in importlib.import_module("theory.kinds").KINDS)
