"""The identities of the catalogue to 256 bits: how far each is from holding on an instance when nothing is rounded.

A residual of about 2^−250 follows the precision, as that of a true identity does. A statement that holds to the
digits of float64 alone stops at about 2^−50: it is a near-miss, or its instance meets a hypothesis to rounding only.
"""

import math
import time
from collections.abc import Iterator

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

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


def main() -> None:
    """Print the residual of one instance of each case."""
    digits = data.load("digits")
    table = Table("claim", "case", "residual", "seconds", title=f"Identities at {BITS} bits", title_justify="left")
    for claim, case in identities():
        raw, keys = make_case(claim, case, 1, 0, digits)
        instance = jax.tree.map(lambda leaf: np.asarray(leaf[0]), raw)
        started = time.perf_counter()
        try:
            found = residual(claim, instance, keys[0], enumerated=case.enumerable, bits=BITS)
            text = "not finite" if math.isnan(found) else f"2^{math.log2(found):.0f}" if found else "0"
        except Undecided as error:
            text = f"{error} is not decided"
        except NoBallVersion as error:
            text = f"{error} has no ball version"
        name = case.name.format(data=digits.name)
        table.add_row(claim.id, name, text, f"{time.perf_counter() - started:.1f}")
    Console().print(table)
