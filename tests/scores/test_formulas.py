"""Every score against its formula: sums over all paths of small networks, or plain derivatives."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sketchprune import masks, scores
from tests.support import close, flat, normal
from tests.support.path_networks import SMALL_NETWORKS

KEY = jax.random.key(3)
FLOWS = ("synflow", "synflow_l2", "path_trace", "trace_drop")
FORMS = ("authors", "later")


def loss(outputs, targets):
    """Smooth, convex, not quadratic."""
    return jnp.mean(jnp.sum(jnp.logaddexp(0, -targets * outputs), axis=1))


def all_scores(small, params, batch, mask):
    """All scores by name, flows from the data, and the other forms of SynFlow-L2."""
    found = {}
    for name, score in scores.SCORES.items():
        options = {"inputs": "data"} if name in FLOWS else {}
        found[name] = score(small.apply, loss, params, batch, mask=mask, key=KEY, **options)
    for form in FORMS:
        found[form] = scores.synflow_l2(small.apply, None, params, batch, mask=mask, inputs="data", form=form)
    return found


def by_paths(small, params, batch, mask):
    """The same from the list of all paths, and which weights are kept."""
    x, y = batch
    found = small.paths(params, mask)
    masked = masks.apply(params, mask)
    theta, kept = ravel_pytree(masked)[0], jnp.concatenate([jnp.ravel(m != 0) for m in mask])
    uses = (np.asarray(found.edges)[:, :, None] == np.arange(theta.size)).any(axis=1)
    features, values, jacobian = found.features(x.reshape(len(x), -1)), found.values, found.jacobian
    slopes = jax.grad(loss)(small.apply(masked, x), y)
    one, two = (jnp.mean(abs(x) ** q, axis=0).ravel()[found.units[:, 0]] for q in (1, 2))
    expected = {
        "magnitude": abs(theta),
        "snip": abs(jnp.einsum("nk,nkp,p,pi->i", slopes, features, values, uses)),
        "ntk_trace": jnp.sum((features @ jacobian) ** 2, axis=(0, 1)),
        "synflow": (abs(values) * one) @ uses,
        "synflow_l2": (values**2 * two) @ uses,
        "authors": abs(theta) * ((abs(values) * one) @ uses),
        "later": abs(theta) * (two @ jacobian**2),
        "path_trace": two @ jacobian**2,
        "trace_drop": (two * jnp.sum(jacobian**2, axis=1)) @ uses,  # Π_pp of the paths that go with the weight
    }

    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.split(KEY, 1)[0], len(leaves))
    drawn = structure.unflatten([jax.random.normal(k, w.shape) for k, w in zip(keys, leaves, strict=True)])
    change = jacobian @ ravel_pytree(masks.apply(drawn, mask))[0]
    expected["ntk_sap"] = abs(2 * jnp.einsum("nk,nkp,p,pi->i", features @ change, features, change, uses))

    _, unravel = ravel_pytree(params)

    def objective(theta):
        return loss(small.apply(unravel(theta), x), y)

    expected["grasp"] = theta * (jax.hessian(objective)(theta) @ (jax.grad(objective)(theta) * kept))
    return expected, kept


def test_grasp_takes_biases_and_norm_scales_as_constants():
    """θ ∘ ∇(‖g‖²/2), with g the gradient in the kept weights of the kernels alone."""

    def apply(params, x):
        hidden = nn.tanh(x @ params["w"] + params["b"])
        hidden = (hidden - hidden.mean(axis=1, keepdims=True)) * params["scale"]
        return hidden @ params["v"] + params["c"]

    params = {"w": normal(1, 3, 4), "b": normal(2, 4), "scale": normal(3, 4), "v": normal(4, 4, 2), "c": normal(5, 2)}
    batch = normal(6, 7, 3), jnp.sign(normal(7, 7, 2))
    kept = {"w": normal(8, 3, 4) > -1, "v": normal(9, 4, 2) > -1}
    mask = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params) | kept

    @jax.jit
    def expected(kernels):
        masked = masks.apply(kernels, kept)

        def slopes(kernels):
            return masks.apply(jax.grad(lambda own: loss(apply(params | own, batch[0]), batch[1]))(kernels), kept)

        def half_square(kernels):
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(slopes(kernels))) / 2

        return jax.tree.map(jnp.multiply, masked, jax.grad(half_square)(masked))

    found = scores.grasp(apply, loss, params, batch, mask=mask)
    in_blocks = scores.grasp.with_block_size(3)(apply, loss, params, batch, mask=mask)
    for leaf, score in expected({"w": params["w"], "v": params["v"]}).items():
        for got in (found, in_blocks):
            close(got[leaf][kept[leaf]], score[kept[leaf]], rtol=1e-11)
    for leaf in ("b", "scale", "c"):
        assert (found[leaf] == np.inf).all()


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_every_score_is_its_formula(name):
    """Dense and pruned, of data and of ones, and of weights that are zero; what is conserved is, to rounding."""
    small = SMALL_NETWORKS[name]
    params = tuple(jnp.asarray(w) for w in small.params)
    rng = np.random.default_rng(20)
    selection, *others = [rng.random(w.shape) < 0.6 for w in params]
    pruned = (selection, *(m * rng.uniform(0.5, 2, m.shape) for m in others))
    dense = jax.tree.map(np.ones_like, pruned)
    x = normal(0, 5, *small.input_shape)
    batch = x, jnp.sign(normal(1, *small.apply(params, x).shape))
    ones = jnp.ones_like(x), batch[1]
    dead = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def program(params, batch, mask):
        return all_scores(small, params, batch, mask), by_paths(small, params, batch, mask)

    for given, data, mask in ((params, batch, dense), (params, batch, pruned), (params, ones, pruned)):
        found, (expected, kept) = program(given, data, mask)
        assert set(found) == {*expected, "random"}
        for score, formula in expected.items():
            got = flat(found[score])
            close(got[kept], formula[kept], rtol=1e-11)
            assert (got[~kept] == -np.inf).all()
            if score in ("synflow", "synflow_l2", "trace_drop"):
                sums = [np.sum(layer, where=np.isfinite(layer)) for layer in found[score]]
                np.testing.assert_allclose(sums, sums[0], rtol=1e-13)
    found, _ = program(dead, batch, dense)
    for score in (*FLOWS, *FORMS) if len(params) > 1 else ("synflow", "synflow_l2", *FORMS):
        np.testing.assert_array_equal(flat(found[score]), 0)  # the slopes of a single layer do not depend on it


def test_flows_start_from_ones_by_default_and_need_no_mask():
    params, x = (normal(2, 4, 2),), normal(3, 5, 4)
    small, batch = SMALL_NETWORKS["linear"], (x, None)

    @jax.jit
    def both(params):
        flows = [scores.SCORES[name] for name in FLOWS]
        whole = jax.tree.map(jnp.ones_like, params)
        plain = [score(small.apply, None, params, batch) for score in flows]
        ones = (jnp.ones_like(x), None)
        return plain, [score(small.apply, None, params, ones, mask=whole, inputs="data") for score in flows]

    for plain, from_ones in zip(*both(params), strict=True):
        close(flat(plain), flat(from_ones))


def test_the_perturbation_averages_to_the_trace_of_the_kernel():
    """NTK-SAP with many draws is |∂ Tr Θ/∂m_i| of the pruned network."""
    params, x = (normal(2, 4, 3), normal(3, 3, 2)), normal(4, 5, 4)
    kept = tuple(w > -1 for w in params)

    def apply(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    def trace(factors):
        masked = jax.tree.map(lambda f, w, m: f * w * m, factors, params, kept)
        jacobian = jax.jacrev(apply)(masked, x)
        return sum(jnp.sum((j * f * m) ** 2) for j, f, m in zip(jacobian, factors, kept, strict=True))

    expected = abs(flat(jax.jit(jax.grad(trace))(jax.tree.map(jnp.ones_like, params))))
    found = flat(scores.ntk_sap(apply, None, params, (x, None), mask=kept, key=KEY, draws=4000))
    live = np.isfinite(found)
    np.testing.assert_allclose(found[live], expected[live], atol=0.1 * float(expected.max()))


def test_random_scores_are_uniform_and_keyed():
    params = {"a": jnp.zeros((40, 50)), "b": jnp.zeros((50, 40))}
    found = scores.random(None, None, params, None, key=KEY)
    values = np.sort(flat(found))
    assert abs(values - (np.arange(4000) + 0.5) / 4000).max() < 0.04
    assert not np.array_equal(found["a"].ravel(), found["b"].ravel())
    again, other = (scores.random(None, None, params, None, key=key) for key in (KEY, jax.random.key(4)))
    assert np.array_equal(flat(found), flat(again)) and not np.array_equal(flat(found), flat(other))


def test_without_paths_synflow_is_that_of_its_authors():
    """|θ| ∂/∂|θ| of the network itself at |θ| and ones: biases, max pooling and normalisation included."""
    norm = nn.BatchNorm(use_running_average=True)
    state = {"mean": jnp.zeros(4), "var": normal(7, 4) ** 2}

    def apply(params, x):
        hidden = norm.apply({"params": params["norm"], "batch_stats": state}, x @ params["w"] + params["b"])
        return nn.max_pool(nn.relu(hidden)[..., None], (2,), (2,))[..., 0] @ params["v"]

    params = {"w": normal(1, 3, 4), "b": normal(2, 4), "v": normal(3, 2, 2)}
    params["norm"] = {"scale": normal(8, 4), "bias": normal(9, 4)}
    batch = jnp.ones((2, 3)), None

    @jax.jit
    def program(params):
        size = jax.tree.map(abs, params)
        gradient = jax.grad(lambda size: jnp.sum(apply(size, jnp.ones((1, 3)))))(size)
        authors = jax.tree.map(jnp.multiply, size, gradient)
        return authors, [score(apply, None, params, batch) for score in (scores.synflow, scores.trace_drop)]

    authors, (synflow, drop) = program(params)
    for leaf in ("w", "v"):
        close(synflow[leaf], authors[leaf], rtol=1e-11)
    assert np.isfinite(drop["w"]).all()


@pytest.mark.parametrize("name", FLOWS)
def test_flows_refuse_running_means(name):
    """The authors subtract |mean| and we would add it, so neither is done; a mean of zero is one scale."""

    def with_means(*means):
        norm = nn.BatchNorm(use_running_average=True, use_bias=False, use_scale=False)
        state = {"mean": np.array(means), "var": np.ones(2)}
        return lambda params, x: norm.apply({"batch_stats": state}, x @ params)

    params, batch = normal(1, 3, 2), (jnp.ones((2, 3)), None)
    with pytest.raises(ValueError, match="apply subtracts a shift, .*; it takes means of zero"):
        scores.SCORES[name](with_means(0.0, 0.1), None, params, batch)
    assert np.isfinite(scores.SCORES[name](with_means(0.0, 0.0), None, params, batch)).all()


def test_dead_units_before_a_maximum():
    """Equal entries under a maximum are all reached: path_trace is the derivative of the network of squares."""

    def apply(params, x):
        return nn.max_pool(nn.relu(x @ params[0])[..., None], (2,), (2,))[..., 0] @ params[1]

    params = [abs(normal(1, 3, 6)), abs(normal(2, 3, 2))]
    mask = [jnp.ones((3, 6), bool).at[:, 5].set(False), jnp.ones((3, 2), bool).at[0].set(False)]
    squares = [(w * m) ** 2 for w, m in zip(params, mask, strict=True)]
    expected = jax.jit(jax.grad(lambda s: jnp.sum(apply(s, jnp.ones((1, 3))))))(squares)
    found = jax.jit(functools.partial(scores.path_trace, apply, None))(params, (jnp.ones((1, 3)), None), mask=mask)
    for leaf, score, kept in zip(expected, found, mask, strict=True):
        close(score[kept], leaf[kept], rtol=1e-11)
