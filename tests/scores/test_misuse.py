"""Scores with malformed arguments: refused by the name of the argument, before anything is compiled."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchprune.scores import SCORES, score
from tests.support import few, without_type_checks

PARAMS = {"kernel": np.ones((2, 3)), "bias": np.ones(3)}
X, Y = np.ones((4, 2)), np.ones((4, 3))
MALFORMED = ("text", b"bytes", object(), [], {}, 1j, np.array(["a"]), np.array(None), {"a": None}, ("a", object()))
ALL, OF_NETWORKS = ("params", "mask", "prunable"), ("apply", "batch")
USED = {name: (*ALL, *OF_NETWORKS) for name in SCORES} | {"magnitude": ALL, "random": (*ALL, "key")}
for name in ("snip", "grasp"):
    USED[name] += ("loss",)


def network(params, x):
    return x @ params["kernel"] + params["bias"]


def mean_square(outputs, targets):
    return ((outputs - targets) ** 2).mean()


@given(st.sampled_from([(name, wrong) for name, used in USED.items() for wrong in used]), st.sampled_from(MALFORMED))
@few(400)
def test_malformed_arguments_are_named(argument, value):
    name, wrong = argument
    given = {"apply": network, "loss": mean_square, "params": PARAMS, "batch": (X, Y), "key": jax.random.key(0)}
    given[wrong] = value
    if name in ("magnitude", "random") or wrong != "batch":
        takes = "(it|mask) takes "
    else:
        takes = r"it takes (\(inputs, targets\)|an array)"
    with without_type_checks(), pytest.raises(ValueError, match=rf"^{wrong}\b.* (is|has) .*; {takes}"):
        SCORES[name](given.pop("apply"), given.pop("loss"), given.pop("params"), given.pop("batch"), **given)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (None, r"batch is None; it takes \(inputs, targets\)"),
        ((X,), r"batch is \(array.*; it takes \(inputs, targets\)"),
        ((X, Y[:3]), "batch has 4 inputs and 3 targets; it takes as many of each"),
        ((X[:0], Y[:0]), r"batch\[0\] has shape \(0, 2\); it takes samples on the first axis, at least one"),
        ((1.0, Y), r"batch\[0\] is 1.0; it takes an array"),
    ],
)
def test_batches(batch, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        SCORES["snip"](network, mean_square, PARAMS, batch)


def test_options_are_what_their_annotations_say():
    @score(uses="params")
    def power(net, *, exponent: float = 1.0, unit=None):
        return jax.tree.map(lambda w: abs(w) ** exponent, net.params)

    assert power(None, None, np.array([-2.0]), None, exponent=2, unit="anything").tolist() == [4.0]
    with without_type_checks(), pytest.raises(ValueError, match="exponent is 'text'; it takes a number"):
        power(None, None, np.array([-2.0]), None, exponent="text")


def test_targets_need_not_be_arrays():
    found = SCORES["snip"](network, lambda outputs, _: (outputs**2).mean(), PARAMS, (X, None))
    assert np.isfinite(found["kernel"]).all()
