"""Checksums of arrays tell apart what differs."""

import jax
import numpy as np
import pytest

from sketchprune import data
from sketchprune._checksums import checksum


def test_checksums_see_values_shapes_and_types():
    x = np.arange(6.0)
    found = [checksum(each) for each in ([x], [x + 1], [x.reshape(2, 3)], [x.astype(np.float32)], [x, x])]
    assert len(set(found)) == len(found)
    assert checksum({"x": x}) == checksum({"x": x.copy()})
    assert checksum(jax.random.key(0)) != checksum(jax.random.key(1))


def test_checksums_see_where_arrays_are():
    """Not what the tree is called."""
    x = np.arange(6.0)
    trees = ([x], x, {"a": x}, {"b": x}, {"a": x, "b": None}, [None, x], [x, None], [[x]])
    assert len({checksum(tree) for tree in trees}) == len(trees)
    named = [data.Dataset(x[:, None], np.arange(6), name, 6) for name in ("one", "another")]
    assert checksum(named[0]) == checksum(named[1])


@pytest.mark.parametrize("leaf", ["text", "float32", np.float32, np.array(["a"]), print])
def test_what_has_no_checksum_is_named(leaf):
    with pytest.raises(ValueError, match=r"arrays\['a'\]\[1\] is .*; it takes a number or an array of numbers"):
        checksum({"a": [1.0, leaf]})
