"""What a claim must satisfy before its verdict means something, checked without verifying it."""

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from sketchprune import data as datasets
from sketchprune._names import own_names
from sketchprune.data import Dataset
from theory.claim import Case, Claim, Instance
from theory.engine import Programs
from theory.instances import chance_key, make_case
from theory.kinds.kind import STATEMENT

_BIBLIOGRAPHY_KEY = re.compile(r"[a-z]+(19|20)\d\d[a-z0-9]*")
"""What a source's key looks like where it means an entry of references.bib, such as lee2019wide."""

__dir__ = own_names(__name__)


def check_claim(claim: Claim, data: Dataset | None = None, *, evaluate: bool = True) -> None:
    """Check that a claim keeps the contract of :class:`theory.Claim`.

    What is checked:

    - the statement is LaTeX that the report can show; a source that looks like a key of the bibliography is in it; a
      statement whose source is "known-false" is expected to be refuted, and every other one has mutants;
    - a case uses the data set, and says so with ``{data}`` in its name;
    - instances of a case have one shape, and are NumPy arrays;
    - hypotheses return booleans;
    - the trial can be traced; it returns the claim's sides and those of each mutant, floating arrays
      that broadcast against each other, with the fields that the kind needs and no other;
    - the two sides are independent, as far as that can be seen: neither is the other or is computed from it; and every
      mutant differs from the claim;
    - outcomes and their probabilities have one leading axis, where they are enumerated;
    - with ``evaluate``, the trial can be compiled and vmapped, sides are finite (a bound may be infinite), and
      probabilities sum to one.

    Args:
        claim: the claim.
        data: the data set of the data cases; None is the digits.
        evaluate: whether one program per shape of instances is compiled and run; without it everything is traced.

    Raises:
        AssertionError: naming the claim and what it does wrong.

    Cost:
        Tracing the trial once per shape of instances; with ``evaluate`` also compiling it.

    Example:
        >>> from theory import CATALOGUE, check_claim
        >>> check_claim(CATALOGUE[1], evaluate=False)
    """
    _check_words(claim)
    with jax.enable_x64(True):
        for case, raw in _one_case_per_shape(claim, _digits() if data is None else data):
            _check_traced(claim, case, raw)
            if evaluate:
                _check_evaluated(claim, case, raw)


def _require(claim: Claim, condition: bool, message: str):
    """Raise AssertionError unless the condition holds."""
    if not condition:
        raise AssertionError(f"{claim.id}: {message}")


def _check_words(claim: Claim):
    """What can be read off the claim: no instance is made."""
    from theory.report.html import mathml
    from theory.report.references import references

    _require(claim, bool(claim.title.strip()), "title is empty; it takes one line in words")
    try:
        mathml(claim.statement)
    except Exception as error:
        raise AssertionError(f"{claim.id}: statement is {claim.statement!r}, which fails with {error}") from error
    _require(claim, bool(claim.sources), "sources is (); it takes at least one Source")
    for source in claim.sources:
        known = source.key in references() or not _BIBLIOGRAPHY_KEY.fullmatch(source.key)
        _require(
            claim,
            bool(source.key.strip()) and known,
            f"key of a source is {source.key!r}, which is not in "
            "references.bib; it takes a key that is there, or what the paper is called",
        )
    false = any(source.status == "known-false" for source in claim.sources)
    if claim.expected is not None:
        expected = "REFUTED" if false else "SUPPORTED"
        _require(claim, claim.expected == expected, f"expected is {claim.expected}; its sources say {expected}")
    excused = claim.expected != "SUPPORTED"  # an observation, or a known falsehood, which is its own mutant
    _require(claim, bool(claim.mutants) or excused, "mutants is (); it takes at least one, so that power is measured")
    named = any("{data}" in case.name for case in claim.cases)
    _require(claim, named, "cases have no '{data}' in their names; it takes at least one that uses the data set")


def _one_case_per_shape(claim: Claim, data: Dataset) -> Iterator[tuple[Case, Instance]]:
    """The first case of each shape, with two instances, stacked; the instances of every case are checked."""
    seen = set()
    for case in claim.cases:
        first, second = (jax.tree.flatten(case.make(np.random.default_rng(seed), data)) for seed in range(2))
        shapes = []
        for leaves, tree in (first, second):
            plain = all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves)
            _require(claim, plain, f"an instance of case {case.name!r} holds what is no NumPy array")
            shapes.append((tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)))
        _require(claim, shapes[0] == shapes[1], f"instances of case {case.name!r} differ in shape; it takes one shape")
        if (case.enumerable, *shapes[0]) not in seen:
            seen.add((case.enumerable, *shapes[0]))
            yield case, make_case(claim, case, 2, 0, data)[0]


class _Side(NamedTuple):
    """A side in a traced program.

    Attributes:
        variable: the program's variable.
        shape: of one instance's array.
        dtype: of the array.
    """

    variable: Any
    shape: tuple[int, ...]
    dtype: Any


def _check_traced(claim: Claim, case: Case, raw: Instance):
    """Everything that shapes, dtypes and the traced program of the trial tell."""

    def traced(raw: Instance, key: Any) -> dict[str, Any]:
        """Lists of arrays, and no records: a record may refuse what stands for an array while it is traced."""
        instance = claim.prepare(raw)
        outcome = claim.draw(instance, chance_key(key))
        outcomes = claim.outcomes(instance) if case.enumerable and claim.outcomes else ()
        return {
            "instance": jax.tree.leaves(instance),
            "hypotheses": {name: holds(instance) for name, holds in claim.hypotheses.items()},
            "outcomes": jax.tree.leaves(outcomes),
            "sides": claim.trial(instance, outcome, *claim.kind.trial_arguments),
        }

    first = jax.tree.map(lambda leaf: leaf[0], raw)
    program, shapes = jax.make_jaxpr(traced, return_shape=True)(first, jnp.zeros(2, jnp.uint32))
    leaves, tree = jax.tree.flatten(shapes)
    variables = zip(program.jaxpr.outvars, leaves, strict=True)
    found = jax.tree.unflatten(tree, [_Side(variable, leaf.shape, leaf.dtype) for variable, leaf in variables])
    for name, holds in found["hypotheses"].items():
        _require(claim, holds.dtype == jnp.bool_, f"hypothesis {name!r} returns {holds.dtype}; it takes booleans")
    counts = {outcome.shape[0] for outcome in found["outcomes"]}
    _require(claim, len(counts) <= 1, f"outcomes and probabilities have leading axes {counts}; it takes one length")
    named = found["sides"]
    expected = sorted((STATEMENT, *claim.mutants))
    _require(claim, sorted(named) == expected, f"the trial returned the sides {sorted(named)}; it takes {expected}")
    for name, sides in named.items():
        _check_fields(claim, name, sides)
    given = {id(field.variable) for field in found["instance"]}
    given |= {id(variable) for variable in (*program.jaxpr.invars, *program.jaxpr.constvars)}
    _check_independence(claim, program.jaxpr, given, named)


def _check_fields(claim: Claim, name: str, sides: Any):
    """Shapes, dtypes and presence of the fields of one statement's sides."""
    kind = claim.kind
    given = {field: side for field, side in sides._asdict().items() if side is not None}
    allowed = {"measured", "theory", *kind.required_sides, *kind.optional_sides}
    for field in sorted({"measured", "theory", *kind.required_sides} - set(given)):
        _require(claim, False, f"{field} of {name!r} is None; it takes an array")
    for field in sorted(set(given) - allowed):
        _require(claim, False, f"{field} of {name!r} is given; a {kind.words.name} takes {', '.join(sorted(allowed))}")
    for field, side in given.items():
        floating = jnp.issubdtype(side.dtype, jnp.floating)
        _require(claim, floating, f"{field} of {name!r} has dtype {side.dtype}; it takes floating numbers")
    try:
        shape = jnp.broadcast_shapes(sides.measured.shape, sides.theory.shape)
        fits = all(jnp.broadcast_shapes(shape, side.shape) == shape for side in given.values())
    except ValueError:
        fits = False
    shapes = {field: side.shape for field, side in given.items()}
    _require(claim, fits, f"the sides of {name!r} have shapes {shapes}; it takes shapes that broadcast")


def _check_independence(claim: Claim, program: Any, given: set[int], named: dict[str, Any]):
    """Neither side of the claim is the other, or is computed from it; and every mutant differs from the claim.

    A side that is one of the ``given`` variables, a field of the instance, is not computed by the trial.
    """
    own = named[STATEMENT]
    measured, theory = own.measured.variable, own.theory.variable
    _require(claim, measured is not theory, "measured and theory are one value; it takes two that are independent")
    for first, second, text in (
        (theory, measured, "measured is computed from theory"),
        (measured, theory, "theory is computed from measured"),
    ):
        computed = not isinstance(first, jex.Literal) and id(first) not in given
        _require(claim, not (computed and id(first) in _ancestors(program, second)), f"{text}; it takes independence")
    for name in claim.mutants:
        same = all(
            (ours is None) == (theirs is None) and (ours is None or ours.variable is theirs.variable)
            for ours, theirs in zip(own, named[name], strict=True)
        )
        _require(claim, not same, f"mutant {name!r} has the claim's own sides; it takes one that differs")


def _ancestors(program: Any, variable: Any) -> set[int]:
    """Ids of the variable and of all that it is computed from."""
    equation_of = {id(output): equation for equation in program.eqns for output in equation.outvars}
    found: set[int] = set()
    pending = [variable]
    while pending:
        variable = pending.pop()
        if isinstance(variable, jex.Literal) or id(variable) in found:
            continue
        found.add(id(variable))
        if id(variable) in equation_of:
            pending += equation_of[id(variable)].invars
    return found


def _check_evaluated(claim: Claim, case: Case, raw: Instance):
    """Sides of two instances are finite, and probabilities sum to one."""
    programs, keys = Programs(claim), np.array([[0, 1], [2, 3]], np.uint32)
    instances, admissible = programs.prepare(raw)
    arguments = claim.kind.trial_arguments
    program = programs.evaluate_at(*arguments) if arguments else programs.evaluate(enumerated=case.enumerable)
    broken = program(instances, keys)[STATEMENT].broken[admissible]
    _require(claim, not broken.any(), f"sides in case {case.name!r} are not finite; it takes finite numbers")
    if case.enumerable:
        outcomes = claim.outcomes
        assert outcomes is not None
        totals = jax.jit(jax.vmap(lambda instance: outcomes(instance)[1].sum(axis=0)))(instances)
        _require(claim, bool(np.allclose(totals, 1)), f"probabilities in case {case.name!r} sum to {totals}; takes one")


_digits = functools.cache(datasets.load)
