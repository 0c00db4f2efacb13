"""The figure of test accuracies: its numbers are those of the sweep, on samples that no network was trained on."""

import dataclasses

import numpy as np
import pytest

from figures import accuracy
from figures._config import Config
from sketchprune import sweep
from sketchprune.data import Dataset
from sketchprune.sweep import Row

pytestmark = pytest.mark.usefixtures("jax_settings")


def rows_of_parts(folder):
    """The rows of every seed, as the figure keeps them."""
    found = []
    for path in sorted((folder / ".parts").glob("figures.accuracy.seed-*.npz")):
        with np.load(path) as kept:
            columns = [kept[field.name].tolist() for field in dataclasses.fields(Row)]
        found.append([Row(*row) for row in zip(*columns, strict=True)])
    return found


def test_its_numbers_are_the_means_of_its_runs(made, folder):
    numbers, seeds = made("accuracy"), rows_of_parts(folder)
    settings = accuracy.SETTINGS["tiny"].small
    assert len(seeds) == settings.seeds == 2
    keys = list(zip(*(numbers[name].tolist() for name in ("score", "sampler", "rounds", "density")), strict=True))
    assert len(set(keys)) == len(keys) == 1 + 2 * 2 * 2 * len(settings.densities)
    for place, key in enumerate(keys):
        rows = [row for rows in seeds for row in rows if row.run[1:5] == key]
        values = [row.test_accuracy for row in rows]
        assert len({row.seed for row in rows}) == numbers["runs"][place] == 2
        np.testing.assert_allclose(numbers["mean"][place], np.mean(values))
        # Student's quantile for one degree of freedom at 97.5 %
        np.testing.assert_allclose(numbers["high"][place] - numbers["mean"][place], 12.7062 * np.std(values), rtol=1e-4)
        np.testing.assert_allclose(numbers["realised_density"][place], key[3], atol=1e-4)
    dense = keys.index(("dense", "", 0, 1.0))
    assert numbers["mean"][dense] > 0.8  # forty steps teach a network the digits


def test_its_lines_are_its_numbers(made):
    numbers = made("accuracy")
    figure = accuracy.draw(numbers)
    drawn = {
        (axes.get_title(), line.get_label()): line.get_ydata()
        for axes in figure.axes for line in axes.lines if line.get_label() in ("SNIP, top", "SNIP, top, 3 rounds")
    }  # fmt: skip
    for title, label, rounds in (
        ("scores with data, at once", "SNIP, top", 1), ("scores with data, 3 rounds", "SNIP, top, 3 rounds", 3),
    ):  # fmt: skip
        chosen = (numbers["score"] == "SNIP") & (numbers["sampler"] == "top") & (numbers["rounds"] == rounds)
        np.testing.assert_array_equal(drawn[title, label], numbers["mean"][chosen])
    assert len(drawn) == 2


def test_no_sample_is_trained_and_tested_on():
    numbered = Dataset(np.arange(40.0)[:, None], np.arange(40) % 2, "numbered", 2)
    train, test = Config(data=numbered).train_and_test
    assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(40))
    assert Config(data=train, test=test).train_and_test == (train, test)
    assert Config(data=train).identity != Config(data=train, test=test).identity


@pytest.mark.parametrize(("side", "large"), [(0, False), (8, False), (28, True), (32, True)])
@pytest.mark.parametrize("scale", accuracy.SETTINGS)
def test_settings_follow_the_size_of_the_images(scale, side, large):
    shape = (side, side, 1) if side else ()
    data = Dataset(np.zeros((4, max(side, 1) ** 2)), np.zeros(4, int), "zeros", 1, shape)
    settings = accuracy._settings(Config(scale=scale, data=data))
    by_size = accuracy.SETTINGS[scale]
    assert settings == (by_size.large if large else by_size.small)
    assert settings.network in sweep.NETWORKS and set(settings.scores) <= set(accuracy.SCORES)
    assert all(any(score in names for names in accuracy.PANELS.values()) for score in settings.scores)
    assert scale == "tiny" or settings.seeds >= 5
