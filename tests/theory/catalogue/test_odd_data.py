"""No true claim is refuted by the shape or the size of the data: a case whose data cannot do is UNMET, and says why."""

import contextlib

import jax
import numpy as np
import pytest

from benchmarks.odd_data import odd
from theory import CATALOGUE
from theory.catalogue.paths import cases as path_cases
from theory.catalogue.sketch.cases import FEATURES, SMALL_FEATURES
from theory.claim import NoInstance
from theory.engine import Programs
from theory.kinds import Effect
from theory.verdict import REFUTED, SUPPORTED, UNMET, VACUOUS, Tier
from theory.verification import verify_with

BY_ID = {claim.id: claim for claim in CATALOGUE}
TINY = Tier("tiny", instances=4, looks=(64, 256), tolerance=0.1, search_steps=5)
CHEAP = ("sketch/optimal-probabilities", "sketch/linear-scores")
"""Claims that compile fast."""
ONE_SHAPE = ("zero", "constant", "one-sample", "two-samples", "rank-1", "one-hot", "1e-160", "1e8")
"""Data sets whose instances have one shape."""
ALONE = "no instance meets: some w_i x_i is not zero"


@pytest.mark.parametrize("id", CHEAP)
def test_claims_hold_on_odd_data(id):
    """One program serves all of these data sets. All claims on all of them: ``python -m benchmarks odd_data``."""
    programs = Programs(BY_ID[id])
    for name in ONE_SHAPE:
        verdict = verify_with(programs, TINY, 0, odd(name))
        case = verdict.cases[name]
        assert verdict.verdict in (SUPPORTED, VACUOUS), (name, verdict)
        assert set(verdict.mutants.values()) == {REFUTED}  # the hypotheses leave enough instances
        if name in ("zero", "constant", "one-sample"):  # nothing is left of them when they are standardised
            assert case.verdict == UNMET and case.reason == ALONE
        else:
            assert case.verdict in (SUPPORTED, VACUOUS) and not case.reason


@pytest.mark.parametrize("name", ["5x4", "zero", "1e-160"])
def test_every_claim_makes_instances_of_odd_data(name, monkeypatch):
    """Of finite numbers; or says that there are none. Claims that share a case share its instances."""
    monkeypatch.setattr(path_cases, "MAX_TRIES", 1000)  # in vain on zeros
    data, made = odd(name), set()
    for claim in CATALOGUE:
        if isinstance(claim.kind, Effect) or claim.id == "sketch/existence":  # which trains, or proves optima
            continue
        for case in [case for case in claim.cases if "{data}" in case.name][:1]:
            if case in made:
                continue
            made.add(case)
            with contextlib.suppress(NoInstance):
                leaves = jax.tree.leaves(case.make(np.random.default_rng(1), data))
                assert all(np.isfinite(leaf).all() for leaf in leaves), (claim.id, case.name)


def test_determinantal_masks_of_narrow_data_have_no_fixed_size():
    """Where the law's sizes are random, a component for a fixed size would be false; and work is bounded."""
    claim = BY_ID["sketch/dpp-training-error"]
    real, *small = claim.cases
    for name in ("5x4", "60x2", "3x200"):
        x = real.make(np.random.default_rng(0), odd(name)).x
        assert x.shape[1] == FEATURES != SMALL_FEATURES
        assert np.count_nonzero(abs(x).sum(axis=0)) == min(odd(name).x.shape[1], FEATURES)


@pytest.mark.parametrize("name", ["60x2", "rank-1", "two-samples"])
def test_a_fixed_size_above_the_rank_is_unmet(name):
    claim = BY_ID["sketch/dpp-training-error"]
    case = claim.cases[-1]
    raw = jax.tree.map(lambda leaf: np.asarray(leaf)[None], case.make(np.random.default_rng(0), odd(name)))
    with jax.enable_x64(True):
        _, met = Programs(claim).prepare_and_check(raw)
    assert met.tolist() == [[True, False]]
