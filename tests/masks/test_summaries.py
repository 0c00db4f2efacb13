"""What a mask keeps, by layer and in all."""

import re
from xml.etree import ElementTree

import numpy as np

from sketchprune import masks


def test_a_summary_counts_what_is_kept():
    mask = {"w": np.array([[0.5, 0.0, 2.0]]), "b": np.zeros(3), "v": np.array([[True], [False]])}
    found = masks.summary(mask)
    assert found.kept == {"w": 2, "b": 0, "v": 1} and found.sizes == {"w": 3, "b": 0, "v": 2}
    assert found.densities == {"w": 2 / 3, "b": 1, "v": 0.5} and found.density == 3 / 5
    assert masks.summary(mask, lambda path: path != "['w']").density == 1 / 5


MASK = {
    "conv": np.ones((3, 3, 1, 4)) * [1, 0, 2, 0],
    "dense": np.eye(1000, 20, dtype=bool),
    "bias": np.zeros(4),
    "<head>": np.ones((2, 2)),
}


def test_dead_units_have_no_incoming_weight():
    found = masks.summary(MASK)
    assert found.dead_units == {"conv": 2, "dense": 0, "bias": 0, "<head>": 0}
    assert found.units == {"conv": 4, "dense": 20, "bias": 0, "<head>": 2}
    assert masks.summary(np.zeros(3)).units == 0


def test_a_summary_prints_as_a_table():
    assert str(masks.summary(MASK)).splitlines() == [
        "layer         size  kept   density  dead units",
        "['<head>']       4     4         1      0 of 2",
        "['conv']        36    18       0.5      2 of 4",
        "['dense']   20,000    20     0.001     0 of 20",
        "all         20,040    42  0.002096     2 of 26",
    ]
    assert str(masks.summary(np.array([1.0, 0.0, 0.0]))).splitlines()[1:] == ["all       3     1   0.3333           –"]


def test_a_notebook_shows_the_same_table():
    found = masks.summary(MASK)
    rows = ElementTree.fromstring(found._repr_html_()).findall(".//tr")
    assert [[cell.text for cell in row] for row in rows] == [
        re.split(" {2,}", line) for line in str(found).splitlines()
    ]
