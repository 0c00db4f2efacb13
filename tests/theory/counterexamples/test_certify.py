"""Certificates: what is false by a hair is certified, what is true never is, and what stands in the way is named."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.identities import identities as identities_of_the_catalogue
from sketchprune import masks
from sketchprune.data import load
from tests.support import without_type_checks
from tests.support.claims import DATA, FALSE, KINDS, all_coins, coins, toy, unbiased, vector, verdict
from theory.claim import Case, Sides
from theory.counterexamples import certify as certification
from theory.counterexamples.balls import interpreter
from theory.counterexamples.balls.arrays import Undecided
from theory.counterexamples.certify import certify, residual
from theory.instances import make_case
from theory.kinds import Bound, Expectation, Identity
from theory.statistics import ROUNDING


def first_instance(claim, case=None, data=DATA):
    """The first instance of a case, and its key."""
    raw, keys = make_case(claim, case or claim.cases[0], 1, 0, data)
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), raw), keys[0]


def certificate(claim, *, enumerated=False):
    return certify(claim, *first_instance(claim), enumerated=enumerated)


def near_miss(excess):
    """(Σx)² = ΣΣx_ix_j, with one side too large."""

    def trial(v, _):
        return Sides(jnp.sum(v.x) ** 2 * (1 + excess), jnp.sum(v.x[:, None] * v.x))

    return toy(Identity(), trial)


def test_an_identity_that_is_false_by_a_hair_is_certified():
    assert 1e-12 < ROUNDING * 1.2  # about what float64 shows at best
    found = certificate(near_miss(1e-12))
    assert found.certified and found.margin == pytest.approx(1e-12, rel=1e-3) and found.reason == ""


def test_a_smaller_excess_takes_more_bits():
    def trial(v, _):
        product = jnp.exp(v.x) * jnp.exp(-v.x)
        return Sides(product + product * 2.0**-80, jnp.ones(3))

    found = certificate(toy(Identity(), trial))
    assert found.certified and found.margin == pytest.approx(2.0**-80, rel=1e-6)
    assert found.bits > certificate(near_miss(0.5)).bits == certification.BITS[0]


def inverse(v, _):
    return Sides(jnp.exp(v.x) * jnp.exp(-v.x), jnp.ones(3))


TRUE = {
    "identity of polynomials": (KINDS["identity"], "the statement holds when nothing is rounded"),
    "identity": (toy(Identity(), inverse), "the sign of measured − theory is not decided by 1024 bits"),
    "tight bound": (toy(Bound(), inverse), "the sign of measured − theory is not decided by 1024 bits"),
    "bound": (KINDS["bound"], "the statement holds when nothing is rounded"),
}


@pytest.mark.parametrize("name", TRUE)
def test_what_is_true_is_never_certified(name):
    claim, reason = TRUE[name]
    found = certificate(claim)
    assert not found.certified and np.isnan(found.margin) and found.reason == reason


@pytest.mark.parametrize("name", ["identity", "bound"])
def test_the_shrunk_counterexample_of_a_verdict_is_certified(name):
    found = verdict(FALSE[name]).counterexample.smaller.certificate
    assert found.certified and 0 < found.margin <= 1


def test_an_enumerated_expectation_is_certified():
    cases = (Case("small", vector, enumerable=True),)
    claim = toy(Expectation(), unbiased, draw=coins, outcomes=all_coins, cases=cases, mutants=("not reweighted",))
    assert not certificate(claim, enumerated=True).certified
    biased = toy(
        Expectation(), lambda v, c: unbiased(v, c)["not reweighted"], draw=coins, outcomes=all_coins, cases=cases
    )
    found = certificate(biased, enumerated=True)
    (v, _) = first_instance(biased)
    assert found.certified and found.margin == pytest.approx(1 - float(v.p), rel=1e-12)


def test_a_counterexample_shows_what_was_drawn():
    """The coins, beside the instance; an enumerated or a deterministic one has drawn nothing."""
    claim = toy(Bound(), lambda v, c: Sides(jnp.sum(c) + 0.5, jnp.sum(c) * 1.0), draw=coins)
    smaller = verdict(claim).counterexample.smaller
    drawn = np.asarray(smaller.drawn["draw"])
    assert list(smaller.drawn) == ["draw"] and smaller.theory == drawn.sum() and smaller.measured == drawn.sum() + 0.5
    assert verdict(FALSE["bound"]).counterexample.smaller.drawn == {}


def test_what_was_drawn_is_data():
    """The coins of the draw, and the uniform number of a key."""
    claim = toy(Bound(), lambda v, c: Sides(jnp.sum(c) + 0.5, jnp.sum(c) * 1.0), draw=coins)
    assert certificate(claim).certified
    claim = toy(Bound(), lambda v, key: Sides(1 + jax.random.uniform(key), jnp.asarray(1.0)))
    v, key = first_instance(claim)
    drawn = jax.random.uniform(jax.random.wrap_key_data(key, impl="threefry2x32"))
    assert certificate(claim).margin == pytest.approx(float(drawn / (1 + drawn)), rel=1e-12)


def test_an_undecided_comparison_is_named():
    claim = toy(Bound(), lambda v, _: Sides(jnp.where(jnp.sqrt(v.p) ** 2 > v.p, 1.0, 2.0), jnp.asarray(0.0)))
    assert certificate(claim).reason == "gt is not decided by 1024 bits"


def test_precisions_share_the_numbers_that_may_be_computed(monkeypatch):
    """An equality that no precision decides ends with the last one that is affordable."""
    monkeypatch.setattr(interpreter, "MAX_NUMBERS", 50)
    found = certificate(toy(Identity(), inverse))
    assert not found.certified and certification.BITS[0] < found.bits < certification.BITS[-1]
    assert re.fullmatch(
        r"the sign of measured − theory is not decided by \d+ bits, and more take a program of more than 50 numbers",
        found.reason,
    )


def test_an_operation_without_a_ball_version_is_named():
    claim = toy(Bound(), lambda v, _: Sides(jax.scipy.special.i0e(v.p), jnp.asarray(0.0)))
    assert certificate(claim).reason == "bessel_i0e has no ball version"


def test_top_weights_are_ranked_in_balls():
    """keep_top counts by a general reduction, which has a program of its own and is no call."""

    def removed(v, _):
        kept = masks.keep_top(abs(v.x), 2)
        return Sides(jnp.sum(v.x**2) - jnp.sum((kept * v.x) ** 2) + 1e-3, jnp.sort(v.x**2)[0])

    found = certificate(toy(Bound(), removed))
    assert found.certified or found.reason == "sort has no ball version", found.text


def test_a_certificate_that_fails_costs_no_verdict(monkeypatch):
    def broken(*_):
        raise TypeError("of no use")

    monkeypatch.setattr(interpreter, "_apply", broken)
    assert certificate(FALSE["bound"]).reason == "ball arithmetic failed (TypeError: of no use)"


def test_hypotheses_hold_when_nothing_is_rounded():
    """1e17 + 1 is 1e17 in floats alone."""
    rounded = {"p vanishes beside 1e17": lambda v: 1e17 + v.p == 1e17}
    claim = toy(Bound(), lambda v, _: Sides(jnp.asarray(1.0), jnp.asarray(0.0)), hypotheses=rounded)
    assert certificate(claim).reason == "the instance misses a hypothesis when nothing is rounded"


def test_a_large_instance_is_left_alone():
    long = Case("long", lambda rng, data: vector(rng, data).replace(x=rng.standard_normal(5000)))
    claim = toy(Identity(), FALSE["identity"].trial, cases=(long,))
    found = certify(claim, *first_instance(claim), enumerated=False)
    assert not found.certified and "5001 numbers" in found.reason


def test_without_python_flint_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setattr(certification, "available", lambda: False)
    assert certificate(FALSE["identity"]).reason == certification.EXTRA
    assert "sketchprune[certify]" in certification.EXTRA


def test_the_residual_of_an_identity_falls_with_the_precision():
    claim = KINDS["identity"]
    instance = first_instance(claim)
    for bits in (128, 256, 512):
        assert residual(claim, *instance, enumerated=False, bits=bits) <= 2.0 ** (8 - bits)
    miss = near_miss(1e-12)
    assert residual(miss, *first_instance(miss), enumerated=False, bits=256) == pytest.approx(1e-12, rel=1e-3)


# --- The identities of the catalogue

SLOW = {"paths/gram", "paths/rank", "tangent/score-efficiency"}
"""Of these one case takes many seconds: ``python -m benchmarks identities`` shows them."""
UNDECIDED = {"sketch/dpp-training-error": "ne"}
"""An operation that no precision decides: whether −∞ minus −∞, in logaddexp, is a number."""
TO_ROUNDING = {
    "lottery/densities": "densities are found by a bisection that ends at the digits of float64",
    "paths/isotropic-trace": "the square root of the number of inputs is a rounded constant",
    "sketch/transfer": "the probabilities sum to 1 to rounding, since uniform ones, 1/5, are rounded",
}
"""What is true to the digits of float64 alone, and why."""
SPREAD = {"tangent/closed-form": 2.0**80}
"""By how much more than 2^8 errors spread, where a matrix is ill-conditioned."""


def identities():
    """The first case of each identity."""
    seen = set()
    for claim, case in identities_of_the_catalogue():
        if claim.id not in SLOW and claim.id not in seen:
            seen.add(claim.id)
            yield pytest.param(claim, case, id=f"{claim.id}: {case.name}")


@pytest.mark.parametrize(("claim", "case"), list(identities()))
def test_the_identities_of_the_catalogue_hold_to_many_digits(claim, case):
    raw, key = first_instance(claim, case, load("digits"))

    def at(bits):
        with without_type_checks():  # which would take most of the time, for each of a million balls
            return residual(claim, raw, key, enumerated=case.enumerable, bits=bits)

    if claim.id in UNDECIDED:
        with pytest.raises(Undecided, match=f"^{UNDECIDED[claim.id]}$"):
            at(256)
    elif claim.id in TO_ROUNDING:
        with contextlib.suppress(Undecided):  # whether a sum is 1, for which no precision is enough
            assert 2.0**-60 < at(256) < 2.0**-45
    else:
        assert at(256) <= 2.0**-226 * SPREAD.get(claim.id, 1.0)
