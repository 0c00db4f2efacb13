"""Plots show the numbers that they are made from: positions are read back from the SVG."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.support.catalogue_report import catalogue_report
from theory.kinds import Bound, Effect, Expectation, Identity, Probability, Rate
from theory.kinds.axes import ratios
from theory.kinds.kind import case_verdict
from theory.report.heat_maps import LEVELS, MAX_ENTRIES, heat_map, heat_maps
from theory.report.plots import FRAME, LEFT, RIGHT, claim_plots, rate_plot
from theory.report.svg import CHARACTERS
from theory.verdict import QUANTILES, REFUTED, SUPPORTED, UNMET, Replay, Verdict

ALL = np.ones(32, bool)
RATIOS = (1.0, 2.0, 4.0, 10.0, 20.0, 50.0, 100.0)


def case(word=SUPPORTED, **fields):
    verdict = case_verdict(word, ALL, method="a method", measured=2.0, theory=8.0)
    return replace(verdict, **fields)


def verdict(cases, **fields):
    return Verdict("a/claim", "bound", SUPPORTED, SUPPORTED, 0.1, cases, {}, None, 1.0, **fields)


def parsed(markup):
    """The SVG; every element is closed, and texts are escaped."""
    return ElementTree.fromstring(str(markup))


def of_class(drawing, name):
    return [each for each in drawing.iter() if name in each.get("class", "").split()]


def x_of(drawing, name, attribute="x1"):
    """Places on the axis, from 0 to 1."""
    return [(float(each.get(attribute)) - LEFT) / (RIGHT - LEFT) for each in of_class(drawing, name)]


def texts(drawing):
    return [each.text for each in drawing.iter("text")]


def test_a_box_has_the_quantiles_of_its_case_and_1_is_marked():
    found = verdict({"digits": case(looseness=10.0, looseness_quantiles=RATIOS), "none": case(UNMET)})
    (drawing,) = map(parsed, claim_plots(Bound(), found))
    # The axis is from 0.1 to 100: a third is a factor of ten.
    places = [(math.log10(ratio) + 1) / 3 for ratio in RATIOS]
    assert x_of(drawing, "whisker") + x_of(drawing, "whisker", "x2") == pytest.approx([places[0], places[6]], abs=1e-4)
    assert x_of(drawing, "most") + x_of(drawing, "most", "x2") == pytest.approx([places[1], places[5]], abs=1e-4)
    (box,) = of_class(drawing, "box")
    assert x_of(drawing, "box", "x") == pytest.approx([places[2]], abs=1e-4)
    assert float(box.get("width")) / (RIGHT - LEFT) == pytest.approx(places[4] - places[2], abs=1e-4)
    assert x_of(drawing, "median") == pytest.approx([places[3]], abs=1e-4)
    assert x_of(drawing, "mark") == pytest.approx([1 / 3], abs=1e-4)
    assert {"digits", "none", "least 1, median 10", "no number", "0.1", "1", "10", "100", "tight"} <= set(
        texts(drawing)
    )
    assert drawing.get("role") == "img" and "digits: least 1, median 10" in drawing.get("aria-label")


def test_a_counterexample_is_marked_where_its_ratio_is():
    found = replace(
        verdict({"digits": case(REFUTED, looseness=10.0, looseness_quantiles=RATIOS)}),
        counterexample=Replay("digits", 0, "search", 0, measured=2.0, theory=0.2, values={}),
    )
    axis = ratios(found)
    assert axis is not None and axis.values["digits"].counterexample == pytest.approx(0.1)
    (drawing,) = map(parsed, claim_plots(Bound(), found))
    assert len(of_class(drawing, "cross")) == 1 and any("counterexample 0.1" in words for words in texts(drawing))


def test_failure_rates_and_effects_are_drawn_with_their_intervals():
    rate = case(measured=0.02, theory=0.05, interval=(0.01, 0.1), looseness=10.0, looseness_quantiles=RATIOS)
    rates, loose = map(parsed, claim_plots(Probability(), verdict({"digits": rate})))
    one, two = x_of(rates, "mark")
    (low,), (high,), (point,) = x_of(rates, "interval"), x_of(rates, "interval", "x2"), x_of(rates, "point", "cx")
    assert [low / one, point / one, high / one, two / one] == pytest.approx([0.2, 0.4, 2.0, 2.0], rel=1e-3)
    assert len(of_class(loose, "box")) == 1

    effect = case(measured=0.02, theory=-0.01, interval=(0.0, 0.04))
    control = case(measured=-0.01, theory=-0.01, interval=(-0.03, 0.01), control=True)
    control = replace(control, contrast=0.03, contrast_interval=(0.01, 0.05))
    found = verdict({"digits": effect, "digits, shuffled masks": control})
    (drawing,) = map(parsed, claim_plots(Effect(0.01), found))
    labels = [each.text for each in of_class(drawing, "label")]
    said = [each.text for each in of_class(drawing, "value")]
    assert labels == ["digits", "control, shuffled masks", "effect − this control"]
    assert said == ["0.02 in [0, 0.04]", "-0.01 in [-0.03, 0.01]", "0.03 in [0.01, 0.05]"]
    low, high = np.array(x_of(drawing, "interval")), np.array(x_of(drawing, "interval", "x2"))
    assert low - low[0] == pytest.approx((high - low)[0] / 0.04 * np.array([0, -0.03, 0.01]), abs=1e-3)
    assert len(of_class(drawing, "ring")) == 1 and len(drawing.findall(".//path")) == 1


def test_a_rate_has_its_points_and_both_slopes():
    sizes = np.array([64.0, 256.0, 1024.0])
    points = tuple(zip(sizes.tolist(), (3 * sizes**-0.75).tolist(), strict=True))
    drawing = parsed(rate_plot("digits", case(measured=-0.75, theory=-0.5, points=points), "good"))
    left, top, right, bottom = FRAME
    at = np.array([[float(each.get("cx")), float(each.get("cy"))] for each in of_class(drawing, "point")])
    assert ((at > [left, top]) & (at < [right, bottom])).all()
    # Units of the drawing for a factor of e, along both axes: the points are 3·size^−0.75.
    across, down = (at[2] - at[0]) / [math.log(16), 0.75 * math.log(16)]
    assert at[1] == pytest.approx((at[0] + at[2]) / 2, abs=0.02)
    slopes = {}
    for name in ("fit", "theory"):
        line = of_class(drawing, name)[-1]
        x1, y1, x2, y2 = (float(line.get(end)) for end in ("x1", "y1", "x2", "y2"))
        slopes[name] = -(y2 - y1) / down / ((x2 - x1) / across)
        assert [(x1 + x2) / 2, (y1 + y2) / 2] == pytest.approx(at.mean(axis=0), abs=0.02)
    assert slopes == pytest.approx({"fit": -0.75, "theory": -0.5}, abs=1e-3)
    assert {"64", "256", "1024", "digits", "theory, exponent -0.5"} <= set(texts(drawing))


@pytest.mark.parametrize("kind", [Identity(), Bound(), Expectation(), Probability(), Rate((2, 4)), Effect()])
def test_without_numbers_there_is_no_plot(kind):
    assert claim_plots(kind, verdict({"digits": case(UNMET, measured=math.nan, theory=math.nan)})) == []


def test_names_are_escaped_and_cut_where_they_are_long():
    name = "a < b & " + "long " * 20
    (drawing,) = map(parsed, claim_plots(Bound(), verdict({name: case(looseness=2.0, looseness_quantiles=RATIOS)})))
    (label,) = of_class(drawing, "label")
    assert len(label.text) == CHARACTERS and label.text.endswith("…")
    assert name in drawing.get("aria-label") and any(name in title.text for title in drawing.iter("title"))


def test_every_plot_of_the_catalogue_is_well_formed():
    for item, found in catalogue_report().verdicts:
        for markup in claim_plots(item.claim.kind, found):
            drawing = parsed(markup)
            width, height = map(float, drawing.get("viewBox").split()[2:])
            for each in drawing.iter():
                inside = {"x": width, "cx": width, "x1": width, "x2": width, "y": height, "cy": height}
                assert all(-1 <= float(each.get(name)) <= end + 1 for name, end in inside.items() if each.get(name))


def cells(drawing, name):
    """From the place of a cell to how opaque it is."""
    found = {}
    for path in of_class(drawing, name):
        for part in path.get("d").split("M")[1:]:
            column, row = part.split("h")[0].split()
            found[int(row), int(column)] = float(path.get("fill-opacity"))
    return found


def test_a_heat_map_has_the_sign_and_the_size_of_each_entry():
    array = np.array([[1.0, -0.5, 0.0], [1e-9, math.nan, -1.0]])
    drawing = parsed(heat_map("w", array))
    assert cells(drawing, "plus") == {(0, 0): 1.0, (1, 0): 1 / LEVELS}
    assert cells(drawing, "minus") == {(0, 1): 0.5, (1, 2): 1.0}
    assert list(cells(drawing, "missing")) == [(1, 1)]
    assert "mask" not in drawing.get("class")
    assert cells(parsed(heat_map("w", np.array([[1e-320, -1e300]]))), "plus") == {(0, 0): 1 / LEVELS}
    assert cells(parsed(heat_map("w", np.zeros((2, 2)))), "plus") == {}


def test_masks_have_two_colours_and_captions_say_what_is_shown():
    values = {
        "kept": [[True, False], [True, True]],
        "w": [0.5, -2.5],
        "deep": np.ones((2, 3, 4)).tolist(),
        "one": 3.0,
        "large": "float64 [1000, 64]",
        "wide": np.zeros(MAX_ENTRIES + 1).tolist(),
        "empty": [],
        "lost": [None, 2.0],
    }
    shown = dict(heat_maps(values))
    assert list(shown) == [
        "kept [2×2], 3 of 4 are 1",
        "w [2], largest size 2.5",
        "deep [2×3×4], 24 of 24 are 1",
        "lost [2], largest size 2",
    ]
    kept = parsed(shown["kept [2×2], 3 of 4 are 1"])
    assert kept.get("class") == "heat mask" and set(cells(kept, "plus")) == {(0, 0), (1, 0), (1, 1)}
    assert set(cells(kept, "plus").values()) == {1.0}
    deep = parsed(shown["deep [2×3×4], 24 of 24 are 1"])
    assert max(cells(deep, "plus")) == (5, 3)


def test_the_quantiles_are_seven_with_both_ends_and_the_median():
    assert (QUANTILES[0], QUANTILES[3], QUANTILES[6], len(QUANTILES)) == (0.0, 0.5, 1.0, 7)
