"""The identities of the catalogue to 256 bits: how far each is from holding on an instance when nothing is rounded.

A residual of about 2^−250 follows the precision, as that of a true identity does. A statement that holds to the
digits of float64 alone stops at about 2^−50: it is a near-miss, or its instance meets a hypothesis to rounding only.
"""

import math
import time
from collections.abc import Iterator

import jax
import numpy as np

from benchmarks._record import Row
from sketchprune import data
from theory.catalogue import CATALOGUE
from theory.claim import Case, Claim
from theory.counterexamples.balls.arrays import NoBallVersion, Undecided
from theory.counterexamples.certify import residual
from theory.instances import make_case
from theory.kinds import Expectation, Identity

BITS = 256


def identities() -> Iterator[tuple[Claim, Case]]:
    """Each case of the catalogue in which two sides are equal, and one evaluation decides."""
    for claim in CATALOGUE:
        kind = claim.kind
        equal = isinstance(kind, Identity) or (isinstance(kind, Expectation) and kind.relation == "equal")
        for case in claim.cases:
            if equal and kind.is_exact(enumerated=case.enumerable) and claim.expected == "SUPPORTED":
                yield claim, case


def rows() -> Iterator[Row]:
    """The residual of one instance of each case."""
    digits = data.load("digits")
    for claim, case in identities():
        raw, keys = make_case(claim, case, 1, 0, digits)
        instance = jax.tree.map(lambda leaf: np.asarray(leaf[0]), raw)
        started = time.perf_counter()
        error, note = None, ""
        try:
            error = residual(claim, instance, keys[0], enumerated=case.enumerable, bits=BITS)
            note = "0" if not error else f"2^{math.log2(error):.0f}" if math.isfinite(error) else "not finite"
        except Undecided as undecided:
            note = f"{undecided} is not decided"
        except NoBallVersion as missing:
            note = f"{missing} has no ball version"
        what = f"residual of {claim.id}, {case.name.format(data=digits.name)}"
        yield Row(what, f"{BITS} bits", time.perf_counter() - started, error=error, note=note)
