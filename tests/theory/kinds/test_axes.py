"""Axes hold every finite value, up to the largest."""

import math
import sys

import pytest

from theory.kinds.axes import Strip, linear, logarithmic, round_values

LARGEST = sys.float_info.max


@pytest.mark.parametrize(
    ("low", "high"), [(-1e308, 1e308), (-LARGEST, LARGEST), (0.0, LARGEST), (-1.7e308, -1e308), (0.0, 1e-300)]
)
def test_round_values_of_any_length(low, high):
    values = round_values(low, high)
    assert 3 <= len(values) <= 6 and values == sorted(set(values))
    assert all(low * (1 + 1e-9) <= value <= high or value == 0 for value in values)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e20, 1e307])
def test_round_values_scale(scale):
    assert round_values(-1.3 * scale, 5.2 * scale) == pytest.approx([0.0, 2.0 * scale, 4.0 * scale])


@pytest.mark.parametrize("values", [(-1e308, 1e308), (LARGEST,), (LARGEST, -LARGEST, 0.0), (1e20,), (1e308, 1.5e308)])
@pytest.mark.parametrize("marks", [{}, {0.0: "equal"}])
def test_linear_axes_of_values_without_end(values, marks):
    strips = {str(value): Strip(value, interval=(value, value)) for value in values}
    axis = linear("a value", strips, marks=marks, band=(-math.inf, 0.0) if marks else (-math.inf, math.inf))
    assert axis is not None
    places = {value: axis.strips[str(value)].point for value in values}
    assert all(place is not None and 0 <= place <= 1 for place in places.values())
    assert [places[value] for value in sorted(values)] == sorted(places.values())
    assert all(0 <= place <= 1 for place, _ in axis.ticks)


def test_logarithmic_axes_of_values_without_end():
    strips = {"small": Strip(1e-309), "large": Strip(LARGEST)}
    axis = logarithmic("a ratio", strips, marks={1.0: "tight"}, band=(1.0, math.inf))
    assert axis is not None and axis.strips["large"].point == 1
    assert all(0 <= place <= 1 for place, _ in axis.ticks)
