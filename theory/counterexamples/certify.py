"""Counterexamples proved, and identities checked to many digits, in ball arithmetic.

Both sides of a statement are evaluated on one instance by interpreting the traced program of the claim's trial
(:mod:`theory.counterexamples.balls`), with a rigorous bound on every error. The draw runs in JAX as ever, and its
outcome is data.
"""

import importlib.util
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt32

from theory.claim import Claim, Instance
from theory.counterexamples.tracing import trace
from theory.measurements import Evaluation
from theory.verdict import Certificate

BITS = (64, 128, 256, 512, 1024)
"""Precisions that are tried, one after the other, until the balls decide."""
MAX_ENTRIES = 4096
"""Numbers of an instance that is evaluated in ball arithmetic, which is slow."""
EXTRA = "python-flint is not installed; pip install 'sketchprune[certify]' adds it"
_LOCK = threading.Lock()
"""The precision of python-flint belongs to the process."""


def available() -> bool:
    """Whether python-flint, which does the ball arithmetic, is installed."""
    return importlib.util.find_spec("flint") is not None


def certify(claim: Claim, raw: Instance, key: UInt32[np.ndarray, " words"], *, enumerated: bool) -> Certificate:
    """Whether ball arithmetic proves that an instance contradicts a claim.

    The excess is (measured − theory)/max(|measured|, |theory|, scale), or what the kind makes of it. It is certified
    where all of its ball is above 0 for some component, and the balls decide that the hypotheses hold.

    Args:
        claim: an identity, a bound, or an expectation over enumerated outcomes.
        raw: the instance, as a case makes it; its floats are taken as exact.
        key: the data of the key that the trial draws with.
        enumerated: whether the sides are expectations over all outcomes.

    Returns:
        The certificate, or why there is none: an operation that has no ball version or that no precision decides, a
        statement that the instance does not contradict, or a missing python-flint.

    Cost:
        About 1 µs for each number that the trial computes, for each precision that is tried; at most 20 million
        numbers in all. Eigenvalues of matrices of 200 rows take some seconds.
    """
    if not available():
        return Certificate(False, reason=EXTRA)
    entries = sum(np.size(leaf) for leaf in jax.tree.leaves(raw))
    if entries > MAX_ENTRIES:
        return Certificate(False, reason=f"the instance has {entries} numbers; at most {MAX_ENTRIES} are evaluated")
    from theory.counterexamples.balls.interpreter import together

    try:
        with together():  # so that what no precision decides takes no longer than what the last one could
            return _first_decision(_Program(claim, raw, key, enumerated))
    except Exception as error:  # a verdict must not be lost with its certificate
        return Certificate(False, reason=f"ball arithmetic failed ({type(error).__name__}: {error})")


def _first_decision(program: "_Program") -> Certificate:
    """What the lowest precision says that decides something; else why none does."""
    from theory.counterexamples.balls.arrays import NoBallVersion, Undecided

    undecided = ""
    for before, bits in zip((0, *BITS), BITS, strict=False):
        try:
            found = program.at(bits)
        except Undecided as error:
            undecided = f"{error} is not decided"
            continue
        except NoBallVersion as error:
            reason = (
                f"{undecided} by {before} bits, and more take {error}" if undecided else f"{error} has no ball version"
            )
            return Certificate(False, bits=bits, reason=reason)
        if not found.admissible:
            return Certificate(False, bits=bits, reason="the instance misses a hypothesis when nothing is rounded")
        if found.lowest > 0:
            return Certificate(True, margin=found.lowest, bits=bits)
        if found.highest <= 0:
            return Certificate(False, bits=bits, reason="the statement holds when nothing is rounded")
        undecided = "the sign of measured − theory is not decided"
    return Certificate(False, bits=BITS[-1], reason=f"{undecided} by {BITS[-1]} bits")


def residual(
    claim: Claim, raw: Instance, key: UInt32[np.ndarray, " words"], *, enumerated: bool, bits: int = 256
) -> float:
    """An upper bound on how far an identity is from holding on an instance when nothing is rounded.

    |measured − theory|/max(|measured|, |theory|, scale) of the worst component, evaluated in balls. That of an
    identity falls with the precision, as 2^−bits times how far errors spread; a near-miss stays where it is.

    Args:
        claim: the identity, or an enumerated expectation that is one.
        raw: the instance, as a case makes it; its floats are taken as exact.
        key: the data of the key that the trial draws with.
        enumerated: whether the sides are expectations over all outcomes.
        bits: precision of the balls.

    Returns:
        The bound; nan where a ball is not finite.

    Raises:
        ImportError: python-flint is not installed.
        NoBallVersion: an operation has no ball version; the message names it.
        Undecided: the balls do not decide a comparison; the message names the operation.
    """
    return _Program(claim, raw, key, enumerated).at(bits).largest


class _Found(NamedTuple):
    """What the balls say: of the excess of the worst component, and whether the hypotheses hold.

    Attributes:
        admissible: whether they do.
        lowest: the largest lower end of an excess; nan where no ball is finite.
        highest: the largest upper end.
        largest: the largest |excess|, before the kind makes something of it.
    """

    admissible: bool
    lowest: float
    highest: float
    largest: float


class _Program:
    """Both sides of a claim on one instance, to be evaluated in balls."""

    def __init__(self, claim: Claim, raw: Instance, key: np.ndarray, enumerated: bool):
        self.kind = claim.kind
        self.traced = trace(claim, raw, key, enumerated=enumerated)

    def at(self, bits: int) -> _Found:
        """What balls of that precision say."""
        from flint import ctx

        from theory.counterexamples.balls.interpreter import evaluate

        with _LOCK, jax.enable_x64(True), ctx.workprec(bits):
            outputs = evaluate(self.traced.program, self.traced.inputs)
            admissible, values = jax.tree.unflatten(self.traced.outputs, outputs)
            relative = _relative(values.measured, values.theory, values.scale)
            excess = self.kind.discrepancy(Evaluation(values, relative[None], None, None))
            finite = [ball for ball in np.ravel(excess) if ball.is_finite()]
            return _Found(
                bool(admissible),
                lowest=max((_rounded_down(ball) for ball in finite), default=np.nan),
                highest=_largest(excess, lambda ball: float(ball.upper())),
                largest=_largest(relative, lambda ball: float(ball.abs_upper())),
            )


def _largest(entries: Any, end: Callable[[Any], float]) -> float:
    """The largest end of some balls; nan where one is not finite, or where there are none."""
    balls = list(np.ravel(entries))
    return max(map(end, balls)) if balls and all(ball.is_finite() for ball in balls) else np.nan


def _rounded_down(ball: Any) -> float:
    """A float that is not above the ball."""
    lower = float(ball.lower())
    return lower if lower == 0 else float(np.nextafter(lower, -np.inf))


def _relative(measured: Any, theory: Any, scale: Any) -> Any:
    """(measured − theory)/max(|measured|, |theory|, scale) in balls, with 0/0 = 0."""
    from theory.counterexamples.balls.arrays import elementwise

    def of_entry(measured: Any, theory: Any, scale: Any) -> Any:
        gap = measured - theory
        size = abs(measured).max(abs(theory)).max(scale)
        return gap if gap == 0 else gap / size

    return elementwise(of_entry, measured, theory, scale)
