"""Pruning: exact counts, what is left is scored again, and clear errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, masks, models, prune, scores
from theory.measurements import take_rows as taken

SHAPES = {"a": (4, 6), "b": (6, 6), "c": (6, 2)}
BATCH = (jnp.ones((3, 4)), jnp.zeros((3, 2)))


def network(params, x):
    return jax.nn.relu(jax.nn.relu(x @ params["a"]) @ params["b"]) @ params["c"]


def biased(params, x):
    return network(params, x) + params["bias"]


def half_squares(outputs, y):
    return jnp.sum((outputs - y) ** 2) / 2


def weights(seed=0, **more):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in (SHAPES | more).items()}


PARAMS = weights()


def magnitude(apply, loss, params, batch, *, mask=None, key=None):
    """|θ|, by hand: the conventions of a score."""
    kept = jax.tree.map(jnp.ones_like, params) if mask is None else mask
    finite = jax.tree.map(lambda leaf, m: jnp.where(m != 0, abs(leaf), -jnp.inf), params, kept)
    return jax.tree.map(
        lambda pruned, leaf: leaf if pruned else jnp.full_like(leaf, jnp.inf), masks.prunable(params), finite
    )


def ties(apply, loss, params, batch, *, mask=None, key=None):
    return jax.tree.map(jnp.sign, magnitude(apply, loss, params, batch, mask=mask))


def kept(mask):
    return sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(mask))


def synflow_by_hand(params, mask):
    """θ ∂R/∂θ of the linear network on absolute values and ones, in numpy."""
    a, b, c = (np.abs(np.asarray(params[name])) * np.asarray(mask[name]) for name in "abc")
    into_b, into_c = a.sum(0), a.sum(0) @ b
    from_b, from_a = c.sum(1), b @ c.sum(1)
    flows = {"a": a * from_a, "b": into_b[:, None] * b * from_b, "c": into_c[:, None] * c}
    return {name: np.where(np.asarray(mask[name]), flows[name], -np.inf) for name in flows}


def test_targets_may_be_a_list():
    """For a score without use for them, at once and in rounds."""
    batch = BATCH[0], [0, 1, 2]
    at_once = prune.one_shot(scores.synflow, network, None, PARAMS, batch, 7)
    in_rounds = prune.iterative(scores.synflow, network, None, PARAMS, batch, [7])
    jax.tree.map(np.testing.assert_array_equal, at_once, in_rounds)


@pytest.mark.parametrize("score", [magnitude, ties, scores.snip], ids=lambda score: score.__name__)
def test_one_shot_keeps_exactly_the_highest(score):
    for keep in (0, 1, 37, 72):
        mask = prune.one_shot(score, network, half_squares, PARAMS, BATCH, keep)
        assert kept(mask) == keep
    mask = prune.one_shot(score, network, half_squares, PARAMS, BATCH, 20)
    found = score(network, half_squares, PARAMS, BATCH)
    flat, chosen = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (found, mask))
    assert flat[chosen].min() >= flat[~chosen].max()


def test_iterative_scores_what_is_left():
    """Against a numpy loop that sorts."""
    counts = prune.exponential(72, 8, 6)
    mask = prune.iterative(scores.synflow, network, None, PARAMS, BATCH, counts)
    expected = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    for count in counts:
        found = synflow_by_hand(PARAMS, expected)
        flat = np.concatenate([found[name].ravel() for name in "abc"])
        chosen = np.zeros(72, bool)
        chosen[np.argsort(-flat, kind="stable")[:count]] = True
        ends = np.cumsum([found[name].size for name in "abc"])[:-1]
        expected = {name: part.reshape(SHAPES[name]) for name, part in zip("abc", np.split(chosen, ends), strict=True)}
    jax.tree.map(np.testing.assert_array_equal, mask, expected)


@pytest.mark.parametrize("schedule", [prune.exponential, prune.linear], ids=lambda schedule: schedule.__name__)
def test_counts_are_exact_each_round_under_ties(schedule):
    counts = schedule(72, 5, 4)
    for rounds in range(1, 5):
        mask = prune.iterative(ties, network, None, PARAMS, BATCH, counts[:rounds])
        assert kept(mask) == counts[rounds - 1]


def test_iterative_synflow_goes_down_to_one_path_and_one_shot_does_not():
    """All weights 1 with a narrow end: the last layer's scores are highest, so one-shot keeps nothing else."""
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    for params in (PARAMS, ones):
        for keep in (20, 8, 3):
            counts = prune.one_at_a_time(72, keep)
            mask = prune.iterative(scores.synflow, network, None, params, BATCH, counts)
            assert kept(mask) == keep and all(leaf.any() for leaf in jax.tree.leaves(mask))
        one_path = masks.apply(jax.tree.map(abs, params), mask)
        assert network(one_path, BATCH[0][:1]).sum() > 0
    at_once = prune.one_shot(scores.synflow, network, None, ones, BATCH, 12)
    assert [bool(at_once[name].any()) for name in "abc"] == [False, False, True]


def test_one_shot_empties_layers_where_iterative_synflow_does_not():
    """Of this 64-128-128-10 network, which is no theorem: that of SynFlow is paths/critical-compression."""
    digits = data.load()
    batch = jnp.asarray(digits.x[:256] / 16), jax.nn.one_hot(digits.y[:256], 10)
    apply, params = models.initial(models.mlp(128, 128, 10, bias=False), jax.random.key(3), batch[0])
    for score, density, left in (
        (scores.synflow, 0.02, [False, False, True]),
        (scores.magnitude, 0.02, [True, True, False]),
        (scores.snip, 0.0003, [False, False, True]),
    ):
        keep = prune.count(params, density)
        at_once = prune.one_shot(score, apply, half_squares, params, batch, keep)
        rounds = prune.exponential(prune.size(params), keep, 100)
        in_rounds = prune.iterative(scores.synflow, apply, None, params, batch, rounds)
        assert [bool(leaf.any()) for leaf in jax.tree.leaves(at_once)] == left
        assert all(leaf.any() for leaf in jax.tree.leaves(in_rounds))
        assert kept(at_once) == kept(in_rounds) == keep
        paths_left = apply(masks.apply(jax.tree.map(abs, params), in_rounds), jnp.ones((1, 64)))
        assert paths_left.sum() > 0


def test_jit_and_vmap_are_eager():
    def run(params, keep, key):
        counts = prune.linear(72, 60, 2)
        many = prune.iterative(scores.synflow, network, None, params, BATCH, counts, key=key, sampler=prune.fixed_size)
        few = prune.iterative(scores.snip, network, half_squares, params, BATCH, jnp.stack([keep + 5, keep]))
        return many, few, prune.one_shot(scores.snip, network, half_squares, params, BATCH, keep)

    keys = jax.random.split(jax.random.key(0), 3)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(weights, range(3)))
    keeps = jnp.array([4, 9, 20])
    together = jax.jit(jax.vmap(run))(stack, keeps, keys)
    for i in range(3):
        alone = run(weights(i), keeps[i], keys[i])
        jax.tree.map(np.testing.assert_array_equal, taken(together, i), alone)


def test_a_partial_mask_is_pruned_further():
    partial = jax.tree.map(lambda leaf: leaf > 0, PARAMS)
    keep = kept(partial) - 7
    for mask in (
        prune.one_shot(magnitude, network, None, PARAMS, BATCH, keep, mask=partial),
        prune.iterative(magnitude, network, None, PARAMS, BATCH, [keep + 3, keep], mask=partial),
    ):
        assert kept(mask) == keep
        assert all((whole | ~part).all() for whole, part in zip(*map(jax.tree.leaves, (partial, mask)), strict=True))
    with pytest.raises(ValueError, match=f"keeps is 72 in round 1 of 1; it takes at most {kept(partial)}"):
        prune.iterative(magnitude, network, None, PARAMS, BATCH, [72], mask=partial)


@pytest.mark.parametrize("score", [scores.magnitude, scores.trace_drop], ids=lambda score: score.__name__)
def test_rounds_at_a_sketch_are_one_shots_at_what_is_left_of_it(score):
    """The weights of the sketch, here of each layer too, count in every round."""
    rng = np.random.default_rng(1)
    params = weights(bias=(2,))
    sketch = {
        name: jnp.asarray((rng.random(leaf.shape) < 0.7) * rng.uniform(0.2, 5, leaf.shape))
        for name, leaf in params.items()
    }
    found = prune.iterative(score, biased, None, params, BATCH, [30, 20, 8], mask=sketch)
    expected = sketch
    for keep in (30, 20, 8):
        selected = prune.one_shot(score, biased, None, params, BATCH, keep, mask=expected)
        expected = jax.tree.map(lambda m, chosen: m * chosen, expected, selected)
    jax.tree.map(np.testing.assert_array_equal, found, selected)
    plain = prune.iterative(score, biased, None, params, BATCH, [30, 20, 8], mask=jax.tree.map(jnp.sign, sketch))
    assert any((one != other).any() for one, other in zip(*map(jax.tree.leaves, (found, plain)), strict=True))


def test_layers_by_themselves():
    params = weights(bias=(2,))
    keep = prune.layer_counts(params, 0.25)
    assert keep == {"a": 6, "b": 9, "bias": 0, "c": 3}
    rounds = prune.exponential({"a": 24, "b": 36, "c": 12, "bias": 0}, keep, 3)
    for mask in (
        prune.one_shot(magnitude, biased, None, params, BATCH, keep),
        prune.iterative(magnitude, biased, None, params, BATCH, rounds),
    ):
        assert {name: kept(leaf) for name, leaf in mask.items()} == keep | {"bias": 2}
        for name in SHAPES:
            size = abs(params[name])
            assert size[mask[name]].min() > size[~mask[name]].max()


@pytest.mark.parametrize("kind", [list, tuple])
def test_layers_of_a_sequence(kind):
    """As those of a dictionary; a list of numbers is one a round, though params be as long."""

    def apply(params, x):
        return network(dict(zip("abc", params, strict=True)), x)

    params, keeps = kind(PARAMS.values()), prune.exponential([24, 36, 12], [6, 9, 3], 3)
    expected = prune.iterative(magnitude, network, None, PARAMS, BATCH, dict(zip("abc", keeps, strict=True)))
    mask = prune.iterative(magnitude, apply, None, params, BATCH, kind(keeps))
    jax.tree.map(np.testing.assert_array_equal, mask, kind(expected.values()))
    assert kept(prune.iterative(magnitude, apply, None, params, BATCH, kind([30, 20, 7]))) == 7


SAMPLERS = {
    "fixed-size": prune.fixed_size,
    "binary multinomial": functools.partial(prune.multinomial, binary=True),
    "multinomial": prune.multinomial,
    "poisson": prune.poisson,
    "binary poisson": functools.partial(prune.poisson, binary=True),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_in_proportion_to_the_size_of_the_score(name):
    sampler = SAMPLERS[name]
    found = {"w": jnp.array([[0.5, -1.0, 0.0], [-jnp.inf, 1.5, 1.0]]), "bias": jnp.full(2, jnp.inf)}
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: sampler(key, found, 2))(keys)
    assert (drawn["bias"] == 1).all()
    kept_often = np.asarray(drawn["w"], float)
    assert (kept_often[:, 0, 2] == 0).all() and (kept_often[:, 1, 0] == 0).all()
    law = np.array([0.5, 1, 0, 0, 1.5, 1]) / 4
    expected = {
        "fixed-size": law
        + np.array([sum(law[j] * law[i] / (1 - law[j]) for j in range(6) if j != i) for i in range(6)]),
        "binary multinomial": 1 - (1 - law) ** 2,
        "multinomial": (law > 0).astype(float),
        "poisson": (law > 0).astype(float),
        "binary poisson": 2 * law,
    }[name]
    values = kept_often.reshape(len(keys), -1)
    error = abs(values.mean(0) - expected)
    assert (error <= 5 * values.std(0) / len(keys) ** 0.5 + 1e-12).all()
    if name == "fixed-size":
        assert (values.sum(1) == 2).all()


def test_one_shot_takes_a_traced_keep_with_every_sampler():
    bounded = functools.partial(prune.multinomial, max_budget=30)
    for sampler in (prune.top, prune.fixed_size, bounded, prune.poisson):
        options = {"key": jax.random.key(0), "sampler": sampler}
        run = functools.partial(prune.one_shot, magnitude, network, None, PARAMS, BATCH, **options)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), jax.jit(run)(20), run(20))
    with pytest.raises(ValueError, match="budget is 31; it takes at most max_budget = 30"):
        bounded(jax.random.key(0), jnp.ones(40), 31)


def test_each_layer_has_its_own_draw():
    same = {"a": jnp.ones((30, 30)), "b": jnp.ones((30, 30))}
    mask = prune.select(same, {"a": 450, "b": 450}, key=jax.random.key(0), sampler=prune.fixed_size)
    assert kept(mask["a"]) == kept(mask["b"]) == 450 and (mask["a"] != mask["b"]).any()


def by_chance(apply, loss, params, batch, *, mask=None, key=None):
    """Scores that undo the noise by which fixed_size draws, if that is from the same key."""
    noise = jax.random.gumbel(key, params.shape, params.dtype, mode="high")
    found = jnp.exp(-2 * noise)
    return found if mask is None else jnp.where(mask, found, -jnp.inf)


def test_rounds_scores_and_samplers_draw_apart():
    """With one key for all rounds a round in between would change nothing; with one for both, drawing is ranking."""
    run = functools.partial(prune.iterative, by_chance, None, None, jnp.ones(200), BATCH, key=jax.random.key(0))
    once, twice = run([40]), run([100, 40])
    assert (once != twice).any() and kept(twice) == 40
    assert (run([40], sampler=prune.fixed_size) != once).any()
    at_once = functools.partial(prune.one_shot, by_chance, None, None, jnp.ones(200), BATCH, 40, key=jax.random.key(0))
    assert (at_once(sampler=prune.fixed_size) != at_once()).any()


def undefined(apply, loss, params, batch, *, mask=None, key=None):
    return {**magnitude(apply, loss, params, batch, mask=mask), "b": params["b"] * jnp.nan}


def nothing(apply, loss, params, batch, *, mask=None, key=None):
    return jax.tree.map(lambda leaf: 0 * leaf, params)


def dying(apply, loss, params, batch, *, mask=None, key=None):
    """Undefined once fewer than 50 weights are left."""
    left = sum(leaf.sum() for leaf in jax.tree.leaves(mask))
    return jax.tree.map(
        lambda leaf: jnp.where(left < 50, jnp.nan, leaf), magnitude(apply, loss, params, batch, mask=mask)
    )


def overflowing(apply, loss, params, batch, *, mask=None, key=None):
    """Exact in float64, and infinite wherever it is not zero in float32."""
    return jax.tree.map(lambda leaf: abs(leaf) * 1e30 * 1e30, params)


def sinking(apply, loss, params, batch, *, mask=None, key=None):
    """-inf on a weight that is not pruned."""
    return {**params, "c": params["c"].at[0, 0].set(-jnp.inf)}


one_shot = functools.partial(prune.one_shot, loss=half_squares, apply=network, batch=BATCH)
iterative = functools.partial(prune.iterative, loss=half_squares, apply=network, batch=BATCH)
DEAD = {**PARAMS, "b": 0 * PARAMS["b"]}
COARSE = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PARAMS)
INFINITE = {**COARSE, "b": COARSE["b"].at[2, 3].set(jnp.inf)}
MISUSE = {
    "NaN": (lambda: one_shot(undefined, params=PARAMS, keep=3), r"scores\['b'\] has NaN entries; it takes finite"),
    "infinite": (
        lambda: one_shot(scores.magnitude, params=INFINITE, keep=5),
        r"scores\['b'\] has infinite entries; it",
    ),
    "infinite in a round": (
        lambda: iterative(scores.magnitude, params=INFINITE, keeps=[5]),
        r"scores\['b'\] has infinite entries in round 1 of 1; it takes finite",
    ),
    "all infinite": (lambda: one_shot(overflowing, params=COARSE, keep=5), r"scores\['a'\] has infinite entries"),
    "minus infinite": (lambda: one_shot(sinking, params=PARAMS, keep=5), r"scores\['c'\] has infinite entries"),
    "minus infinite in a round": (lambda: iterative(sinking, params=PARAMS, keeps=[5]), r"scores\['c'\] has infinite"),
    "NaN later": (
        lambda: iterative(dying, params=PARAMS, keeps=[60, 40, 30, 20]),
        r"scores\['a'\] has NaN entries in round 3 of 4",
    ),
    "all zero": (lambda: one_shot(nothing, params=PARAMS, keep=3), "scores are all zero; it takes some that differ"),
    "a layer all zero": (
        lambda: one_shot(magnitude, params=DEAD, keep={"a": 6, "b": 3, "c": 2}),
        r"scores\['b'\] are all zero; it takes some that differ",
    ),
    "a layer all zero in a round": (
        lambda: iterative(
            magnitude, params=DEAD, keeps=prune.linear({"a": 24, "b": 36, "c": 12}, {"a": 6, "b": 3, "c": 2}, 2)
        ),
        r"scores\['b'\] are all zero in round 1 of 2",
    ),
    "rounds of a layer": (
        lambda: iterative(magnitude, params=PARAMS, keeps={"a": np.arange(2), "b": np.arange(3), "c": np.arange(2)}),
        r"keeps has leaves of the lengths \[\(2,\), \(3,\)\]; it takes one number of rounds",
    ),
    "empty layer": (
        lambda: one_shot(magnitude, params={**PARAMS, "d": jnp.zeros((0, 3))}, keep=3),
        r"params\['d'\] is empty, of shape \(0, 3\)",
    ),
    "too many": (lambda: one_shot(magnitude, params=PARAMS, keep=73), "keep is 73; it takes at most 72"),
    "too many at first": (lambda: iterative(magnitude, params=PARAMS, keeps=[73]), "none above 72"),
    "growing": (lambda: iterative(magnitude, params=PARAMS, keeps=[5, 9]), r"keeps is \[5 9\]; it takes counts that"),
    "shape of the mask": (
        lambda: iterative(magnitude, params=PARAMS, keeps=[3], mask={**PARAMS, "a": jnp.ones((1, 6))}),
        r"mask\['a'\] has shape \(1, 6\); it takes params' \(4, 6\)",
    ),
    "structure": (lambda: one_shot(magnitude, params=PARAMS, keep={"a": 3}), "keep is .*; it takes a number, or one"),
    "no key": (
        lambda: one_shot(magnitude, params=PARAMS, keep=3, sampler=prune.poisson),
        "key is None; it takes a key",
    ),
    "inexact sampler": (
        lambda: iterative(magnitude, params=PARAMS, keeps=[3], sampler=prune.poisson),
        "it takes top or fixed_size",
    ),
    "density 0": (lambda: prune.count(PARAMS, 0.0), r"density is 0.0; it takes a number in \(0, 1\]"),
    "density 2": (lambda: prune.layer_counts(PARAMS, 2.0), r"density is 2.0; it takes a number in \(0, 1\]"),
    "no weight": (lambda: prune.count(PARAMS, 0.001), "none of 72 weights; it takes one that keeps a weight"),
    "empty in a layer": (lambda: prune.layer_counts(PARAMS, 0.02), r"leaves params\['.'\] without weights"),
    "rule": (lambda: prune.layer_counts(PARAMS, 0.5, "best"), "rule is 'best'; it takes 'uniform'"),
    "rounds": (lambda: prune.exponential(9, 3, 0), "rounds is 0; it takes a whole number >= 1"),
    "schedule": (lambda: prune.linear(9, 10, 2), "keep is 10; it takes 1 to 9, the number of weights"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_named(name):
    call, message = MISUSE[name]
    with pytest.raises(ValueError, match=message):
        call()
