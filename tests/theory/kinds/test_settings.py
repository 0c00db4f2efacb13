"""What the fields of each kind may be."""

import numpy as np
import pytest

from tests.support import without_type_checks
from theory.kinds import Bound, Effect, Expectation, Rate


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bound(search="x"), r"search is 'x'; it takes a tuple of field names, such as \('x',\)"),
        (lambda: Bound(search=(1,)), r"search is \(1,\); it takes a tuple of field names"),
        (lambda: Expectation("less"), "relation is 'less'; it takes 'equal' or 'at most'"),
        (lambda: Rate((2, 4), "at least"), "relation is 'at least'; it takes 'equal' or 'at most'"),
        (lambda: Rate((2,)), r"sizes is \(2,\); it takes at least two whole numbers >= 1, ascending"),
        (lambda: Rate((4, 2)), r"sizes is \(4, 2\); it takes at least two"),
        (lambda: Rate((0, 2)), r"sizes is \(0, 2\); it takes at least two"),
        (lambda: Expectation("equals"), "relation is 'equals'; it takes 'equal' or 'at most'"),
        (lambda: Expectation(None), "relation is None; it takes 'equal' or 'at most'"),
        (lambda: Expectation(np.array(["equal", "at most"])), "relation is array.*; it takes 'equal' or 'at most'"),
        (lambda: Bound(search="ab"), "search is 'ab'; it takes a tuple of field names"),
        (lambda: Bound(search=("x", "x")), r"search is \('x', 'x'\); it takes a tuple of field names"),
        (lambda: Rate(4), "sizes is 4; it takes at least two whole numbers >= 1, ascending"),
        (lambda: Rate(("2", "4")), r"sizes is \('2', '4'\); it takes at least two whole numbers"),
        (lambda: Rate((2.5, 4)), r"sizes is \(2.5, 4\); it takes at least two whole numbers"),
        (lambda: Rate([2, 4]), r"sizes is \[2, 4\]; it takes at least two whole numbers"),
        (lambda: Rate((2, 4), margin="wide"), "margin is 'wide'; it takes a number >= 0"),
        (lambda: Rate((2, 4), margin=float("inf")), "margin is inf; it takes a number >= 0"),
        (lambda: Effect(margin=None), "margin is None; it takes a number >= 0"),
        (lambda: Rate((2, 4), margin=-0.1), "margin is -0.1; it takes a number >= 0"),
        (lambda: Effect(margin=float("nan")), "margin is nan; it takes a number >= 0"),
    ],
)
def test_bad_settings(make, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        make()


def test_kinds_are_values():
    assert Rate((2, 4)) == Rate((2, 4), "equal", 0.1) != Rate((2, 8))
    assert len({Bound(), Bound(("x",)), Bound(), Expectation()}) == 3


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        (Bound(), "measured ≤ theory on every admissible instance."),
        (Expectation(), "E measured = E theory over the outcomes of a trial."),
        (Expectation("at most"), "E measured ≤ E theory over the outcomes of a trial."),
        (Rate((2, 4)), "measured(size) ~ size^theory: the slope of log measured against log size."),
        (Rate((2, 4), "at most"), "measured(size) ≲ size^theory: the slope of log measured against log size."),
    ],
)
def test_meanings_name_the_settings(kind, meaning):
    assert kind.meaning.endswith(meaning)


def test_what_a_kind_asks_of_a_trial():
    assert Rate((2, 4)).trial_arguments == (2,) and Bound().trial_arguments == ()
    assert Bound(("x",)).searched_fields == ("x",) and Expectation().searched_fields == ()
