"""Theorems as data, and the verifier that measures them.

Names load on first use; importing the catalogue runs no JAX operation.
"""

import importlib
from typing import Any

_HOME = {
    "CATALOGUE": "theory.catalogue",
    "verify": "theory.verify",
    **{
        name: "theory.claim"
        for name in (
            "Bound", "Case", "Claim", "Effect", "Expectation", "Identity", "Probability", "Rate", "Sides", "Source",
        )
    },
    **{name: "theory.verdict" for name in ("TIERS", "CaseVerdict", "Tier", "Verdict")},
}  # fmt: skip
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
