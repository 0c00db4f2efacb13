"""Means over seeds with Student's intervals, and their picture."""

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from sketchprune import sweep
from sketchprune.sweep import Row

ACCURACIES = {0.5: (0.9, 0.8, 0.85), 0.1: (0.5, 0.75, 0.6), 0.02: (0.1, 0.1, 0.2)}


def row(score, density, seed, accuracy, sampler="top", **fields):
    fields = {"realised_density": density, "rounds": 1, "empty_layer": False} | fields
    made = Row("mlp", score, sampler, 1, density, density, seed, 0.5, accuracy, 100, 1.0, False)
    return dataclasses.replace(made, **fields)


def table():
    """Three seeds of two scores and the dense network; the second score collapses, and fails at two seeds."""
    rows = [row("dense", 1.0, seed, 0.95 + seed / 100, sampler="", rounds=0) for seed in range(3)]
    for density, values in ACCURACIES.items():
        rows += [row("snip", density, seed, value) for seed, value in enumerate(values)]
        rows += [row("flow", density, seed, 0.1, rounds=10, empty_layer=density < 0.5) for seed in range(3)]
    lost = {"realised_density": math.nan, "failure": "none", "rounds": 10}
    return rows + [row("flow", 0.01, seed, math.nan, **lost) for seed in range(2)]


def test_means_and_intervals():
    found = {(each.method, each.density): each for each in sweep.summarise(table())}
    assert list(found) == [
        ("dense", 1.0), *(("snip, top", density) for density in ACCURACIES),
        *(("flow, top, 10 rounds", density) for density in (*ACCURACIES, 0.01)),
    ]  # fmt: skip
    for density, values in ACCURACIES.items():
        each = found["snip, top", density]
        interval = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert (each.mean, each.standard_error) == (pytest.approx(np.mean(values)), pytest.approx(stats.sem(values)))
        assert (each.low, each.high) == (pytest.approx(interval[0]), pytest.approx(interval[1]))
        assert (each.runs, each.failures, each.empty_layers, each.collapsed) == (3, 0, 0, False)
    lost = found["flow, top, 10 rounds", 0.01]
    assert (lost.runs, lost.failures) == (0, 2) and math.isnan(lost.mean) and not lost.collapsed
    assert [found["flow, top, 10 rounds", density].collapsed for density in ACCURACIES] == [False, True, True]


def test_the_order_of_rows_does_not_matter():
    rows = table()
    assert {repr(each) for each in sweep.summarise(rows)} == {repr(each) for each in sweep.summarise(rows[::-1])}


def test_runs_without_a_mask_are_left_out_of_the_mean_and_counted():
    rows = [row("snip", 0.1, 0, 0.5), row("snip", 0.1, 1, math.nan, failure="none", realised_density=math.nan)]
    (found,) = sweep.summarise(rows)
    assert (found.mean, found.runs, found.failures, found.realised_density) == (0.5, 1, 1, 0.1)
    assert all(map(math.isnan, (found.standard_error, found.low, found.high)))
    (diverged,) = sweep.summarise([row("snip", 0.1, 0, 0.0), row("snip", 0.1, 1, 0.5)])
    assert diverged.mean == 0.25


def drawn(rows, styles=None):
    axes, found = Figure().subplots(), sweep.summarise(rows)
    entries = sweep.draw_accuracy(axes, found, sweep.looks(found) if styles is None else styles)
    return axes, entries


def points(axes, marker):
    return sorted(
        (float(x), float(y)) for line in axes.lines if line.get_marker() == marker
        for x, y in zip(*line.get_data(), strict=True)
    )  # fmt: skip


def test_the_picture_shows_the_means():
    axes, entries = drawn(table())
    line = next(each for each in axes.lines if each.get_label() == "snip, top")
    np.testing.assert_allclose(line.get_xdata(), list(ACCURACIES))
    np.testing.assert_allclose(line.get_ydata(), [np.mean(values) for values in ACCURACIES.values()])
    assert [entry.get_label() for entry in entries] == [
        "snip, top", "flow, top, 10 rounds", "dense", "a layer is empty", "no mask for some seeds",
    ]  # fmt: skip
    np.testing.assert_allclose(points(axes, "x"), [(0.02, 0.1), (0.1, 0.1)])
    ((density, height),) = points(axes, "|")
    assert density == 0.01 and 0 < height < 0.2
    assert axes.get_xscale() == "log" and axes.get_ylabel() and axes.get_xlabel()
    dense = next(each for each in axes.lines if each.get_label() == "dense")
    np.testing.assert_allclose(dense.get_ydata(), 0.96)


def test_lines_stand_at_realised_densities():
    clipped = [row("erk", 0.5, seed, 0.5, sampler="", realised_density=0.27) for seed in range(2)]
    axes, _ = drawn(clipped)
    assert axes.lines[0].get_xdata().tolist() == [0.27]


def test_ten_scores_have_ten_looks():
    found = sweep.summarise([row(f"score {number}", 0.1, 0, 0.5) for number in range(10)])
    assert len(set(sweep.looks(found).values())) == 10


def test_looks_tell_methods_apart():
    rows = [
        row(score, 0.1, 0, 0.5, sampler=sampler, rounds=rounds)
        for score in ("a", "b", "c") for sampler in ("top", "proportional") for rounds in (1, 100)
    ]  # fmt: skip
    looks = sweep.looks(sweep.summarise(rows))
    assert len(looks) == len(set(looks.values())) == 12
    assert len({look.colour for look in looks.values()}) == 3
    some = dict(list(looks.items())[:2])
    assert [entry.get_label() for entry in drawn(rows, some)[1]] == list(some)


def test_one_seed_and_nothing_at_all_are_drawn():
    for rows in ([], [each for each in table() if each.seed == 0]):
        sweep.picture(sweep.summarise(rows), "title").canvas.draw()
