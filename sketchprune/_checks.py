"""Checks of arguments: nothing is checked while a value is traced, for it does not exist yet.

Every public function documents what it returns under ``jit``, ``vmap`` and ``grad`` for input that it refuses
otherwise.
All messages have one form: what the argument is called, what it is, and what it may be.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from sketchprune._arithmetic import count_true


def concrete(value: Any) -> np.ndarray | None:
    """``value`` as a NumPy array, or None while it is traced."""
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return None


def traced(value: Any) -> bool:
    """Whether the value is traced; nothing is copied from a device to find out."""
    try:
        getattr(value, "is_fully_addressable", None)
    except jax.errors.ConcretizationTypeError:
        return True
    return False


def floating_leaves(name: str, tree: PyTree) -> tuple[list[str], list[Any], Any]:
    """The leaves of a pytree of floating arrays, the name of each in messages, and the structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    if not leaves:
        raise ValueError(f"{name} is a pytree without arrays; it takes at least one")
    names = [name + jax.tree_util.keystr(path) for path, _ in leaves]
    for label, (_, leaf) in zip(names, leaves, strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{label} has dtype {jnp.result_type(leaf)}; it takes floating numbers")
    return names, [leaf for _, leaf in leaves], structure


def same_structure(
    name: str, tree: PyTree, other: str, reference: PyTree, *, is_leaf: Callable[[Any], bool] | None = None
) -> None:
    """Refuses a pytree of another structure than the reference, and names the first leaf that differs."""
    if jax.tree.structure(tree, is_leaf) == jax.tree.structure(reference, is_leaf):
        return
    found, expected = (
        [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(each, is_leaf)]
        for each in (tree, reference)
    )
    missing, added = (
        next((path for path in paths if path not in others), None)
        for paths, others in ((expected, set(found)), (found, set(expected)))
    )
    if "" in (missing, added):
        fault = "is one leaf" if added == "" else "is no single leaf"
    elif missing is not None:
        fault = f"has no leaf {missing}"
    elif added is not None:
        fault = f"has a leaf {added}"
    else:
        fault = "has the leaves in other containers, such as a list in the place of a tuple"
    raise ValueError(f"{name} {fault}; it takes the structure of {other}")


def same_shapes(name: str, tree: PyTree, other: str, reference: PyTree, *, dtypes: bool = False) -> None:
    """Refuses a pytree whose leaves have other paths, shapes or (where asked for) dtypes; names the first one."""
    same_structure(name, tree, other, reference)
    leaves = zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(reference), strict=True)
    for (path, leaf), own in leaves:
        label = name + jax.tree_util.keystr(path)
        if jnp.shape(leaf) != jnp.shape(own):
            raise ValueError(f"{label} has shape {jnp.shape(leaf)}; it takes that of {other}, {jnp.shape(own)}")
        if dtypes and jnp.result_type(leaf) != jnp.result_type(own):
            found, expected = jnp.result_type(leaf), jnp.result_type(own)
            raise ValueError(f"{label} has dtype {found}; it takes that of {other}, {expected}")


class Facts(NamedTuple):
    """What is known of all entries of a pytree together; only these numbers come to the host.

    Attributes:
        positive: the number of entries > 0; a device that takes subnormal numbers for 0 does so here.
        above_one: the number of entries > 1.
        total: the sum.
    """

    positive: int
    above_one: int
    total: float


@jax.jit
def _facts(leaves: list[Array]) -> list[tuple[Array, Array]]:
    """For each leaf how many entries are no weights, are > 0 and are > 1; and the sum."""
    raised = [leaf.astype(jnp.promote_types(jnp.result_type(leaf), jnp.float32)) for leaf in leaves]
    # Counted, because on a CPU a maximum over many numbers drops a NaN: https://github.com/openxla/xla/issues/21461
    return [(count_true(~((leaf >= 0) & (leaf < jnp.inf)), leaf > 0, leaf > 1), leaf.sum()) for leaf in raised]


def weights(name: str, tree: PyTree) -> Facts | None:
    """Facts of the entries, which must be finite and not negative; None while one of them is traced."""
    names, leaves, _ = floating_leaves(name, tree)
    known = {label: leaf for label, leaf in zip(names, leaves, strict=True) if not traced(leaf)}
    if not known:
        return None
    with jax.ensure_compile_time_eval():  # a traced function may close over a law that is known
        found = [tuple(map(np.asarray, facts)) for facts in _facts(list(map(jnp.asarray, known.values())))]
    for (label, leaf), (counts, _) in zip(known.items(), found, strict=True):
        if counts[0]:
            values = np.asarray(leaf)
            wrong = values[~((values >= 0) & (values < np.inf))]
            raise ValueError(f"{label} has the entry {wrong[0]}; it takes finite numbers >= 0")
    if len(known) < len(leaves):
        return None
    _, positive, above_one = np.sum([counts for counts, _ in found], axis=0)
    return Facts(int(positive), int(above_one), float(sum(total for _, total in found)))


def probabilities(name: str, tree: PyTree) -> None:
    """Refuses what is no weight, and weights whose sum is not 1 within √eps of the coarsest dtype among the leaves."""
    facts = weights(name, tree)
    eps = max(float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in jax.tree.leaves(tree))
    if facts is not None and abs(facts.total - 1) > eps**0.5:
        raise ValueError(f"{name} sums to {facts.total}; it takes probabilities that sum to one")


def rates(name: str, tree: PyTree) -> None:
    """Refuses entries outside [0, 1]."""
    facts = weights(name, tree)
    if facts is not None and facts.above_one:
        largest = max(np.max(leaf, initial=0) for leaf in map(np.asarray, jax.tree.leaves(tree)))
        raise ValueError(f"{name} has the entry {largest}; it takes inclusion probabilities in [0, 1]")


def whole(name: str, value: Any, *, least: int) -> np.ndarray | None:
    """The value, which must be a whole number (or an array of them) >= ``least``; None while it is traced."""
    values = concrete(value)
    if values is not None and (not np.issubdtype(values.dtype, np.integer) or (values.size and values.min() < least)):
        raise ValueError(f"{name} is {value}; it takes a whole number >= {least}")
    return values


def interval(name: str, value: Any, *, closed: bool) -> None:
    """Refuses numbers outside (0, 1), or outside (0, 1] when ``closed``."""
    values = concrete(value)
    if values is not None and not ((values > 0) & ((values <= 1) if closed else (values < 1))).all():
        raise ValueError(f"{name} is {value}; it takes a number in (0, 1{']' if closed else ')'}")


def positive(name: str, value: Any) -> None:
    """Refuses what is not a finite number > 0 (or an array of them)."""
    values = concrete(value)
    if values is not None and not ((values > 0) & (values < np.inf)).all():
        raise ValueError(f"{name} is {value}; it takes a finite number > 0")


def finite(name: str, value: Any) -> None:
    """Refuses entries that are NaN or infinite."""
    values = concrete(value)
    if values is not None and not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)]
        raise ValueError(f"{name} has the entry {wrong[0]}; it takes finite numbers")


def needed(key: Any, why: str) -> Any:
    """The key, which must be given."""
    if key is None:
        raise ValueError(f"key is None; it takes a key, {why}")
    return key


def steps(step_size: Any, counts: Any) -> None:
    """Refuses what is not one finite step size > 0 with whole numbers of steps."""
    whole("steps", counts, least=0)
    positive("step_size", step_size)
    if jnp.ndim(step_size):
        raise ValueError(f"step_size has shape {jnp.shape(step_size)}; it takes one number")
