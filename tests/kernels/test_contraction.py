"""Columns that a mask keeps are gathered where that is cheaper, and each of them counts once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import kernels
from sketchprune.kernels import _plan
from sketchprune.kernels._network import mask_leaves, network
from tests.support import normal
from tests.support.networks import assert_same

PARAMS = {"first": normal(0, 64, 128), "last": normal(1, 128, 1), "scale": normal(2, 128)}
X = normal(3, 6, 64)


def sparse_mask(seed):
    """5 % of the entries and the first one of each leaf, which stands in for the padding of what is gathered."""
    rng = np.random.default_rng(seed)
    masks = jax.tree.map(lambda leaf: rng.random(leaf.shape) < 0.05, PARAMS)
    for leaf in masks.values():
        leaf.flat[0] = True
    return masks


def plan_of(apply, mask, trace):
    """The plan that `kernels.ntk` makes for this mask."""
    masks, bounds = mask_leaves(PARAMS, mask)
    net = network(apply, PARAMS, masks, X, bounds=bounds)
    return _plan.choose_plan(net, samples=len(X), trace=trace)


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("stored", [True, False])
def test_gathered_columns_count_once(monkeypatch, stored, trace):
    """Kept columns are gathered up to a bound; what fills it up is column 0, which may be kept itself."""
    if not stored:  # the columns of the first layer are formed in chunks on the way, the last one filled up as well
        monkeypatch.setattr(_plan, "MAX_STORED", 1000)
        monkeypatch.setattr(_plan, "MAX_PAIRED", 300)

    def apply(params, x):
        return (params["scale"] * jnp.tanh(x @ params["first"])) @ params["last"]

    mask = sparse_mask(5)
    plan = plan_of(apply, mask, trace)
    assert plan.orders[0] == ("rows" if stored else "columns")
    gathered = [weights.kept for weights in plan.weights]
    assert len(gathered) == 3 and None not in gathered[::2]  # the first layer, and the scale, which is no layer's
    assert gathered[0].size > mask["first"].sum() and gathered[2].size > mask["scale"].sum()
    found = kernels.ntk(apply, PARAMS, X, mask=mask, trace_outputs=trace)
    reference = jax.jit(functools.partial(kernels.ntk_reference, apply, trace_outputs=trace))
    assert_same(found, reference(PARAMS, X, mask=jax.tree.map(jnp.asarray, mask)))
