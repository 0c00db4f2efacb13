"""Checksums of arrays tell apart what differs."""

import jax
import numpy as np

from sketchprune._checksums import checksum


def test_checksums_see_values_shapes_and_types():
    x = np.arange(6.0)
    found = [checksum(each) for each in ([x], [x + 1], [x.reshape(2, 3)], [x.astype(np.float32)], [x, x])]
    assert len(set(found)) == len(found)
    assert checksum({"x": x}) == checksum({"x": x.copy()})
    assert checksum(jax.random.key(0)) != checksum(jax.random.key(1))
