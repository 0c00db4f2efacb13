"""The figure of test accuracies: its numbers are those of the sweep, on samples that no network was trained on."""

import numpy as np
import pytest

from figures import accuracy
from figures._config import Config
from figures._sweeps import rows_of
from sketchprune import sweep
from sketchprune.data import Dataset

pytestmark = pytest.mark.usefixtures("jax_settings")
TINY = accuracy.SETTINGS["tiny"].small


def rows_of_parts(folder):
    """The rows of every seed, as the figure keeps them."""
    found = []
    for path in sorted((folder / ".parts").glob("figures._sweeps.accuracy-mlp-*.npz")):
        with np.load(path) as kept:
            found.append(rows_of(dict(kept)))
    return found


def test_its_numbers_are_the_means_of_its_runs(made, folder):
    numbers, seeds = made("accuracy"), rows_of_parts(folder)
    assert len(seeds) == TINY.seeds == 2
    keys = list(zip(*(numbers[name].tolist() for name in ("score", "sampler", "rounds", "density")), strict=True))
    assert len(set(keys)) == len(keys) == 1 + 2 * 2 * 2 * len(TINY.densities)
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


@pytest.mark.parametrize("scale", accuracy.SETTINGS)
def test_every_scale_has_networks_scores_and_seeds(scale):
    for settings in (accuracy.SETTINGS[scale].small, accuracy.SETTINGS[scale].large):
        assert settings.network in sweep.NETWORKS and set(settings.scores) <= set(accuracy.SCORES)
        assert all(any(score in names for names in accuracy.PANELS.values()) for score in settings.scores)
        assert scale == "tiny" or settings.seeds >= 5


def test_no_sample_is_trained_and_tested_on():
    numbered = Dataset(np.arange(40.0)[:, None], np.arange(40) % 2, "numbered", 2)
    train, test = Config(data=numbered).halves()
    assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(40))
    fewer, same = Config(data=numbered).halves(6)
    assert {*fewer.x[:, 0]} < {*train.x[:, 0]} and np.bincount(fewer.y).tolist() == [3, 3]
    np.testing.assert_array_equal(same.x, test.x)
    assert Config(data=train, test=test).halves() == (train, test)
    assert Config(data=train).identity != Config(data=train, test=test).identity
