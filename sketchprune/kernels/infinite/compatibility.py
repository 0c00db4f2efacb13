"""neural-tangents on current JAX: the one place that touches the names which JAX has moved."""

import contextlib
import functools
import importlib
import importlib.metadata
import sys
import types
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import jax.core
import jax.extend
import jax.interpreters.ad

NEURAL_TANGENTS = "0.6.5"
"""The version of neural-tangents that this module is written for."""


def _safe_map(f: Any, *lists: Any) -> list[Any]:
    return [f(*items) for items in zip(*lists, strict=True)]


def _safe_zip(*lists: Any) -> list[Any]:
    return list(zip(*lists, strict=True))


@contextlib.contextmanager
def _lent_names() -> Iterator[None]:
    """While open, JAX has the names that neural-tangents 0.6.5 reads at import and that JAX has moved since then."""
    moved = ("Jaxpr", "JaxprEqn", "ClosedJaxpr", "Literal", "Primitive", "Var")
    util = types.ModuleType("jax.util")
    vars(util).update(safe_map=_safe_map, safe_zip=_safe_zip)
    # The experimental part translates TensorFlow models; nothing else needs TensorFlow.
    experimental = types.ModuleType("neural_tangents.experimental")
    loans: list[tuple[dict[str, Any], str, Any]] = [
        *((jax.core.__dict__, name, getattr(jax.extend.core, name)) for name in moved),
        (jax.interpreters.ad.__dict__, "zeros_like_p", jax.extend.core.Primitive("zeros_like")),
        (jax.__dict__, "util", util),
        (sys.modules, "jax.util", util),
        (sys.modules, "neural_tangents.experimental", experimental),
    ]
    lent = [(namespace, name, value) for namespace, name, value in loans if name not in namespace]
    for namespace, name, value in lent:
        namespace[name] = value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for namespace, name, _ in lent:
            del namespace[name]


@functools.cache
def neural_tangents() -> ModuleType:
    """The neural-tangents package, imported on current JAX.

    neural-tangents 0.6.5 reads names that JAX has moved since. They are lent to it while it is imported and taken
    back afterwards, whether or not the import went well. Nothing of JAX stays changed, and ``sys.modules`` gains
    only neural-tangents and what it imports.

    Its ``experimental`` part (TensorFlow models) is left out. Of its empirical kernels the implementations
    JACOBIAN_CONTRACTION and NTK_VECTOR_PRODUCTS work, the latter with a DeprecationWarning. STRUCTURED_DERIVATIVES
    and AUTO need internals of JAX that no longer exist.

    Returns:
        The module.

    Raises:
        ImportError: The extra ``infinite`` is not installed, or the installed version cannot be imported.

    Cost:
        One import, 0.5 s; the module is kept.

    Example:
        >>> neural_tangents().__version__
        '0.6.5'
    """
    try:
        version = importlib.metadata.version("neural-tangents")
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(
            "sketchprune.kernels.infinite needs neural-tangents, which is not installed: "
            "`uv add 'sketchprune[infinite]'` or `pip install 'sketchprune[infinite]'`"
        ) from error
    before = set(sys.modules)
    try:
        with _lent_names():
            module = importlib.import_module("neural_tangents")
    except (ImportError, AttributeError) as error:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "neural_tangents":
                del sys.modules[name]
        raise ImportError(
            f"neural-tangents {version} does not import on jax {jax.__version__}: {error}. "
            f"sketchprune.kernels.infinite is written for neural-tangents {NEURAL_TANGENTS} on jax 0.10"
        ) from error
    vars(module).pop("experimental", None)
    return module
