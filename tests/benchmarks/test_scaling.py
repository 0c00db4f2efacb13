"""Exponents of costs: what the letters are, what docstrings state, and when a call hides the cost."""

import itertools

import pytest

from benchmarks import _roofs, scaling
from benchmarks._roofs import Roof
from sketchprune import kernels, laws, masks
from tests.support.clock import Clock


def rows_of(monkeypatch, growth, seconds, nothing=1e-6):
    """The rows of one growth whose runs take these seconds."""
    clock = Clock(monkeypatch)
    growth = growth._replace(run=lambda size: clock.taking(size, itertools.repeat(seconds(size))))
    monkeypatch.setattr(scaling, "growths", lambda: [growth])
    empty = Roof("calls", clock.taking("calls", itertools.repeat(nothing)), 1)
    monkeypatch.setattr(_roofs, "calls", lambda: empty)
    return list(scaling.rows())


def growth_of(function, letter):
    (found,) = (growth for growth in scaling.growths() if (growth.function, growth.letter) == (function, letter))
    return found


def test_a_cost_in_the_weights_is_reported_by_their_number(monkeypatch):
    growth = growth_of(kernels.ntk, "P")._replace(sizes=(8, 64, 512))
    (row,) = rows_of(monkeypatch, growth, lambda width: 1e-6 * (256 * width + width**2 + 10 * width) ** 1.5)
    assert row.value == pytest.approx(1.5, abs=1e-9)
    assert row.met is False and "widths 8, 64, 512" in row.what


def test_every_letter_for_weights_counts_those_of_the_network_that_runs():
    for growth in scaling.growths():
        if growth.letter == "P":
            inputs = 256 if growth.function is kernels.ntk else 16
            assert growth.letter_at(16) == inputs * 16 + 16 * 16 + 16 * 10


@pytest.mark.parametrize(("nothing", "met"), [(1e-4, True), (1.1e-4, None)])
def test_a_cost_that_the_call_hides_is_not_measured(monkeypatch, nothing, met):
    growth = growth_of(masks.keep_top, "d")
    smallest = growth.sizes[0]
    (row,) = rows_of(monkeypatch, growth, lambda size: 1e-3 * size / smallest, nothing=nothing)
    assert row.met is met
    assert (row.value is None) is (met is None) is ("hides the exponent" in row.note)


def test_every_cost_that_is_measured_is_stated():
    for growth in scaling.growths():
        assert len(scaling.stated_cost(growth.function)) > 1, growth.function
        assert scaling.stated_exponent(growth.function, growth.letter) >= 1
        assert len(set(growth.sizes)) >= 3
    assert scaling.stated_exponent(laws.Determinantal.sample, "d") == 3
    assert [scaling.stated_exponent(kernels.ntk, letter) for letter in "NP"] == [2, 1]


@pytest.mark.parametrize(
    ("cost", "letter", "power"),
    [
        ("O(nd)", "d", 1),
        ("O(nd²) once, then d", "d", 2),
        ("O(nd²) once, then d³.", "n", 1),
        ("d and s log n", "s", 1),
        ("two passes and a pullback", "P", 1),
        ("one gradient for each model", "models", 1),
        ("num_masks masks", "num_masks", 1),
        ("K² for each pair of samples", "N", 2),
        ("words and s log d", "d", None),
    ],
)
def test_the_stated_exponent_is_that_of_the_largest_power(cost, letter, power):
    def function():
        pass

    function.__doc__ = f"One line.\n\nCost: {cost}"
    if power is None:
        with pytest.raises(ValueError, match="letter is 'd'; it takes one in which the docstring of .* states"):
            scaling.stated_exponent(function, letter)
    else:
        assert scaling.stated_exponent(function, letter) == power


def test_the_stated_cost_is_the_first_sentence():
    def function():
        """One line.

        Cost: O(d) for each
            pass. More of it.
        """

    def of_time():
        """One line.

        Cost:
            Memory: much. Time: d for each
            pass.

        Source: none.
        """

    assert scaling.stated_cost(function) == "O(d) for each pass"
    assert scaling.stated_cost(of_time) == "d for each pass"
    with pytest.raises(ValueError, match="whose docstring has no Cost; it takes one that has"):
        scaling.stated_cost(Clock)
