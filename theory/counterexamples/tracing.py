"""The program of both sides of a claim on one instance, traced: what is interpreted in balls and written as NumPy."""

from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from theory.claim import Claim, Instance
from theory.engine import expected_sides, trial_sides
from theory.instances import chance_key, field_names, is_admissible
from theory.kinds.kind import STATEMENT


class Traced(NamedTuple):
    """A traced program with its inputs.

    Attributes:
        program: from the inputs to the leaves of ``outputs``.
        inputs: the arrays of the instance, then those of the outcome.
        names: of the inputs: fields of the instance; "outcome" for all others.
        outputs: structure of (whether the instance is admissible, the claim's sides as SideArrays).
    """

    program: jex.ClosedJaxpr
    inputs: list[Any]
    names: list[str]
    outputs: Any


def draw(claim: Claim, raw: Instance, key: UInt32[np.ndarray, " words"]) -> Any:
    """The outcome that a key draws for an instance, in float64.

    Args:
        claim: the claim.
        raw: the instance, as a case makes it.
        key: the data of the key.
    """

    def drawn(raw: Instance, words: Any) -> Any:
        return claim.draw(claim.prepare(raw), chance_key(words))

    with jax.enable_x64(True):
        return jax.jit(drawn)(raw, jnp.asarray(key))


def trace(claim: Claim, raw: Instance, key: UInt32[np.ndarray, " words"], *, enumerated: bool) -> Traced:
    """Preparation, hypotheses and trial of a claim on one instance, in float64.

    Args:
        claim: the claim.
        raw: the instance, as a case makes it.
        key: the data of the key that the outcome is drawn with; the draw is no part of the program.
        enumerated: whether the sides are expectations over all outcomes.
    """

    def sides(raw: Instance, outcome: Any) -> Any:
        instance = claim.prepare(raw)
        found = expected_sides(claim, instance)[0] if enumerated else trial_sides(claim, instance, outcome)
        return is_admissible(claim, instance), found[STATEMENT]

    with jax.enable_x64(True):
        outcome = None if enumerated else draw(claim, raw, key)
        program, shapes = jax.make_jaxpr(sides, return_shape=True)(raw, outcome)
    drawn = jax.tree.leaves(outcome)
    return Traced(
        program,
        inputs=[*jax.tree.leaves(raw), *drawn],
        names=[*field_names(raw), *["outcome"] * len(drawn)],
        outputs=jax.tree.structure(shapes),
    )
