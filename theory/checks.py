"""Checks of what a claim is made of: its fields when it is built, its instances, and the sides of its trial.

Every message names the claim and what of it is wrong, in one sentence: what it is, and what it takes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from theory.kinds.kind import STATEMENT, Kind

if TYPE_CHECKING:
    from theory.claim import Case, Claim, Instance, Sides, Source

_MAX_SHOWN = 80


def shown(value: Any) -> str:
    """A value in a message: a class as such, anything else as Python writes it, cut where it is long."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def require(holds: bool, name: str, value: Any, takes: str):
    """Raise ValueError unless the condition holds.

    Args:
        holds: the condition.
        name: what the argument or field is called.
        value: what it is.
        takes: what it takes.
    """
    if not holds:
        raise ValueError(f"{name} is {shown(value)}; it takes {takes}")


def check_source(source: "Source"):
    """Refuse fields of a source that are of another type."""
    require(
        isinstance(source.key, str) and bool(source.key.strip()),
        "key of a source",
        source.key,
        "a key of references.bib, or what the paper is called",
    )
    words = get_args(type(source).__annotations__["status"])
    require(source.status in words, f"status of the source {source.key!r}", source.status, _one_of(words))
    require(isinstance(source.locus, str), f"locus of the source {source.key!r}", source.locus, "a text")


def check_case(case: "Case"):
    """Refuse fields of a case that are of another type."""
    require(isinstance(case.name, str) and bool(case.name), "name of a case", case.name, "a text")
    try:
        case.name.format(data="")
    except (LookupError, ValueError):
        require(False, "name of a case", case.name, "a text in which braces stand in {data} alone")
    require(callable(case.make), f"make of the case {case.name!r}", case.make, "a function (rng, dataset) -> instance")
    for flag in ("enumerable", "control", "long"):
        value = getattr(case, flag)
        require(isinstance(value, bool), f"{flag} of the case {case.name!r}", value, "True or False")
    require(isinstance(case.stream, str), f"stream of the case {case.name!r}", case.stream, "a text")


def check_fields(claim: "Claim"):
    """Refuse fields of a claim that are of another type; its id is known to be one."""
    from theory.claim import Case, Expected, Source

    def field(name: str, holds: bool, takes: str):
        require(holds, f"{name} of {claim.id}", getattr(claim, name), takes)

    for name in ("title", "statement", "note"):
        field(name, isinstance(getattr(claim, name), str), "a text")
    field("sources", _all_are(claim.sources, Source), "a tuple of Source")
    field("kind", isinstance(claim.kind, Kind), "an object of a kind of claim, such as Bound()")
    field("cases", _all_are(claim.cases, Case), "a tuple of Case")
    field("trial", callable(claim.trial), "a function (instance, outcome) -> {'claim': Sides, ...}")
    field("mutants", _all_are(claim.mutants, str), "a tuple of names, such as ('half',)")
    field("draw", callable(claim.draw), "a function (instance, key) -> outcome")
    field("outcomes", claim.outcomes is None or callable(claim.outcomes), "a function, or None")
    field("prepare", callable(claim.prepare), "a function instance -> instance")
    named = isinstance(claim.hypotheses, Mapping) and all(
        isinstance(name, str) and callable(holds) for name, holds in claim.hypotheses.items()
    )
    field("hypotheses", named, "a dictionary of predicates by name, {'x is not zero': lambda instance: ...}")
    field(
        "expected",
        claim.expected is None or claim.expected in get_args(Expected),
        f"None, {_one_of(get_args(Expected))}",
    )
    whole = isinstance(claim.batch, int | np.integer) and not isinstance(claim.batch, bool)
    field("batch", whole and claim.batch >= 1, "a whole number >= 1")


def stack_instances(claim: "Claim", case: "Case", instances: "Sequence[Instance]") -> "Instance":
    """The instances of a case on a new leading axis.

    Args:
        claim: whose kind may name fields of an instance.
        case: what made them.
        instances: at least one.

    Raises:
        ValueError: an instance holds what is no array of numbers, another instance has another shape, or the kind
            names a field that an instance does not have.
    """
    whose = f"case {case.name!r} of {claim.id}"
    first, _ = jax.tree_util.tree_flatten_with_path(instances[0])
    if not first:
        raise ValueError(f"an instance of {whose} is {shown(instances[0])}; it takes a record of arrays")
    for path, leaf in first:
        dtype = np.asarray(leaf).dtype
        if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
            name = jax.tree_util.keystr(path).lstrip(".") or "all"
            raise ValueError(f"{name} of an instance of {whose} is {shown(leaf)}; it takes an array of numbers")
    shapes = _shapes(instances[0])
    for number, instance in enumerate(instances):
        if _shapes(instance) != shapes or jax.tree.structure(instance) != jax.tree.structure(instances[0]):
            raise ValueError(
                f"instance {number} of {whose} has the shapes {_shapes(instance)}, and instance 0 has {shapes}; "
                "it takes instances of one structure and shape, padded where needed"
            )
    for field in claim.kind.searched_fields:
        _check_searched(instances[0], field, whose)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *instances)


def _check_searched(instance: "Instance", field: str, whose: str):
    """Refuse a field that the search for counterexamples cannot move."""
    fields = getattr(instance, "__dict__", {}) if hasattr(instance, "replace") else {}
    movable = [name for name, value in fields.items() if _is_floating(value)]
    if field not in movable:
        raise ValueError(
            f"search of {whose} names {field!r}; it takes floating arrays among the fields of the instance, a "
            f"flax.struct record: {', '.join(movable) or 'there are none'}"
        )


def check_sides(claim: "Claim", named: "Mapping[str, Sides]"):
    """Refuse what a trial returns unless it is the sides of the claim and its mutants, as its kind takes them.

    Args:
        claim: the claim.
        named: what its trial returned, traced.

    Raises:
        ValueError: naming the claim, the statement and the side.
    """
    from theory.claim import Sides

    expected = sorted((STATEMENT, *claim.mutants))
    whose = f"trial of {claim.id}"
    if not isinstance(named, Mapping):
        raise ValueError(f"{whose} returned {shown(named)}; it takes a dictionary of the sides {expected}")
    if sorted(map(str, named)) != expected:
        raise ValueError(f"{whose} returned the sides {sorted(map(str, named))}; it takes {expected}")
    for name, sides in named.items():
        if not isinstance(sides, Sides):
            raise ValueError(f"{name!r} in the {whose} is {shown(sides)}; it takes Sides(measured, theory)")
        for field, side in sides._asdict().items():
            if side is not None:
                _check_side(f"{field} of {name!r} in the {whose}", side)
            elif field in ("measured", "theory", *claim.kind.required_sides):
                raise ValueError(f"{field} of {name!r} in the {whose} is None; it takes an array")
        _check_shapes(name, sides, whose)


def _check_side(name: str, side: Any):
    """Refuse what is no array of floating numbers."""
    try:
        dtype = jnp.result_type(side)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {shown(side)}; it takes an array of floating numbers") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} has dtype {dtype}; it takes floating numbers")


def _check_shapes(name: str, sides: "Sides", whose: str):
    """Refuse sides that do not broadcast to one shape, or have no entries."""
    shapes = {field: jnp.shape(side) for field, side in sides._asdict().items() if side is not None}
    misfit = f"sides of {name!r} in the {whose} have the shapes {shapes}; it takes shapes that broadcast"
    try:
        shape = jnp.broadcast_shapes(shapes["measured"], shapes["theory"])
        fits = all(jnp.broadcast_shapes(shape, other) == shape for other in shapes.values())
    except ValueError:
        raise ValueError(misfit) from None
    if not fits:
        raise ValueError(misfit)
    if 0 in shape:
        raise ValueError(f"sides of {name!r} in the {whose} have the shape {shape}; it takes at least one number")


def check_hypothesis(claim_id: str, name: str, value: Any):
    """Refuse what a hypothesis returns unless it is a boolean; a NaN would count as met."""
    if jnp.result_type(value) != jnp.bool_:
        raise ValueError(f"hypothesis {name!r} of {claim_id} returns {jnp.result_type(value)}; it takes booleans")


def check_probabilities(case: str, totals: np.ndarray, least: np.ndarray, admissible: np.ndarray):
    """Refuse probabilities of enumerated outcomes that are negative, or do not sum to one.

    Args:
        case: names the case and the claim.
        totals: [instances, columns], their sums.
        least: [instances, columns], the smallest of each column.
        admissible: which instances met the hypotheses.
    """
    tolerance = float(np.sqrt(np.finfo(totals.dtype).eps))
    totals, least = totals[admissible], least[admissible]
    wrong = ~(abs(totals - 1) <= tolerance)
    if wrong.any():
        raise ValueError(f"probabilities of outcomes in {case} sum to {totals[wrong][0]:.9g}; it takes a sum of one")
    if (least < 0).any():
        raise ValueError(f"probabilities of outcomes in {case} have the entry {least.min():.3g}; it takes numbers >= 0")


def _all_are(values: Any, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


def _one_of(words: Sequence[str]) -> str:
    return " or ".join(map(repr, words))


def _is_floating(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | jax.Array) and jnp.issubdtype(value.dtype, jnp.floating)


def _shapes(instance: "Instance") -> Any:
    """The shape of each array of an instance, by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(instance)
    return {jax.tree_util.keystr(path).lstrip("."): np.shape(leaf) for path, leaf in leaves}
