"""The contract of scores: the public check over all of them, what the decorator does, blocks, and errors."""

import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import masks, scores
from sketchprune.testing import check_score
from tests.support import close, flat, normal

KEY = jax.random.key(3)
FLOWS = ("synflow", "synflow_l2", "path_trace", "trace_drop")


def mean_loss(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def biased(params, x):
    """Biases and max pooling."""
    hidden = nn.relu(x @ params["w"] + params["b"])
    pooled = nn.max_pool(hidden[..., None], (2,), (2,))[..., 0]
    return pooled @ params["v"]


BIASED = {"w": normal(1, 3, 4), "b": normal(2, 4), "v": normal(3, 2, 2)}
BATCH = normal(5, 5, 3), normal(6, 5, 2)


def linear(w, x):
    return x @ w


# --- Every score keeps the contract


@pytest.mark.parametrize("name", scores.SCORES)
def test_scores_keep_the_contract(name):
    check_score(scores.SCORES[name], biased, mean_loss, BIASED, BATCH, key=KEY)


@pytest.mark.parametrize("form", ["authors", "later"])
def test_forms_of_synflow_keep_the_contract(form):
    check_score(scores.synflow_l2, linear, None, normal(1, 3, 2), BATCH, form=form)


def test_a_bare_vector_is_pruned():
    batch = BATCH[0], BATCH[1][:, 0]
    for score in (scores.snip, scores.grasp, scores.random):
        check_score(score, linear, mean_loss, normal(1, 3), batch)


def test_what_is_never_pruned_is_kept():
    mask = {"w": normal(4, 3, 4) > 0, "b": jnp.ones(4, bool), "v": jnp.ones((2, 2), bool)}
    selected = masks.keep_top(scores.magnitude(biased, mean_loss, BIASED, BATCH, mask=mask), 5)
    assert selected["b"].all() and selected["w"].sum() + selected["v"].sum() == 5
    assert not (selected["w"] & ~mask["w"]).any()


def test_other_leaves_may_be_pruned():
    """A dense last layer and pruned biases: infinities move, and GraSP's gradient is that of the chosen leaves."""

    def chosen(path):
        return path != "['v']"

    found = scores.grasp(biased, mean_loss, BIASED, BATCH, prunable=chosen)
    assert (found["v"] == np.inf).all() and np.isfinite(found["b"]).all() and np.isfinite(found["w"]).all()
    given = scores.grasp(biased, mean_loss, BIASED, BATCH, prunable={"w": True, "b": True, "v": False})
    jax.tree.map(np.testing.assert_array_equal, found, given)

    @jax.jit
    def expected(own):
        def half_square(own):
            slopes = jax.grad(lambda own: mean_loss(biased(BIASED | own, BATCH[0]), BATCH[1]))(own)
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(slopes)) / 2

        return jax.tree.map(jnp.multiply, own, jax.grad(half_square)(own))

    for leaf, values in expected({"w": BIASED["w"], "b": BIASED["b"]}).items():
        close(found[leaf], values, rtol=1e-11)


# --- The decorator

TRACES = []


@scores.score
def power(net, *, exponent=2, of=abs):
    """Of the size of a weight."""
    TRACES.append(exponent)
    return jax.tree.map(lambda w: of(w) ** exponent, net.params)


@scores.score(uses="params")
def alone(net):
    TRACES.append(net)
    return net.params


def test_the_signature_is_the_public_one():
    expected = ["apply", "loss", "params", "batch", "mask", "key", "prunable"]
    assert list(inspect.signature(alone).parameters) == expected
    parameters = inspect.signature(power).parameters
    assert list(parameters) == [*expected, "exponent", "of"] and parameters["exponent"].default == 2
    assert power.__name__ == "power" and power.__doc__ == "Of the size of a weight."
    assert isinstance(power, scores.Score)


def test_equal_options_share_a_program_and_others_do_not():
    TRACES.clear()
    run = functools.partial(power, linear, mean_loss, jnp.array([2.0, -3.0]), (jnp.eye(2), jnp.ones(2)))
    np.testing.assert_array_equal(run(), [4, 9])
    np.testing.assert_array_equal(run(exponent=2, of=abs), [4, 9])
    assert TRACES == [2]
    np.testing.assert_array_equal(run(exponent=3), [8, 27])
    np.testing.assert_array_equal(run(exponent=3, of=functools.partial(jnp.maximum, 0)), [8, 0])
    np.testing.assert_array_equal(run(exponent=3, of=functools.partial(jnp.maximum, 0)), [8, 0])
    assert TRACES == [2, 3, 3]


def test_what_is_not_used_is_not_passed_on():
    """One program for the parameters alone, whatever the network; targets that are no arrays; no key."""
    TRACES.clear()
    for apply, loss, batch in ((linear, mean_loss, BATCH), (biased, None, None), (None, None, (1, "text"))):
        alone(apply, loss, jnp.ones(2), batch, key=KEY)
    (net,) = TRACES
    assert net.apply is net.loss is net.x is net.y is net.mask is net.key is None
    found = scores.synflow(linear, None, jnp.ones((3, 2)), (BATCH[0], ["a", "b"]))
    assert found.shape == (3, 2)


def test_a_score_has_masked_parameters_and_its_key():
    @scores.score(uses="params", needs_key="for noise")
    def noisy(net):
        return jax.tree.map(lambda w: w + jax.random.uniform(net.key, w.shape), net.params)

    found = noisy(None, None, jnp.array([1.0, 2.0]), None, mask=jnp.array([3.0, 0.0]), key=KEY)
    assert found.tolist() == [3 + float(jax.random.uniform(KEY, (2,))[0]), -np.inf]
    with pytest.raises(ValueError, match="key is None; it takes a key, for noise"):
        noisy(None, None, jnp.ones(2), None)


def test_misuse_is_named():
    @scores.score(uses="params")
    def transposed(net):
        return {"w": net.params["w"].T}

    @scores.score(uses="params")
    def missing(net):
        return net.params["w"]

    params = {"w": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match=r"transposed returns the shape \(3, 2\) for params\['w'\]; it takes \(2, 3\)"):
        transposed(None, None, params, None)
    with pytest.raises(ValueError, match="what missing returns .*; it takes the structure of params"):
        missing(None, None, params, None)
    with pytest.raises(TypeError, match=r"power\(\) got an unexpected keyword argument 'exponents'"):
        power(linear, None, jnp.ones(2), BATCH, exponents=3)
    with pytest.raises(ValueError, match=r"exponent is \[2\]; it takes a hashable value, since power is compiled"):
        power(linear, None, jnp.ones(2), BATCH, exponent=[2])
    with pytest.raises(ValueError, match=r"batch is None; it takes \(inputs, targets\)"):
        power(linear, None, jnp.ones(2), None)


def test_options_of_scores_are_checked():
    for score in (scores.random, scores.ntk_sap):
        with pytest.raises(ValueError, match="key is None; it takes a key, for random"):
            score(biased, mean_loss, BIASED, BATCH)
    with pytest.raises(ValueError, match="draws is 0; it takes a whole number >= 1"):
        scores.ntk_sap(biased, mean_loss, BIASED, BATCH, key=KEY, draws=0)
    for name in FLOWS:
        with pytest.raises(ValueError, match="inputs is 'noise'; it takes 'ones' or 'data'"):
            scores.SCORES[name](biased, mean_loss, BIASED, BATCH, inputs="noise")
    with pytest.raises(ValueError, match="form is 'best'; it takes 'conserved', 'authors' or 'later'"):
        scores.synflow_l2(biased, mean_loss, BIASED, BATCH, form="best")
    with pytest.raises(ValueError, match=r"mask\['w'\] has shape \(4, 3\); it takes params' \(3, 4\)"):
        scores.snip(biased, mean_loss, BIASED, BATCH, mask=BIASED | {"w": jnp.ones((4, 3))})


@pytest.mark.parametrize("name", scores.SCORES)
def test_parameters_without_floating_numbers_are_refused(name):
    params = {"w": jnp.ones((2, 1), int), "n": jnp.ones((2, 2), int)}
    with pytest.raises(ValueError, match="params has no floating leaf; it takes at least one"):
        scores.SCORES[name](linear, mean_loss, params, BATCH, key=KEY)


def test_nan_is_named_where_it_is_selected():
    broken = BIASED | {"w": BIASED["w"].at[0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match=r"scores\['w'\] has NaN entries"):
        masks.keep_top(scores.magnitude(biased, mean_loss, broken, BATCH), 2)


# --- Blocks of samples


@pytest.mark.parametrize("block_size", [2, 5])
def test_the_loss_sees_all_outputs_at_once(block_size):
    """One that is no mean, of five samples; they do not fill three blocks of two."""
    params = normal(2, 3, 4), normal(3, 4, 2)

    def apply(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    def uneven(outputs, y):
        return jnp.log(jnp.sum((outputs - y) ** 2))

    @jax.jit
    def program(params):
        objective = jax.grad(lambda params: uneven(apply(params, BATCH[0]), BATCH[1]))
        gradient = objective(params)
        curved = jax.jvp(objective, (params,), (gradient,))[1]
        found = [
            score.with_block_size(block_size)(apply, uneven, params, BATCH) for score in (scores.snip, scores.grasp)
        ]
        snip = jax.tree.map(lambda g, w: abs(g * w), gradient, params)
        return found, [snip, jax.tree.map(jnp.multiply, curved, params)]

    for score, expected in zip(*program(params), strict=True):
        close(flat(score), flat(expected), rtol=1e-11)


def test_kernel_scores_add_up_over_samples():
    """Of 600 samples, which do not fill three blocks."""
    params, x = (normal(2, 3, 4), normal(3, 4, 2)), normal(6, 600, 3)

    def apply(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    @jax.jit
    def program(params):
        trace = [scores.ntk_trace(apply, None, params, (part, None)) for part in (x, *jnp.split(x, 2))]
        sap = [scores.ntk_sap(apply, None, params, (part, None), key=KEY) for part in (x, jnp.concatenate([x, x]))]
        return trace, sap

    (whole, *halves), (once, twice) = program(params)
    close(flat(whole), flat(halves[0]) + flat(halves[1]), rtol=1e-11)
    close(2 * flat(once), flat(twice), rtol=1e-11)


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_samples_that_are_coupled_are_refused(name):
    """In several blocks the scores would not be those of the coupled network."""

    def coupled(w, x):
        return (x - x.mean(axis=0)) @ w

    w, batch = normal(1, 3, 2), BATCH
    for score in (scores.SCORES[name], scores.SCORES[name].with_block_size(2)):
        with pytest.raises(ValueError, match="apply couples samples, .*; it takes a network that treats each sample"):
            score(coupled, mean_loss, w, batch)
        assert np.isfinite(score(linear, mean_loss, w, batch)).all()
        unchecked = jax.jit(functools.partial(score, coupled, mean_loss))(w, batch)  # values are not known
        assert unchecked.shape == w.shape


@pytest.mark.parametrize("name", ["snip", "grasp", "ntk_sap"])
def test_memory_does_not_grow_with_the_samples(name):
    """Memory for 2,000 samples is a few times that of one block of 256."""
    rng = np.random.default_rng(0)
    params = [jnp.asarray(rng.normal(size=shape)) for shape in ((4, 512), (512, 1))]
    batch = tuple(jnp.asarray(rng.normal(size=(2000, width))) for width in (4, 1))

    def wide(params, x):
        return jax.nn.relu(x @ params[0]) @ params[1]

    def run(params, batch, key):
        return scores.SCORES[name](wide, mean_loss, params, batch, key=key)

    held = jax.jit(run).lower(params, batch, KEY).compile().memory_analysis().temp_size_in_bytes
    layer = 256 * 512 * 8
    assert held < 5 * layer
