"""Scores x networks x masks, each against all paths or the plain derivative; conventions; any scale; errors."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import masks, scores
from theory.measurements import take_rows as taken

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""Compiled in half the time, for programs that run once."""
KEY = jax.random.key(3)
FLOWS = ("synflow", "synflow_l2", "path_trace", "trace_drop")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def loss(outputs, targets):
    """Smooth, convex, not quadratic."""
    return jnp.mean(jnp.sum(jnp.logaddexp(0, -targets * outputs), axis=1))


def batch_of(small, samples=5):
    x = normal(0, samples, *small.input_shape)
    return x, jnp.sign(normal(1, samples, small.apply(small.params, x).shape[1]))


def flat(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def close(found, expected, rtol=1e-11):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * max(abs(expected).max(), 1e-300))


def every(small, params, batch, mask):
    """All scores by name, flows also on the data."""
    found = {name: score(small.apply, loss, params, batch, mask=mask, key=KEY) for name, score in scores.SCORES.items()}
    for name in FLOWS:
        found[f"{name} of the data"] = scores.SCORES[name](small.apply, None, params, batch, mask=mask, inputs="data")
    return found


def by_paths(small, params, batch, mask):
    """The same from the list of all paths."""
    x, y = batch
    found = small.paths(params, mask)
    masked = params if mask is None else masks.apply(params, mask)
    theta, kept = flat(masked), jnp.ones(flat(params).shape, bool) if mask is None else flat(mask) != 0
    uses = (np.asarray(found.edges)[:, :, None] == np.arange(theta.size)).any(axis=1)
    features, (values, jacobian) = found.features(x.reshape(len(x), -1)), (found.values, found.jacobian)
    slopes = jax.grad(loss)(small.apply(masked, x), y)
    expected = {
        "magnitude": abs(theta),
        "snip": abs(jnp.einsum("nk,nkp,p,pi->i", slopes, features, values, uses)),
        "ntk_trace": jnp.sum((features @ jacobian) ** 2, axis=(0, 1)),
    }
    for end, u in (("", jnp.ones_like(x[0])), (" of the data", None)):
        starts = [jnp.mean(abs(x) ** q, axis=0) if u is None else u for q in (1, 2)]
        one, two = (start.ravel()[found.units[:, 0]] for start in starts)
        diagonal = two * jnp.sum(jacobian**2, axis=1)
        expected |= {
            f"synflow{end}": (abs(values) * one) @ uses,
            f"synflow_l2{end}": (values**2 * two) @ uses,
            f"path_trace{end}": two @ jacobian**2,
            f"trace_drop{end}": diagonal @ uses,  # Π_pp of the paths that go with the weight
        }

    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.split(KEY, 1)[0], len(leaves))
    drawn = tree.unflatten([jax.random.normal(k, w.shape) for k, w in zip(keys, leaves, strict=True)])
    moved = jacobian @ flat(drawn if mask is None else masks.apply(drawn, mask))
    expected["ntk_sap"] = abs(2 * jnp.einsum("nk,nkp,p,pi->i", features @ moved, features, moved, uses))

    def objective(theta):
        rest, parts = theta, []
        for leaf in leaves:
            parts.append(rest[: leaf.size].reshape(leaf.shape))
            rest = rest[leaf.size :]
        return loss(small.apply(tree.unflatten(parts), x), y)

    expected["grasp"] = theta * (jax.hessian(objective)(theta) @ (jax.grad(objective)(theta) * kept))
    return expected, kept


def test_every_score_is_that_of_all_paths(small, mask):
    """And flows are conserved: every layer has the same sum, to rounding."""
    batch = batch_of(small)
    found = quick_jit(functools.partial(every, small))(small.params, batch, mask)
    expected, kept = quick_jit(functools.partial(by_paths, small))(small.params, batch, mask)
    assert set(found) == {*expected, "random"}
    for name, raw in expected.items():
        got = np.asarray(flat(found[name]))
        close(got[kept], raw[kept])
        assert (got[~kept] == -np.inf).all()
        if name.split()[0] in ("synflow", "synflow_l2", "trace_drop"):
            sums = [np.sum(layer, where=np.isfinite(layer)) for layer in found[name]]
            np.testing.assert_allclose(sums, sums[0], rtol=1e-13)


def test_jit_and_vmap():
    """Under jit, vmapped over parameters and masks: as one by one."""
    apply, params, batch = network()
    stacked = jax.tree.map(lambda w: jnp.stack([w, -2 * w]), params)
    kept = jax.tree.map(lambda w: w > -1, stacked)

    def each(params, mask):
        return [score(apply, loss, params, batch, mask=mask, key=KEY) for score in scores.SCORES.values()]

    together = quick_jit(jax.vmap(each))(stacked, kept)
    for at in range(2):
        alone = each(*taken((stacked, kept), at))
        for one, other in zip(alone, together, strict=True):
            ours, theirs = np.asarray(flat(one)), np.asarray(flat(taken(other, at)))
            np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
            close(theirs[np.isfinite(ours)], ours[np.isfinite(ours)])


def network():
    def apply(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    params = (normal(2, 4, 3), normal(3, 3, 2))
    return apply, params, (normal(4, 5, 4), jnp.sign(normal(5, 5, 2)))


@pytest.mark.parametrize("samples", [256, 600])
def test_blocks_of_samples_change_nothing(samples):
    """The loss sees all outputs at once, here one that is no mean; 600 samples do not fill three blocks."""
    apply, params, _ = network()
    batch = normal(6, samples, 4), normal(7, samples, 2)

    def uneven(outputs, y):
        return jnp.log(jnp.sum((outputs - y) ** 2))

    def objective(params):
        return uneven(apply(params, batch[0]), batch[1])

    gradient = jax.grad(objective)(params)
    curved = jax.jvp(jax.grad(objective), (params,), (gradient,))[1]
    close(flat(scores.snip(apply, uneven, params, batch)), abs(flat(gradient) * flat(params)))
    close(flat(scores.grasp(apply, uneven, params, batch)), flat(curved) * flat(params))
    for score in (scores.ntk_sap, scores.ntk_trace):
        whole = score(apply, None, params, batch, key=KEY)
        if score is scores.ntk_trace:
            halves = [score(apply, None, params, (part, None)) for part in jnp.split(batch[0], 2)]
            close(flat(whole), flat(halves[0]) + flat(halves[1]))
        else:
            twice = score(apply, None, params, (jnp.concatenate([batch[0]] * 2), None), key=KEY)
            close(2 * flat(whole), flat(twice))


@pytest.mark.parametrize("name", ["snip", "grasp", "ntk_sap"])
def test_memory_does_not_grow_with_the_samples(name):
    """2,000 hold a few layers' worth of 256, of which they fill eight. (Blocks of ntk_trace: tests/test_blocks.py.)"""
    rng = np.random.default_rng(0)
    params = [jnp.asarray(rng.normal(size=shape)) for shape in ((4, 512), (512, 1))]
    batch = tuple(jnp.asarray(rng.normal(size=(2000, width))) for width in (4, 1))

    def wide(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    def run(params, batch, key):
        return scores.SCORES[name](wide, loss, params, batch, key=key)

    held = quick_jit(run).lower(params, batch, KEY).compile().memory_analysis().temp_size_in_bytes
    layer = 256 * 512 * 8
    assert held < 5 * layer


def test_the_perturbation_averages_to_the_trace_of_the_kernel():
    """NTK-SAP with many draws is |∂ Tr Θ/∂m_i| of the pruned network."""
    apply, params, batch = network()
    kept = tuple(w > -1 for w in params)

    def trace(factors):
        masked = jax.tree.map(lambda f, w, m: f * w * m, factors, params, kept)
        jacobian = jax.jacrev(apply)(masked, batch[0])
        return sum(jnp.sum((j * f * m) ** 2) for j, f, m in zip(jacobian, factors, kept, strict=True))

    expected = abs(flat(jax.grad(trace)(jax.tree.map(jnp.ones_like, params))))
    found = flat(scores.ntk_sap(apply, None, params, batch, mask=kept, key=KEY, draws=4000))
    live = np.isfinite(found)
    np.testing.assert_allclose(found[live], expected[live], atol=0.1 * float(expected.max()))


def test_random_scores_are_uniform_and_keyed():
    params = {"a": jnp.zeros((40, 50)), "b": jnp.zeros((50, 40))}
    found = scores.random(None, None, params, None, key=KEY)
    values = np.sort(np.asarray(flat(found)))
    assert abs(values - (np.arange(4000) + 0.5) / 4000).max() < 0.04
    assert not np.array_equal(found["a"].ravel(), found["b"].ravel())
    again, other = (scores.random(None, None, params, None, key=key) for key in (KEY, jax.random.key(4)))
    assert np.array_equal(flat(found), flat(again)) and not np.array_equal(flat(found), flat(other))


# --- Conventions


def biased(params, x):
    hidden = nn.relu(x @ params["w"] + params["b"])
    pooled = nn.max_pool(hidden[..., None], (2,), (2,))[..., 0]
    return pooled @ params["v"]


@pytest.mark.parametrize("name", scores.SCORES)
def test_what_is_never_pruned_is_kept(name):
    params = {"w": normal(1, 3, 4), "b": normal(2, 4), "v": normal(3, 2, 2)}
    mask = {"w": normal(4, 3, 4) > 0, "b": jnp.ones(4, bool), "v": jnp.ones((2, 2), bool)}
    batch = normal(5, 6, 3), jnp.sign(normal(6, 6, 2))
    found = scores.SCORES[name](biased, loss, params, batch, mask=mask, key=KEY)
    assert (found["b"] == np.inf).all() and np.isfinite(found["v"]).all()
    np.testing.assert_array_equal(found["w"] == -np.inf, ~mask["w"])
    selected = masks.keep_top(found, 5)
    assert selected["b"].all() and selected["w"].sum() + selected["v"].sum() == 5
    assert not (selected["w"] & ~mask["w"]).any()


def test_without_paths_synflow_is_that_of_its_authors():
    """|θ| ∂/∂|θ| of the network itself at |θ| and ones: biases, max pooling and normalisation included."""
    norm = nn.BatchNorm(use_running_average=True)
    state = {"mean": jnp.zeros(4), "var": normal(7, 4) ** 2}

    def apply(params, x):
        hidden = norm.apply({"params": params["norm"], "batch_stats": state}, x @ params["w"] + params["b"])
        return nn.max_pool(nn.relu(hidden)[..., None], (2,), (2,))[..., 0] @ params["v"]

    params = {"w": normal(1, 3, 4), "b": normal(2, 4), "v": normal(3, 2, 2)}
    params["norm"] = {"scale": normal(8, 4), "bias": normal(9, 4)}
    size = jax.tree.map(abs, params)
    gradient = jax.grad(lambda size: jnp.sum(apply(size, jnp.ones((1, 3)))))(size)
    found = scores.synflow(apply, None, params, (jnp.ones((2, 3)), None))
    for leaf in ("w", "v"):
        close(found[leaf], size[leaf] * gradient[leaf])
    assert np.isfinite(scores.trace_drop(apply, None, params, (jnp.ones((2, 3)), None))["w"]).all()


# --- Scale


def test_twenty_sparse_layers_in_float32():
    """No ties at zero: ranked as in float64, where nothing underflows; the scale of a score is a power of two."""
    rng = np.random.default_rng(0)
    scales = [1e-3, *[0.02] * 18, 30.0]
    params = [scale * rng.uniform(0.5, 1.5, (50, 50)) for scale in scales]
    kept = [np.eye(50)[rng.permutation(50)] > 0 for _ in scales]

    def apply(params, x):
        for w in params[:-1]:
            x = jax.nn.relu(x @ w)
        return x @ params[-1]

    @quick_jit
    def flows(params, kept):
        batch = jnp.ones((1, 50), jnp.float32), None
        return [
            flat(scores.SCORES[name](apply, None, params, batch, mask=kept)) for name in ("synflow_l2", "path_trace")
        ]

    coarse, fine = (flows([jnp.asarray(w, t) for w in params], kept) for t in (jnp.float32, jnp.float64))
    live = np.concatenate([m.ravel() for m in kept])
    for found, expected in zip(coarse, fine, strict=True):
        found, expected = (np.asarray(values, np.float64)[live] for values in (found, expected))
        assert np.isfinite(found).all() and (found > 0).all()
        ratio = found / expected
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
        assert abs(np.log2(ratio[0]) - round(np.log2(ratio[0]))) < 1e-4
    assert np.asarray(fine[0])[live].max() < 1e-45  # below the least number of float32


def test_what_is_pruned_has_no_say_in_the_scale():
    """A pruned weight's slope of 1 lies beside kept ones of 1e-20 to 1e-48, which are scaled up together."""
    params = [jnp.array([[1, 1e-14]]), jnp.full((2, 2), 1e-10), jnp.array([[1e-14], [1]])]
    mask = [jnp.ones((1, 2), bool), jnp.eye(2) > 0, jnp.ones((2, 1), bool)]
    params = jax.tree.map(lambda w: w.astype(jnp.float32), params)
    found = scores.path_trace(lambda p, x: x @ p[0] @ p[1] @ p[2], None, params, (jnp.ones((1, 1)), None), mask=mask)
    np.testing.assert_allclose(found[0] / found[0][0, 1], [[1e-28, 1]], rtol=1e-5)


def chain(params, x):
    for w in params[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ params[-1]


@pytest.mark.parametrize("dead", ["no output", "no input", "input of zero"])
def test_heavy_weights_on_no_path_change_no_score(dead):
    """One path of five weights 1e-5 beside a chain of ones that is cut off: all of its weights score the same."""
    kept = [jnp.eye(2) > 0] * 5
    if dead != "input of zero":
        kept[-1 if dead == "no output" else 0] = jnp.diag(jnp.array([1, 0])) > 0
    params = [jnp.diag(jnp.array([1e-5, 1.0], jnp.float32))] * 5
    batch = jnp.array([[1.0, 0.0 if dead == "input of zero" else 1.0]], jnp.float32), None

    @quick_jit
    def flows(params, kept):
        return [scores.SCORES[name](chain, None, params, batch, mask=kept, inputs="data") for name in FLOWS]

    for found in flows(params, kept):
        live = jnp.stack([layer[0, 0] for layer in found])
        assert (live > 0).all() and np.isfinite(live).all()
        np.testing.assert_allclose(live, live[0], rtol=1e-5)
        assert max(layer[1, 1] for layer in found) <= 0
        assert masks.keep_top(found, 5)[2].tolist() == [[True, False], [False, False]]


def test_dead_units_before_a_maximum():
    """Equal entries under a maximum are all reached: path_trace is the derivative of the network of squares."""

    def apply(params, x):
        return nn.max_pool(nn.relu(x @ params[0])[..., None], (2,), (2,))[..., 0] @ params[1]

    params = [abs(normal(1, 3, 6)), abs(normal(2, 3, 2))]
    mask = [jnp.ones((3, 6), bool).at[:, 5].set(False), jnp.ones((3, 2), bool).at[0].set(False)]
    squares = [(w * m) ** 2 for w, m in zip(params, mask, strict=True)]
    expected = jax.grad(lambda s: jnp.sum(apply(s, jnp.ones((1, 3)))))(squares)
    found = scores.path_trace(apply, None, params, (jnp.ones((1, 3)), None), mask=mask)
    for leaf, score, kept in zip(expected, found, mask, strict=True):
        close(score[kept], leaf[kept])


def test_dead_networks_score_zero():
    apply, params, batch = network()
    dead = jax.tree.map(jnp.zeros_like, params)
    for name in FLOWS:
        np.testing.assert_array_equal(flat(scores.SCORES[name](apply, None, dead, batch)), 0)


# --- Errors


def test_arguments_are_checked():
    apply, params, batch = network()
    for score in (scores.random, scores.ntk_sap):
        with pytest.raises(ValueError, match="key is None; it takes a key, for random"):
            score(apply, loss, params, batch)
    with pytest.raises(ValueError, match="draws is 0; it takes a whole number >= 1"):
        scores.ntk_sap(apply, loss, params, batch, key=KEY, draws=0)
    for name in FLOWS:
        with pytest.raises(ValueError, match="inputs is 'noise'; it takes 'ones' or 'data'"):
            scores.SCORES[name](apply, loss, params, batch, inputs="noise")
    with pytest.raises(ValueError, match=r"mask\[0\] has shape \(3, 4\); it takes params' \(4, 3\)"):
        scores.snip(apply, loss, params, batch, mask=(jnp.ones((3, 4)), jnp.ones((3, 2))))


@pytest.mark.parametrize("name", scores.SCORES)
def test_the_dtype_is_that_of_the_parameters(name):
    """Of float32 with float64 data too; what is not floating is refused by all."""
    params, batch = jnp.ones((2, 1), jnp.float32), (jnp.ones((3, 2)), -jnp.ones((3, 1)))
    found = scores.SCORES[name](lambda w, x: x @ w, loss, params, batch, key=KEY)
    assert found.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"params\['n'\] has dtype int64; it takes floating numbers"):
        scores.SCORES[name](lambda p, x: x @ p["w"], loss, {"w": params, "n": jnp.ones((2, 2), int)}, batch, key=KEY)


def test_nan_is_named_where_it_is_selected():
    apply, params, batch = network()
    broken = (params[0].at[0, 0].set(jnp.nan), params[1])
    for name in ("snip", "magnitude", "synflow"):
        with pytest.raises(ValueError, match=r"scores\[0\] has NaN entries"):
            masks.keep_top(scores.SCORES[name](apply, loss, broken, batch), 2)
