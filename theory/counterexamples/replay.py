"""A counterexample as a Python file that needs NumPy alone and prints both sides of the statement."""

import re
import textwrap
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from theory.claim import Claim
from theory.counterexamples.numpy_formats import Expression, NoSource, literal
from theory.counterexamples.numpy_source import source
from theory.counterexamples.shrink import Shrunk
from theory.counterexamples.tracing import Traced, trace
from theory.instances import top_field
from theory.measurements import SideArrays
from theory.verdict import Certificate

MAX_ENTRIES = 1024
"""Numbers of an instance that is written as text; a larger one is in the .npz file alone."""
WIDTH = 110
"""Lines of text are filled to this width."""


def python_file(claim: Claim, shrunk: Shrunk, certificate: Certificate) -> str:
    """The text of the file: the instance, the claim's trial in NumPy, and both sides.

    The trial is translated from its traced program, and run once to see that it gives the recorded sides. Where it
    cannot be translated, the file says why, and prints the recorded sides.

    Args:
        claim: what the instance contradicts.
        shrunk: the instance.
        certificate: what ball arithmetic says of it.
    """
    traced = trace(claim, shrunk.raw, shrunk.key, enumerated=shrunk.enumerated)
    with jax.enable_x64(True):
        try:
            body = _translated(claim, shrunk, traced)
            note = "The lines below are translated from the traced program of the claim's trial. They need NumPy alone."
        except NoSource as error:
            body = _recorded(claim, shrunk, traced)
            note = (
                f"The claim's trial is not translated to NumPy: {error}. The sides below are those that were recorded."
            )
    return f"{_introduction(claim, shrunk, certificate, note)}\nimport numpy as np\n\n{body}"


def _introduction(claim: Claim, shrunk: Shrunk, certificate: Certificate, note: str) -> str:
    """The docstring of the file."""
    found = shrunk.replay
    proof = f"Ball arithmetic: {certificate.text}."
    where = f"Component {found.component}, case {found.case}, shrunk from instance {found.instance}: "
    paragraphs = [
        f"A counterexample to {claim.id}.",
        claim.title if claim.title.endswith(".") else f"{claim.title}.",
        f"    {claim.statement}",
        f"{claim.kind.meaning}\n{where}measured {found.measured!r}, theory {found.theory!r}.\n{proof}",
        note,
    ]
    filled = ["\n".join(map(_filled, paragraph.split("\n"))) for paragraph in paragraphs if paragraph.strip()]
    text = "\n\n".join(filled).replace('"""', "'''")
    return f'r"""{text}\n"""\n'


def _filled(line: str) -> str:
    """A line of text in several lines; a formula as it is."""
    return line if line.startswith("    ") else textwrap.fill(line, WIDTH)


def _fields(claim: Claim, shrunk: Shrunk, traced: Traced) -> dict[int, str]:
    """Number of an input -> name, for the fields that may change: the others are written where they are used."""
    movable = [number for number, name in enumerate(traced.names) if top_field(name) in claim.movable_fields]
    floats = [number for number, leaf in enumerate(jax.tree.leaves(shrunk.raw)) if np.asarray(leaf).dtype.kind == "f"]
    chosen = [number for number in movable if number in floats] if movable else floats
    return {number: re.sub(r"\W+", "_", traced.names[number]).strip("_") for number in chosen}


def _translated(claim: Claim, shrunk: Shrunk, traced: Traced) -> str:
    """The instance, the trial, and both sides."""
    if (entries := _count_entries(shrunk)) > MAX_ENTRIES:
        raise NoSource(f"its instance has {entries} numbers, which are in the .npz file beside this one")
    names = _fields(claim, shrunk, traced)
    inputs: list[Any] = [
        Expression(names[number], np.shape(value)) if number in names else _data(value)
        for number, value in enumerate(traced.inputs)
    ]
    lines, (measured, theory) = source(_sides_alone(traced), inputs)
    given = [f"{name} = {literal(traced.inputs[number])}" for number, name in names.items()]
    text = "\n".join(
        [
            *given,
            "",
            *lines,
            f"measured = {measured}",
            f"theory = {theory}",
            'print("measured", *np.ravel(measured))',
            'print("theory  ", *np.ravel(theory))',
            "",
        ]
    )
    _check(text, shrunk)
    return text


def _count_entries(shrunk: Shrunk) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(shrunk.raw))


def _data(value: Any) -> Any:
    """An input as numbers; a random key has no value in NumPy, and no translation where it is used."""
    if jnp.issubdtype(jax.dtypes.result_type(value), jax.dtypes.prng_key):
        return Expression("key", np.shape(value))
    return np.asarray(value)


def _sides_alone(traced: Traced) -> jex.ClosedJaxpr:
    """The program with the two sides as its only outputs."""
    places = jax.tree.unflatten(traced.outputs, range(traced.outputs.num_leaves))
    _, sides = places
    assert isinstance(sides, SideArrays)

    def both(*inputs: Any) -> tuple[Any, Any]:
        found = jex.jaxpr_as_fun(traced.program)(*inputs)
        return found[sides.measured], found[sides.theory]

    return jax.make_jaxpr(both)(*traced.inputs)


def _check(text: str, shrunk: Shrunk):
    """Raise NoSource unless the lines give the recorded sides."""
    values: dict[str, Any] = {"np": np, "print": lambda *_: None}
    try:
        with np.errstate(all="ignore"):
            exec(compile(text, "replay", "exec"), values)
    except Exception as error:
        raise NoSource(f"its translation fails with {type(error).__name__}: {error}") from None
    component, expected = shrunk.replay.component, (shrunk.replay.measured, shrunk.replay.theory)
    size = max((abs(number) for number in expected if np.isfinite(number)), default=0.0)
    for side, number in zip(("measured", "theory"), expected, strict=True):
        found = np.ravel(values[side])
        if component >= found.size or not np.isclose(found[component], number, rtol=1e-9, atol=1e-9 * size):
            raise NoSource(f"its translation gives another {side} side")


def _recorded(claim: Claim, shrunk: Shrunk, traced: Traced) -> str:
    """The instance and the recorded sides."""
    names = _fields(claim, shrunk, traced) if _count_entries(shrunk) <= MAX_ENTRIES else {}
    given = [f"{name} = {literal(traced.inputs[number])}" for number, name in names.items()]
    found = shrunk.replay
    return "\n".join([*given, "", f'print("measured", {found.measured!r})', f'print("theory  ", {found.theory!r})', ""])
