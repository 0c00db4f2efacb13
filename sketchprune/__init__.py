"""Pruning at initialisation as pure functions on pytrees: masks, sketches, kernels, paths, search.

Modules load on first use, so ``import sketchprune`` costs nothing.
"""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"
__all__ = [module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]  # pyright: ignore[reportUnsupportedDunderAll] - it reads literal lists only


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
