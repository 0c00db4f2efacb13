"""What a mask keeps, by layer and in all."""

import numpy as np

from sketchprune import masks


def test_a_summary_counts_what_is_kept():
    mask = {"w": np.array([[0.5, 0.0, 2.0]]), "b": np.zeros(3), "v": np.array([[True], [False]])}
    found = masks.summary(mask)
    assert found.kept == {"w": 2, "b": 0, "v": 1} and found.sizes == {"w": 3, "b": 0, "v": 2}
    assert found.densities == {"w": 2 / 3, "b": 1, "v": 0.5} and found.density == 3 / 5
    assert masks.summary(mask, lambda path: path != "['w']").density == 1 / 5
