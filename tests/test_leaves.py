"""Leaves that are no floating arrays are left alone everywhere; nnx and equinox come as they are, or are explained."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from sketchprune import _leaves, kernels, laws, lottery, masks, paths, prune, scores, train
from tests.support import without_type_checks

RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.standard_normal((6, 3)), jnp.float32), jnp.asarray(RNG.standard_normal((6, 2)), jnp.float32)
PLAIN = {
    name: jnp.asarray(RNG.standard_normal(shape), jnp.float32) for name, shape in {"a": (3, 4), "b": (4, 2)}.items()
}
OTHERS = {"count": jnp.arange(6).reshape(2, 3), "flag": jnp.zeros((2, 2), bool), "key": jax.random.key(7)}
MIXED = PLAIN | OTHERS
OPTIMIZER = optax.adamw(0.05, weight_decay=0.1)


def plain(params, x):
    return jax.nn.relu(x @ params["a"]) @ params["b"]


def mixed(params, x):
    """The others are used: a shift that is no shift only while they are as they were."""
    used = [params["count"].sum() - 15, params["flag"].sum(), jax.random.key_data(params["key"])[1] - 7]
    return plain(params, x) + sum(leaf.astype(x.dtype) for leaf in used)


def half_squares(outputs, targets):
    return jnp.sum((outputs - targets) ** 2) / 2


def ones_beside(mask):
    return mask | {name: jnp.ones(jnp.shape(leaf), bool) for name, leaf in OTHERS.items()}


MASK = {name: jnp.asarray(RNG.random(leaf.shape) < 0.7) for name, leaf in PLAIN.items()}
START = {name: leaf & jnp.asarray(RNG.random(leaf.shape) < 0.7) for name, leaf in MASK.items()}


def values(tree):
    return jax.random.key_data(tree) if jnp.issubdtype(tree.dtype, jax.dtypes.prng_key) else tree


def assert_equal(found, expected):
    """Of two trees of one structure every leaf, random keys too."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for leaf, wanted in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(values(leaf), values(wanted), rtol=1e-6)


SCORES = ["magnitude", "snip", "grasp", "synflow", "path_trace", "ntk_trace"]


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_the_floating_leaves(name):
    score = getattr(scores, name)
    # Paths know no shift: their network only has the others beside its weights.
    apply = mixed if name in ("snip", "grasp", "ntk_trace") else plain
    found = score(apply, half_squares, MIXED, (X, Y), mask=ones_beside(MASK))
    expected = score(plain, half_squares, PLAIN, (X, Y), mask=MASK)
    infinite = {key: jnp.full(jnp.shape(leaf), jnp.inf, jnp.float32) for key, leaf in OTHERS.items()}
    assert_equal(found, expected | infinite)


def test_pruning_keeps_them_whole():
    expected = prune.one_shot(scores.snip, plain, half_squares, PLAIN, (X, Y), 7)
    found = prune.one_shot(scores.snip, mixed, half_squares, MIXED, (X, Y), 7)
    assert_equal(found, ones_beside(expected))
    counts = prune.layer_counts(MIXED, 0.5)
    assert counts == prune.layer_counts(PLAIN, 0.5) | {"count": 0, "flag": 0, "key": 0}
    rounds = jax.tree.map(lambda count: np.array([count + 1, count]) if count else np.array([0, 0]), counts)
    found = prune.iterative(scores.synflow, plain, None, MIXED, (X, Y), rounds)
    by_layer = {name: rounds[name] for name in PLAIN}
    assert_equal(found, ones_beside(prune.iterative(scores.synflow, plain, None, PLAIN, (X, Y), by_layer)))


def test_the_least_bound_prunes_beside_them():
    expected = prune.least_bound(plain, PLAIN, (X, Y), [12, 7], steps=2)
    assert_equal(prune.least_bound(mixed, MIXED, (X, Y), [12, 7], steps=2), ones_beside(expected))
    assert_equal(
        prune.least_bound(plain, PLAIN | {"n": 3}, (X, Y), [12, 7], steps=2), expected | {"n": jnp.array(True)}
    )


def test_dead_units_are_removed_beside_them():
    mask = MASK | {"a": MASK["a"].at[:, 1].set(False)}
    expected = prune.remove_dead_units(plain, PLAIN, mask, X)
    found = prune.remove_dead_units(mixed, MIXED, ones_beside(mask), X)
    assert expected.params["a"].shape == (3, 3)
    assert_equal(found.params, expected.params | OTHERS)
    assert_equal(jax.tree.map(jnp.asarray, found.mask), ones_beside(jax.tree.map(jnp.asarray, expected.mask)))


def test_masks_keep_the_dtype_of_other_leaves():
    found = masks.apply({"w": jnp.ones(2), "flag": jnp.ones(2, bool)}, {"w": 2 * jnp.ones(2), "flag": jnp.ones(2)})
    assert found["flag"].dtype == bool and found["w"].tolist() == [2.0, 2.0]
    kept = {"w": jnp.ones(2, bool), "flag": jnp.ones(2, bool)}
    assert masks.apply({"w": jnp.ones(2), "flag": jnp.ones(2, bool)}, kept)["flag"].dtype == bool


def test_masks_and_laws():
    expected = {"a": True, "b": True, "count": False, "flag": False, "key": False}
    assert masks.prunable(MIXED) == masks.prunable(MIXED, lambda path: True) == expected
    assert masks.prunable(MASK) == {"a": True, "b": True}  # a mask may stand for the parameters
    assert_equal(masks.apply(MIXED, ones_beside(MASK)), masks.apply(PLAIN, MASK) | OTHERS)
    with pytest.raises(ValueError, match="prunable chooses none"):
        masks.prunable(MIXED, lambda path: "count" in path or "key" in path)
    densities = jax.tree.map(lambda leaf: 0.5, MIXED)
    drawn = lottery.he_normal(jax.random.key(0), MIXED, densities)
    assert_equal({name: drawn[name] for name in OTHERS}, OTHERS)
    assert (drawn["a"] != PLAIN["a"]).all()
    law = laws.ErdosRenyi.at_density(PLAIN | {"count": OTHERS["count"], "key": OTHERS["key"]}, 0.5)
    assert law.sample(jax.random.key(0))["count"].all()


def test_kernels_and_paths():
    mask = ones_beside(MASK)
    np.testing.assert_allclose(
        kernels.ntk(mixed, MIXED, X, mask=mask), kernels.ntk(plain, PLAIN, X, mask=MASK), rtol=1e-5
    )
    found, expected = (paths.trace(plain, tree, (3,), mask=m) for tree, m in ((MIXED, mask), (PLAIN, MASK)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def one_round(keep):
    return jax.tree.map(lambda count: np.array([count]), keep)


PROCEDURES = {
    "edge-popup": lambda keep, start: functools.partial(train.edge_popup, keep=keep),
    "iterative": lambda keep, start: functools.partial(train.iterative_magnitude, keeps=one_round(keep)),
    "gradual": lambda keep, start: functools.partial(train.gradual_magnitude, keeps=one_round(keep), every=2),
    "rigl": lambda keep, start: functools.partial(train.rigl, start=start, every=1),
}


@pytest.mark.parametrize("name", PROCEDURES)
def test_training_inside_a_source(name):
    """With counts by layer, which are shaped like the parameters."""
    keep = {"a": 5, "b": 3}
    options = {"key": jax.random.key(0), "batch_size": 4}
    found = PROCEDURES[name](keep | {"count": 0, "flag": 0, "key": 0}, ones_beside(START))(
        mixed, half_squares, MIXED, (X, Y), OPTIMIZER, 4, mask=ones_beside(MASK), **options
    )
    if name == "edge-popup":  # its first scores have one key for each leaf, and those of two leaves are the same here
        assert {leaf: int(found.mask[leaf].sum()) for leaf in keep} == keep
        assert_equal({name: found.params[name] for name in OTHERS}, OTHERS)
        return
    expected = PROCEDURES[name](keep, START)(plain, half_squares, PLAIN, (X, Y), OPTIMIZER, 4, mask=MASK, **options)
    assert_equal(found, train.Ticket(expected.params | OTHERS, ones_beside(expected.mask), expected.losses))


def test_fit_converge_and_fit_many():
    options = {"key": jax.random.key(0), "batch_size": 4}
    arguments = half_squares, MIXED, (X, Y), OPTIMIZER
    expected = train.fit(plain, half_squares, PLAIN, (X, Y), OPTIMIZER, 6, mask=MASK, **options)
    found = train.fit(mixed, *arguments, 4, mask=ones_beside(MASK), **options)
    more = options | {"mask": ones_beside(MASK), "state": found.state}
    found = train.fit(mixed, half_squares, found.params, (X, Y), OPTIMIZER, 2, **more)
    assert_equal(found.params, expected.params | OTHERS)
    end, steps, _ = train.converge(mixed, *arguments, 3, mask=ones_beside(MASK))
    assert_equal(end, train.converge(plain, half_squares, PLAIN, (X, Y), OPTIMIZER, 3, mask=MASK)[0] | OTHERS)
    assert steps == 3
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, jnp.ones_like(leaf)]), ones_beside(MASK))
    fits = train.fit_many(
        mixed, *arguments, 6, mask=stack, evaluate=lambda params: mixed(params, X), checkpoints=[6], **options
    )
    assert_equal({name: fits.params[name][0] for name in PLAIN}, {name: expected.params[name] for name in PLAIN})
    np.testing.assert_allclose(fits.curve[0, 0], plain(expected.params, X), rtol=1e-4)
    assert_equal(jax.tree.map(lambda leaf: leaf[0], {name: fits.params[name] for name in OTHERS}), OTHERS)


# --- The two libraries


class Network(nnx.Module):
    """With dropout, so that it has a random key and a counter."""

    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(nnx.relu(self.first(x))))


def library_results(apply, params, batch):
    """What each part of the library makes of a network."""
    mask = prune.one_shot(scores.snip, apply, half_squares, params, batch, 9)
    trained, losses = train.fit(apply, half_squares, masks.apply(params, mask), batch, optax.adam(0.01), 3, mask=mask)
    kernel = kernels.ntk(apply, params, batch[0], mask=mask)
    trace = paths.trace(apply, params, (3,), mask=mask, allow_max_and_bias=True)
    return mask, trained, losses, kernel, trace


def check_library(found, expected):
    """The same numbers, whatever the pytrees; every leaf, in order of its shape, that is a floating one."""
    mask, trained, *numbers = found
    for leaf, wanted in zip(numbers, expected[2:], strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4)
    for tree, wanted in ((mask, expected[0]), (trained, expected[1])):
        own, other = (
            [leaf for leaf in jax.tree.leaves(each) if leaf.shape and leaf.dtype in (bool, X.dtype)]
            for each in (tree, wanted)
        )
        for leaf, reference in zip(own, other, strict=True):
            np.testing.assert_allclose(leaf, reference, rtol=1e-4)


def test_an_nnx_module_works_whole_and_split():
    model = Network(nnx.Rngs(0))
    by_hand = {
        name: {"bias": layer.bias[...], "kernel": layer.kernel[...]}
        for name, layer in (("first", model.first), ("second", model.second))
    }

    def apply(params, x):
        layers = params["first"], params["second"]
        hidden = nnx.relu(x @ layers[0]["kernel"] + layers[0]["bias"])
        return hidden @ layers[1]["kernel"] + layers[1]["bias"]

    expected = library_results(apply, by_hand, (X, Y))
    whole = library_results(lambda model, x: model(x), model, (X, Y))
    assert isinstance(whole[1], Network) and whole[1].dropout.rngs.count[...] == model.dropout.rngs.count[...]
    check_library(whole, expected)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    check_library(library_results(lambda params, x: nnx.merge(graphdef, params, rest)(x), params, (X, Y)), expected)
    graphdef, state = nnx.split(model)
    check_library(library_results(lambda state, x: nnx.merge(graphdef, state)(x), state, (X, Y)), expected)


EQUINOX = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0), dtype=jnp.float32)


def test_an_equinox_module_works_split():
    params, rest = eqx.partition(EQUINOX, eqx.is_inexact_array)
    by_hand = [{"bias": layer.bias, "weight": layer.weight} for layer in EQUINOX.layers]

    def apply(params, x):
        hidden = jax.nn.relu(x @ params[0]["weight"].T + params[0]["bias"])
        return hidden @ params[1]["weight"].T + params[1]["bias"]

    expected = library_results(apply, by_hand, (X, Y))
    found = library_results(lambda params, x: jax.vmap(eqx.combine(params, rest))(x), params, (X, Y))
    for leaf, wanted in zip(found[2:], expected[2:], strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4)
    # Masks are made for the whole module too: its functions are handed on.
    whole = eqx.combine(jax.tree.map(jnp.ones_like, params), rest)
    with without_type_checks():  # functions are no arrays
        assert masks.apply(EQUINOX, whole).activation is EQUINOX.activation
        assert jax.tree.leaves(masks.prunable(EQUINOX)) == [True, False, True, False, False, False]


def equinox_apply(model, x):
    return jax.vmap(model)(x)


FIT = (equinox_apply, half_squares, EQUINOX, (X, Y), optax.sgd(0.1), 2)
REFUSALS = {
    "score": lambda: scores.snip(equinox_apply, half_squares, EQUINOX, (X, Y)),
    "prune": lambda: prune.one_shot(scores.snip, equinox_apply, half_squares, EQUINOX, (X, Y), 3),
    "iterative": lambda: prune.iterative(scores.snip, equinox_apply, half_squares, EQUINOX, (X, Y), [3]),
    "counts": lambda: prune.layer_counts(EQUINOX, 0.5),
    "ntk": lambda: kernels.ntk(equinox_apply, EQUINOX, X),
    "columns": lambda: kernels.column_norms(equinox_apply, EQUINOX, X),
    "paths": lambda: paths.trace(equinox_apply, EQUINOX, (3,)),
    "fit": lambda: train.fit(*FIT),
    "fit many": lambda: train.fit_many(*FIT),
    "converge": lambda: train.converge(*FIT),
    "rigl": lambda: train.rigl(*FIT, start=EQUINOX, every=1),
    "edge-popup": lambda: train.edge_popup(*FIT, keep=3, key=jax.random.key(0)),
    "iterative magnitude": lambda: train.iterative_magnitude(*FIT, keeps=[3]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_equinox_module_that_is_not_split_is_told_how(name):
    message = r"(?s)params.activation is <.*; it takes arrays.*eqx\.partition\(model.*nnx\.split"
    with without_type_checks(), pytest.raises(ValueError, match=message):
        REFUSALS[name]()


def test_parameters_without_a_floating_leaf_are_refused():
    with pytest.raises(ValueError, match="params has no floating leaf; it takes at least one"):
        _leaves.check_params("params", OTHERS)
