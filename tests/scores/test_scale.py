"""Flows at any scale: nothing underflows to ties, and what is not scored does not set the scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import masks, scores
from tests.support.path_networks import relu_network

FLOWS = {
    "synflow": scores.synflow,
    "synflow_l2": scores.synflow_l2,
    "path_trace": scores.path_trace,
    "trace_drop": scores.trace_drop,
}
FORMS = ("authors", "later")


@jax.jit
def all_flows(params, kept, batch):
    """Every flow from the data, and the other forms of SynFlow-L2."""
    found = {name: score(relu_network, None, params, batch, mask=kept, inputs="data") for name, score in FLOWS.items()}
    for form in FORMS:
        found[form] = scores.synflow_l2(relu_network, None, params, batch, mask=kept, inputs="data", form=form)
    return found


@pytest.mark.parametrize("dead", ["no output", "no input", "input of zero"])
def test_heavy_weights_on_no_path_change_no_score(dead):
    """One path of three weights 1e-8 beside a chain of ones that is cut off: all of its weights score the same."""
    kept = [jnp.eye(2) > 0] * 3
    if dead != "input of zero":
        kept[-1 if dead == "no output" else 0] = jnp.diag(jnp.array([1, 0])) > 0
    params = [jnp.diag(jnp.array([1e-8, 1.0], jnp.float32))] * 3
    batch = jnp.array([[1.0, 0.0 if dead == "input of zero" else 1.0]], jnp.float32), None
    for found in all_flows(params, kept, batch).values():
        live = jnp.stack([layer[0, 0] for layer in found])
        assert (live > 0).all() and np.isfinite(live).all()
        np.testing.assert_allclose(live, live[0], rtol=1e-5)
        assert max(layer[1, 1] for layer in found) <= 0
        assert masks.keep_top(found, 3)[1].tolist() == [[True, False], [False, False]]


def test_sparse_layers_in_float32():
    """No ties at zero: ranked as in float64, where nothing underflows; the scale of a score is a power of two."""
    rng = np.random.default_rng(0)
    scales = [1e-9, *[1e-8] * 3, 30.0]
    params = [scale * rng.uniform(0.5, 1.5, (20, 20)) for scale in scales]
    kept = [np.eye(20)[rng.permutation(20)] > 0 for _ in scales]

    @jax.jit
    def flows(params, kept):
        batch = jnp.ones((1, 20), jnp.float32), None
        found = {}
        for name in ("synflow_l2", "path_trace"):
            found[name] = FLOWS[name](relu_network, None, params, batch, mask=kept)
        found["later"] = scores.synflow_l2(relu_network, None, params, batch, mask=kept, form="later")
        return jax.tree.map(jnp.ravel, found)

    coarse, fine = (flows([jnp.asarray(w, t) for w in params], kept) for t in (jnp.float32, jnp.float64))
    live = np.concatenate([m.ravel() for m in kept])
    for name in coarse:
        found, expected = (np.concatenate(flow[name]).astype(np.float64)[live] for flow in (coarse, fine))
        assert np.isfinite(found).all() and (found > 0).all()
        ratio = found / expected
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
        assert abs(np.log2(ratio[0]) - round(np.log2(ratio[0]))) < 1e-4
    assert np.concatenate(fine["synflow_l2"])[live].max() < 1e-45  # below the least number of float32


def test_what_is_pruned_has_no_say_in_the_scale():
    """A pruned weight's slope of 1 lies beside kept ones of 1e-20 to 1e-48, which are scaled up together."""
    params = [jnp.array([[1, 1e-14]]), jnp.full((2, 2), 1e-10), jnp.array([[1e-14], [1]])]
    mask = [jnp.ones((1, 2), bool), jnp.eye(2) > 0, jnp.ones((2, 1), bool)]
    params = jax.tree.map(lambda w: w.astype(jnp.float32), params)

    @jax.jit
    def program(params, mask):
        batch = jnp.ones((1, 1)), None
        trace = scores.path_trace(relu_network, None, params, batch, mask=mask)
        return trace, scores.synflow_l2(relu_network, None, params, batch, mask=mask, form="later")

    trace, later = program(params, mask)
    np.testing.assert_allclose(trace[0] / trace[0][0, 1], [[1e-28, 1]], rtol=1e-5)
    # |θ| times the slope: both ends of both paths, and the weights between them.
    np.testing.assert_allclose(later[0] / later[0][0, 1], [[1e-14, 1]], rtol=1e-5)
    np.testing.assert_allclose(later[1].diagonal() / later[0][0, 1], [1e-4, 1e-4], rtol=1e-5)
