"""Checks of argument values, made where the values are known and skipped under a trace.

Under ``jit``, ``vmap`` or ``grad`` a value does not exist yet, so nothing can be said about it; every public
function documents what it returns then.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def concrete(value: Any) -> np.ndarray | None:
    """``value`` as a NumPy array, or None while it is traced."""
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def floating_leaves(name: str, tree: PyTree) -> tuple[list[str], list[Any], Any]:
    """The leaves of a pytree of floating arrays, what messages call each of them, and the structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    if not leaves:
        raise ValueError(f"{name} is a pytree without arrays; it takes at least one")
    names = [name + jax.tree_util.keystr(path) for path, _ in leaves]
    for label, (_, leaf) in zip(names, leaves, strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{label} has dtype {jnp.result_type(leaf)}; it takes floating numbers")
    return names, [leaf for _, leaf in leaves], structure


def weights(name: str, tree: PyTree) -> np.ndarray | None:
    """All entries in leaf order, finite and not negative, or None while one of them is traced."""
    names, leaves, _ = floating_leaves(name, tree)
    known = [concrete(leaf) for leaf in leaves]
    for label, values in zip(names, known, strict=True):
        if values is not None and (wrong := values[~((values >= 0) & (values < np.inf))]).size:
            raise ValueError(f"{label} has the entry {wrong[0]}; it takes finite numbers >= 0")
    if any(values is None for values in known):
        return None
    return np.concatenate([values.ravel() for values in known if values is not None])


def probabilities(name: str, tree: PyTree) -> np.ndarray | None:
    """The entries, which must be probabilities: they sum to one within √eps of their dtype."""
    values = weights(name, tree)
    if values is not None:
        total = float(values.sum(dtype=np.float64))
        if abs(total - 1) > float(jnp.finfo(values.dtype).eps) ** 0.5:
            raise ValueError(f"{name} sums to {total}; it takes probabilities that sum to one")
    return values


def rates(name: str, tree: PyTree) -> np.ndarray | None:
    """The entries, which must lie in [0, 1]."""
    values = weights(name, tree)
    if values is not None and (values > 1).any():
        raise ValueError(f"{name} has the entry {values.max()}; it takes inclusion probabilities in [0, 1]")
    return values


def whole(name: str, value: Any, *, least: int) -> np.ndarray | None:
    """A whole number (or an array of them), none smaller than ``least``."""
    values = concrete(value)
    if values is not None and (not np.issubdtype(values.dtype, np.integer) or (values.size and values.min() < least)):
        raise ValueError(f"{name} is {value}; it takes a whole number >= {least}")
    return values


def interval(name: str, value: Any, *, closed: bool) -> None:
    """A number in (0, 1), or in (0, 1] when ``closed``."""
    values = concrete(value)
    if values is not None and not ((values > 0) & ((values <= 1) if closed else (values < 1))).all():
        raise ValueError(f"{name} is {value}; it takes a number in (0, 1{']' if closed else ')'}")


def positive(name: str, value: Any) -> None:
    """A finite number > 0 (or an array of them)."""
    values = concrete(value)
    if values is not None and not ((values > 0) & (values < np.inf)).all():
        raise ValueError(f"{name} is {value}; it takes a finite number > 0")


def steps(step_size: Any, counts: Any) -> None:
    """One finite step size > 0, and whole numbers of steps."""
    whole("steps", counts, least=0)
    positive("step_size", step_size)
    if jnp.ndim(step_size):
        raise ValueError(f"step_size has shape {jnp.shape(step_size)}; it takes one number")
