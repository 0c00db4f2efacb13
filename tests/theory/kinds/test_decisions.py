"""From what was measured on one case to a verdict on it, kind by kind."""

import jax
import numpy as np
import pytest

from theory import statistics
from theory.claim import Sides
from theory.kinds import Bound, Effect, Expectation, Identity, Probability, Rate
from theory.kinds.exact import worst_entry
from theory.measurements import Evaluation, SideArrays, TrialSums, assess, flatten
from theory.statistics import ROUNDING
from theory.verdict import INCONCLUSIVE, LEVEL, REFUTED, SUPPORTED, UNMET, VACUOUS, Tier

nan, inf = np.nan, np.inf
TINY = Tier("tiny", instances=2, looks=(1000,), tolerance=0.1, search_steps=0)
assess_all = jax.jit(jax.vmap(lambda sides: assess(flatten(sides))))


def evaluated(measured, theory, *, scale=None, trivial=None, precision=np.float64):
    """Sides as a program evaluates them: an entry for each instance, of one component or several."""
    fields = [None if side is None else np.array(side, precision) for side in (measured, theory, scale, trivial)]
    return jax.device_get(assess_all(Sides(*fields)))


def decide(kind, measured, theory, *, admissible=None, coarse=None, **sides):
    """The verdict on such a case; ``coarse`` is what float32 measured."""
    double = evaluated(measured, theory, **sides)
    in_float32 = None if coarse is None else evaluated(coarse, theory, precision=np.float32, **sides)
    kept = np.ones(len(measured), bool) if admissible is None else np.array(admissible)
    if isinstance(kind, Bound):
        return kind.decide(double, kept)
    exactly = kind.decide_enumerated if isinstance(kind, Expectation) else kind.decide
    return exactly(double, in_float32, kept)


def sums(
    trials, *, failures=0.0, broken=0.0, deviation=0.0, squares=0.0, fourth_powers=0.0, changed_scales=0.0,
    measured=1.0, trivial=nan, delta=nan,
):  # fmt: skip
    """Sums over so many trials of two instances of theory and scale 1; the mean of what is measured is given."""

    def column(values):
        return np.broadcast_to(np.array(values, float).reshape(-1, 1), (2, 1)) + 0.0

    done = column(trials)
    sides = SideArrays(*(done * column(mean) for mean in (measured, 1.0, 1.0, trivial, nan, delta)))
    totals = map(column, (broken, failures, deviation, squares, fourth_powers, changed_scales))
    return TrialSums(done, *totals, sides, np.zeros((2, 1, len(Probability.counted_factors))))


def sampled(kind, totals, admissible=(True, True)):
    return kind.decide(totals, np.array(admissible), TINY)


# --- Identities


def test_an_identity_holds_to_rounding():
    verdict = decide(Identity(), [1.0, 3.0], [1.0, 3.0 * (1 + 1e-14)])
    assert (verdict.verdict, verdict.method, verdict.trials) == (SUPPORTED, "rounding", 0)
    assert verdict.measured == pytest.approx(1e-14, rel=0.05) and verdict.theory == ROUNDING
    assert verdict.interval is None and np.isnan(verdict.looseness)
    assert decide(Identity(), [1.0, 3.0], [1.0, 3.0 * (1 + 1e-11)]).verdict == REFUTED


def test_rounding_is_relative_to_the_scale():
    """A sum of large terms that cancel is as exact as its terms."""
    assert decide(Identity(), [1e-13], [0.0], scale=[1.0]).verdict == SUPPORTED
    assert decide(Identity(), [1e-13], [2e-13], scale=[1.0]).verdict == SUPPORTED
    assert decide(Identity(), [1e-13], [2e-13]).verdict == REFUTED


def test_a_residual_that_does_not_shrink_with_the_precision_is_no_rounding():
    residual = 5e-13
    near_miss = dict(measured=[1e-4 + residual * 100], theory=[1e-4], scale=[100.0])
    assert decide(Identity(), **near_miss).verdict == SUPPORTED  # before float32 is looked at
    assert decide(Identity(), **near_miss, coarse=near_miss["measured"]).verdict == INCONCLUSIVE
    assert decide(Identity(), **near_miss, coarse=[1e-4 + 1.1e4 * residual * 100]).verdict == SUPPORTED
    assert decide(Identity(), **near_miss, coarse=[1e-4 + 0.9e4 * residual * 100]).verdict == INCONCLUSIVE


def test_shrinking_is_waived_where_float32_is_exact():
    assert decide(Identity(), [1 + 1e-15], [1.0], coarse=[1.0]).verdict == SUPPORTED
    assert decide(Identity(), [1.0], [1.0], coarse=[1.0]).verdict == SUPPORTED


def test_an_identity_on_enumerated_outcomes_is_judged_as_one():
    verdict = decide(Expectation(), [2.0], [2.0 * (1 + 1e-14)], coarse=[2.0])
    assert (verdict.verdict, verdict.method) == (SUPPORTED, "enumerated")
    assert decide(Expectation(), [2.0], [2.02]).verdict == REFUTED
    assert decide(Expectation("at most"), [2.0], [2.02]).verdict == SUPPORTED
    assert decide(Expectation("at most"), [2.02], [2.0]).verdict == REFUTED


# --- Bounds


def test_a_violation_counts_beyond_rounding_alone():
    verdict = decide(Bound(), [1 + 1e-14, 0.5], [1.0, 1.0])
    assert (verdict.verdict, verdict.measured, verdict.theory) == (SUPPORTED, pytest.approx(0.75), 1.0)
    assert verdict.looseness == pytest.approx(1.5)
    assert decide(Bound(), [1 + 1e-11, 0.5], [1.0, 1.0]).verdict == REFUTED
    assert decide(Bound(), [1e-14], [0.0], scale=[1.0]).verdict == SUPPORTED
    assert decide(Bound(), [1e-14], [0.0]).verdict == REFUTED


def test_negative_sides_have_no_looseness():
    assert np.isnan(decide(Bound(), [-3.0, -2.0], [-1.0, -1.0]).looseness)
    assert decide(Bound(), [-3.0, 1.0], [-1.0, 4.0]).looseness == 4.0


def test_allowed_failures_have_no_looseness():
    """A failure rate may count outcomes whose sides are 0 and 1: their ratio says nothing of how tight it is."""
    found = sums(1000, failures=1, delta=0.5)
    assert Probability().decide(found, np.ones(2, bool), TINY).looseness == 1.0
    nothing = found._replace(sides=found.sides._replace(theory=0 * found.sides.theory))
    assert np.isnan(Probability().decide(nothing, np.ones(2, bool), TINY).looseness)
    assert decide(Bound(), [1.0, 1.0], [0.0, 0.0]).looseness == 0.0  # a bound of 0 is violated, and says so


def test_one_component_of_one_instance_refutes():
    assert decide(Bound(), [[1.0, 1.0], [1.0, 2.0]], [[1.0, 1.0], [1.0, 1.9]]).verdict == REFUTED


def test_vacuous_where_most_bounds_exceed_the_trivial_one():
    assert decide(Bound(), [1.0, 1.0, 1.0], [9.0, 9.0, 3.0], trivial=[4.0, 4.0, 4.0]).verdict == VACUOUS
    assert decide(Bound(), [1.0, 1.0, 1.0], [9.0, 3.0, 3.0], trivial=[4.0, 4.0, 4.0]).verdict == SUPPORTED
    assert decide(Bound(), [1.0, 1.0], [4.0, 4.0], trivial=[4.0, 4.0]).verdict == SUPPORTED  # attained
    assert decide(Bound(), [5.0, 5.0], [9.0, 9.0], trivial=[inf, nan]).verdict == SUPPORTED  # nothing is known
    assert decide(Bound(), [10.0, 1.0, 1.0], [9.0, 9.0, 9.0], trivial=[4.0, 4.0, 4.0]).verdict == REFUTED


# --- What is not finite, and what is not admissible


@pytest.mark.parametrize("kind", [Identity(), Bound(), Expectation(), Expectation("at most")])
@pytest.mark.parametrize(("measured", "theory"), [(nan, 1.0), (1.0, nan), (inf, 1.0), (inf, inf), (-inf, 1.0)])
def test_numbers_that_are_not_finite_refute(kind, measured, theory):
    assert decide(kind, [0.5, measured], [0.5, theory]).verdict == REFUTED
    assert decide(kind, [0.5, measured], [0.5, theory], admissible=[True, False]).verdict == SUPPORTED


def test_an_infinite_bound_is_true():
    assert decide(Bound(), [0.5, 1.0], [0.5, inf]).verdict == SUPPORTED
    assert decide(Identity(), [0.5, 1.0], [0.5, inf]).verdict == REFUTED


@pytest.mark.parametrize("kind", [Identity(), Bound(), Expectation()])
def test_unmet_where_no_instance_is_admissible(kind):
    verdict = decide(kind, [1.0, nan], [2.0, 1.0], admissible=[False, False])
    assert (verdict.verdict, verdict.instances, verdict.admissible) == (UNMET, 2, 0)
    assert np.isnan([verdict.measured, verdict.theory, verdict.looseness]).all()


def test_unmet_in_every_other_kind():
    none = np.array([False, False])
    assert Probability().decide(sums(10, delta=0.1), none, TINY).verdict == UNMET
    assert Rate((2, 4)).decide(np.ones((2, 2)), 0.0, none).verdict == UNMET
    assert Effect().decide(evaluated([1.0, 1.0], [0.0, 0.0]), none).verdict == UNMET


def test_instances_that_are_not_admissible_decide_nothing():
    verdict = decide(Bound(), [9.0, 1.0], [1.0, 4.0], admissible=[False, True])
    assert (verdict.verdict, verdict.admissible, verdict.looseness) == (SUPPORTED, 1, 4.0)
    wrong = sums([1000, 1000], failures=[900, 10], deviation=[5000, 0], squares=[9000, 1], delta=0.1)
    for kind in (Probability(), Expectation()):
        assert sampled(kind, wrong, [True, True]).verdict == REFUTED
        assert sampled(kind, wrong, [False, True]).verdict == SUPPORTED


# --- Trials


def test_a_sampled_mean_and_its_interval():
    totals = sums(1000, deviation=[10, -10], squares=[1, 1])
    verdict = sampled(Expectation(), totals)
    assert (verdict.verdict, verdict.method, verdict.trials) == (SUPPORTED, "asymptotic", 2000)
    low, high = verdict.interval
    assert low == pytest.approx(-high) and 0 < high < 1e-2
    # Differences between instances are no noise: each has its own mean, and their average is known well.
    assert high == pytest.approx(4.89 * np.sqrt(2 * (1 - 0.1) / 999 / 1000) / 2, rel=0.01)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_bounded_means_use_their_range(scale):
    """Relative to the scale, as the deviations are."""
    totals = sums(1000, squares=1)
    sides = totals.sides._replace(range=totals.trials * 3.0, scale=totals.trials * scale)
    verdict = sampled(Expectation(), totals._replace(sides=sides))
    assert verdict.method == "empirical Bernstein"
    expected = statistics.bernstein_interval(2000, 0.0, 2 / 1999, 3.0 / scale, LEVEL)
    assert verdict.interval == pytest.approx(expected)


@pytest.mark.parametrize("relation", ["equal", "at most"])
def test_an_average_that_may_hide_much_supports_nothing(relation):
    """Means of ±0.4 are within five times the tolerance, means of ±0.6 are not; both have the average 0."""
    for mean, word in ((0.4, SUPPORTED), (0.6, INCONCLUSIVE)):
        opposite = sums(1000, deviation=[1000 * mean, -1000 * mean], squares=1000 * mean**2 + 1)
        if relation == "at most":  # where only the deviations above 0 count
            opposite = sums(1000, deviation=[1414 * mean, -1414 * mean], squares=2000 * mean**2 + 1)
        verdict = sampled(Expectation(relation), opposite)
        assert verdict.verdict == word and verdict.resolution == pytest.approx(mean, rel=0.05)
    assert "root mean square" in verdict.reason


def test_one_broken_trial_refutes():
    for kind, totals in (
        (Expectation(), sums(1000, squares=1, broken=[0, 1])),
        (Expectation("at most"), sums(1000, deviation=-900, squares=900, broken=[0, 1])),
        (Probability(), sums(1000, delta=0.1, broken=[0, 1])),
    ):
        assert sampled(kind, totals).verdict == REFUTED
        assert sampled(kind, totals, [True, False]).verdict == SUPPORTED
    assert sampled(Probability(), sums(990, delta=0.1, broken=10)).measured == 0.01  # it is a failure


def test_all_trials_broken():
    for kind in (Expectation(), Probability()):
        assert sampled(kind, sums(0, broken=[1000, 1000], delta=0.1)).verdict == REFUTED


def test_a_failure_rate_and_its_limits():
    verdict = sampled(Probability(), sums(1000, failures=[30, 50], measured=0.5, delta=0.1))
    assert (verdict.verdict, verdict.method, verdict.trials) == (SUPPORTED, "exact binomial", 2000)
    assert (verdict.measured, verdict.theory) == (0.04, 0.1)
    assert verdict.looseness == 2.0  # of the threshold
    assert verdict.interval[0] < 0.04 < verdict.interval[1] < 0.2
    assert sampled(Probability(), sums(1000, failures=350, delta=0.1)).verdict == REFUTED
    assert sampled(Probability(), sums(100, failures=15, delta=0.1)).verdict == INCONCLUSIVE


def test_a_probability_whose_threshold_says_nothing_is_vacuous():
    assert sampled(Probability(), sums(1000, trivial=0.5, delta=0.1)).verdict == VACUOUS
    assert sampled(Probability(), sums(1000, trivial=[0.5, 2.0], delta=0.1)).verdict == SUPPORTED
    assert sampled(Probability(), sums(1000, failures=350, trivial=0.5, delta=0.1)).verdict == REFUTED


# --- Rates and effects


def test_slopes_against_the_exponent():
    sizes, noise = np.array([4.0, 16.0, 64.0]), np.exp(0.02 * np.random.default_rng(0).standard_normal((8, 3)))
    values, kind, every = sizes**-0.5 * noise, Rate((4, 16, 64)), np.ones(8, bool)
    verdict = kind.decide(values, -0.5, every)
    assert (verdict.verdict, verdict.method) == (SUPPORTED, "slopes")
    assert verdict.interval[0] < verdict.measured < verdict.interval[1]
    assert verdict.measured == pytest.approx(-0.5, abs=0.05) and verdict.theory == -0.5
    assert [size for size, _ in verdict.points] == [4, 16, 64]
    np.testing.assert_allclose([mean for _, mean in verdict.points], np.prod(values, axis=0) ** (1 / 8))
    assert kind.decide(values, -1.0, every).verdict == REFUTED
    assert Rate((4, 16, 64), "at most").decide(values, -0.2, every).verdict == SUPPORTED
    assert kind.decide(values[:1], -0.5, every[:1]).verdict == INCONCLUSIVE


@pytest.mark.parametrize("bad", [nan, inf, 0.0, -1.0])
def test_values_without_a_logarithm_refute_a_rate(bad):
    values = np.ones((3, 2))
    values[1, 1] = bad
    assert Rate((2, 4)).decide(values, 0.0, np.ones(3, bool)).verdict == REFUTED
    assert Rate((2, 4)).decide(values, 0.0, np.array([True, False, True])).verdict == SUPPORTED


def test_paired_differences_against_the_margin():
    arms, every = np.random.default_rng(0).normal(5, 3, 40), np.ones(40, bool)
    better = arms + 0.2 + 0.05 * np.random.default_rng(1).standard_normal(40)
    verdict = Effect().decide(evaluated(better, arms), every)
    assert (verdict.verdict, verdict.method, verdict.trials) == (SUPPORTED, "paired", 40)
    assert verdict.measured == pytest.approx(0.2, abs=0.03)
    assert Effect().decide(evaluated(arms, better), every).verdict == REFUTED
    verdict = Effect(margin=0.25).decide(evaluated(arms, better), every)
    assert verdict.verdict == SUPPORTED and verdict.theory == -0.25
    assert Effect(margin=0.2).decide(evaluated(arms, better), every).verdict == INCONCLUSIVE
    better[3] = nan
    assert Effect().decide(evaluated(better, arms), every).verdict == REFUTED


# --- The worst instance, and tolerances


def worst(kind, sides, admissible=(True, True)):
    return worst_entry(kind.discrepancy(sides), sides.broken, np.array(admissible))


def test_the_worst_instance_is_admissible_and_contradicts_most():
    sides = evaluated([[1.0, 1.0], [0.5, 1.0], [9.0, 1.0]], [[1.0, 1.0], [1.0, 1.2], [1.0, 1.0]])
    assert worst(Identity(), sides, [True, True, False]) == (1, 0)
    assert worst(Bound(), sides, [True, True, True]) == (2, 0)
    broken = evaluated([[1.0, 9.0], [nan, 1.0]], np.ones((2, 2)))
    assert worst(Identity(), broken, [True, True]) == (1, 0)


def test_the_worst_instance_of_trials():
    totals = sums(1000, failures=[3, 40], deviation=[70, -90], squares=1000)
    for kind, row in ((Probability(), 1), (Expectation(), 1), (Expectation("at most"), 0)):
        assert worst_entry(kind.suspicion(totals), totals.broken, np.array([True, True])) == (row, 0)


def test_a_scale_that_chance_decides_is_refused():
    with pytest.raises(ValueError, match="scale in the trial changes from trial to trial"):
        Expectation().decide(sums(100, changed_scales=3), np.ones(2, bool), TINY)


def test_tolerances_by_kind():
    assert Identity().tolerance(TINY) == Bound().tolerance(TINY) == ROUNDING
    assert Probability().tolerance(TINY) == 1  # up to 2δ
    assert Expectation().tolerance(TINY) == 0.1
    assert Rate((2, 4), margin=0.3).tolerance(TINY) == 0.3
    assert Effect(0.02).tolerance(TINY) == 0.02


def test_assessing_keeps_components_and_defaults():
    sides: Evaluation = evaluated([[2.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [4.0, 0.0]])
    np.testing.assert_array_equal(sides.deviation, [[1, 0], [-0.75, 0]])  # 0/0 = 0
    np.testing.assert_array_equal(sides.violated, [[True, False], [False, False]])
    np.testing.assert_array_equal(sides.values.scale, sides.values.theory)
    assert np.isnan(sides.values.trivial).all() and np.isnan(sides.values.delta).all()
