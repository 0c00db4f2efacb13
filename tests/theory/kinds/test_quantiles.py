"""Quantiles of theory/measured: of the same ratios whose median is the looseness, by every kind that has ratios."""

import numpy as np
import pytest

from tests.support.claims import KINDS, verdict
from theory.kinds.exact import decide_inequality, looseness
from theory.measurements import SideArrays, assess
from theory.verdict import QUANTILES


def evaluation(measured, theory):
    measured, theory = (np.reshape(np.asarray(side, float), (-1, 1)) for side in (measured, theory))
    blank = np.full(measured.shape, np.nan)
    return assess(SideArrays(measured, theory, np.ones_like(measured), blank, blank, blank))


def test_they_are_of_the_ratios_whose_median_is_the_looseness():
    rng = np.random.default_rng(0)
    measured, theory = rng.uniform(1, 2, 40), rng.uniform(2, 9, 40)
    found = decide_inequality(evaluation(measured, theory), np.ones(40, bool))
    assert found.looseness_quantiles == pytest.approx(np.quantile(theory / measured, QUANTILES))
    assert found.looseness_quantiles[3] == pytest.approx(found.looseness)
    assert (found.looseness_quantiles[0], found.looseness_quantiles[6]) == pytest.approx(
        (min(theory / measured), max(theory / measured))
    )


def test_what_has_no_ratio_is_left_out():
    found = looseness(np.array([0.0, 1.0, 2.0, 1.0]), np.array([1.0, np.inf, 6.0, np.nan]))
    assert found == {"looseness": 3.0, "looseness_quantiles": (3.0,) * 7}
    none = looseness(np.zeros(3), np.ones(3))
    assert np.isnan(none["looseness"]) and none["looseness_quantiles"] == ()


def test_a_bound_that_holds_to_rounding_is_at_least_tight():
    """Both sides are 0 but for rounding in the first instance, and in the second the bound is attained."""
    found = decide_inequality(evaluation([1e-17, 1.0, 1.0], [0.0, 1.0 - 1e-15, 4.0]), np.ones(3, bool))
    assert found.looseness_quantiles[0] == 1.0 and found.looseness == 1.0
    violated = decide_inequality(evaluation([0.5, 1.0, 1.0], [0.0, 0.5, 4.0]), np.ones(3, bool))
    assert violated.looseness_quantiles[0] == 0.0 and violated.looseness == 0.5


@pytest.mark.parametrize("name", KINDS)
def test_kinds_with_a_looseness_have_quantiles(name):
    for case in verdict(KINDS[name]).cases.values():
        assert bool(case.looseness_quantiles) == (not np.isnan(case.looseness))
        if case.looseness_quantiles:
            assert case.looseness_quantiles[3] == pytest.approx(case.looseness)
            assert list(case.looseness_quantiles) == sorted(case.looseness_quantiles)
    assert (name in ("bound", "equal", "bounded", "at most", "probability")) == bool(case.looseness_quantiles)
