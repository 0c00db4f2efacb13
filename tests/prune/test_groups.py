"""Pruning by groups: whole groups in exact numbers, and the same number of weights in each group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, masks, prune, scores
from tests.support import normal, taken
from tests.support.pruning import BATCH, PARAMS, biased, half_squares, kept, magnitude, network, weights

KEY = jax.random.key(0)
DRAWN = prune.proportional(laws.FixedSize)


def groups_kept(mask, groups):
    """How many groups have a weight that is kept; refuses those that are kept in part."""
    counts = masks.group_scores(jax.tree.map(jnp.float64, mask), groups)
    whole = masks.group_scores(jax.tree.map(jnp.ones_like, jax.tree.map(jnp.float64, mask)), groups)
    both = [np.stack(pair) for pair in zip(*map(jax.tree.leaves, (counts, whole)), strict=True)]
    assert all(((found == 0) | (found == size)).all() for found, size in both)
    return [int((found > 0).sum()) for found, _ in both]


@pytest.mark.parametrize(
    "sampler",
    [prune.top, DRAWN, prune.proportional(laws.Multinomial, binary=True)],
    ids=["top", "drawn", "multinomial"],
)
@pytest.mark.parametrize(
    ("score", "groups"),
    [(scores.snip, "rows"), (scores.synflow, "columns"), (scores.snip, (2, 2))],
    ids=["snip-rows", "synflow-columns", "snip-blocks"],
)
def test_one_shot_keeps_whole_groups(score, groups, sampler):
    mask = prune.one_shot(score, network, half_squares, PARAMS, BATCH, 5, key=KEY, sampler=sampler, groups=groups)
    count = sum(groups_kept(jax.tree.map(lambda m: m != 0, mask), groups))
    assert count == 5 or (count < 5 and "Multinomial" in str(sampler))


def test_the_groups_of_the_largest_sums_are_kept():
    found = magnitude(network, None, PARAMS, BATCH)
    sums = {name: np.asarray(leaf).sum(0) for name, leaf in found.items()}
    mask = prune.one_shot(magnitude, network, None, PARAMS, BATCH, 6, groups="columns")
    least = np.sort(np.concatenate(list(sums.values())))[-6]
    for name in "abc":
        np.testing.assert_array_equal(mask[name], np.broadcast_to(sums[name] >= least, PARAMS[name].shape))


def test_layers_keep_groups_by_themselves_in_rounds_too():
    params = weights(bias=(2,))
    of_groups = masks.group_scores(params, "columns")
    counts = prune.layer_counts(of_groups, 0.5)
    assert counts == {"a": 3, "b": 3, "c": 1, "bias": 0} and prune.size(of_groups) == 14
    at_once = prune.one_shot(scores.synflow, biased, None, params, BATCH, counts, groups="columns")
    start = prune.layer_counts(of_groups, 1.0)
    keeps = prune.exponential_schedule(start, counts, 2)
    in_rounds = prune.iterative(scores.synflow, biased, None, params, BATCH, keeps, groups="columns")
    for mask in (at_once, in_rounds):
        assert mask["bias"].all() and groups_kept({name: mask[name] for name in "abc"}, "columns") == [3, 3, 1]


def test_rounds_with_groups_score_what_is_left():
    """Against a loop of one-shot rounds."""
    keeps = [10, 6, 4]
    mask = prune.iterative(scores.synflow, network, None, PARAMS, BATCH, keeps, groups="columns")
    left = None
    for keep in keeps:
        left = prune.one_shot(scores.synflow, network, None, PARAMS, BATCH, keep, mask=left, groups="columns")
    jax.tree.map(np.testing.assert_array_equal, mask, left)
    drawn = prune.iterative(
        scores.synflow, network, None, PARAMS, BATCH, keeps, key=KEY, sampler=DRAWN, groups="columns"
    )
    assert sum(groups_kept(drawn, "columns")) == 4


def test_what_is_pruned_stays_pruned_inside_a_group():
    before = {name: jnp.asarray(np.random.default_rng(3).random(leaf.shape) < 0.5) for name, leaf in PARAMS.items()}
    mask = prune.one_shot(magnitude, network, None, PARAMS, BATCH, 5, mask=before, groups="rows")
    assert not any((mask[name] & ~before[name]).any() for name in mask)
    spread = jax.tree.map(lambda m: jnp.broadcast_to(m.any(1, keepdims=True), m.shape), mask)
    jax.tree.map(lambda m, wide, old: np.testing.assert_array_equal(m, wide & old), mask, spread, before)


def test_groups_under_jit_and_vmap_are_the_loop():
    def select(key, keep):
        return prune.one_shot(scores.synflow, network, None, PARAMS, BATCH, keep, key=key, sampler=DRAWN, groups="rows")

    keys, keeps = jax.random.split(KEY, 3), jnp.array([2, 5, 9])
    together = jax.jit(jax.vmap(select))(keys, keeps)
    for i in range(3):
        alone = select(keys[i], int(keeps[i]))
        jax.tree.map(np.testing.assert_array_equal, taken(together, i), alone)


def test_too_many_groups_are_refused():
    with pytest.raises(ValueError, match="keep is 15; it takes at most 14, the number of finite scores"):
        prune.one_shot(magnitude, network, None, PARAMS, BATCH, 15, groups="columns")
    with pytest.raises(ValueError, match="keeps is .*15.* none above 14"):
        prune.iterative(magnitude, network, None, PARAMS, BATCH, [15], groups="columns")
    half = {name: jnp.ones(leaf.shape).at[:, ::2].set(0) for name, leaf in PARAMS.items()}
    with pytest.raises(ValueError, match="keeps is 8 in round 1 of 1; it takes at most 7, which is all that can be"):
        prune.iterative(magnitude, network, None, PARAMS, BATCH, [8], mask=half, groups="columns")

    def nothing(key, scores, keep):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, bool), scores)

    with pytest.raises(ValueError, match="which kept 0 groups in round 1 of 1 where 7 were asked for"):
        prune.iterative(magnitude, network, None, PARAMS, BATCH, [7], sampler=nothing, groups="columns")


# --- N of M


@pytest.mark.parametrize("sampler", [prune.top, DRAWN], ids=["top", "drawn"])
@pytest.mark.parametrize(("keep", "groups"), [(1, (2, 1)), (2, "columns"), (0, "rows"), (3, (1, 3))])
def test_each_group_keeps_as_many(sampler, keep, groups):
    params = {"conv": normal(1, 3, 2, 4, 6), "dense": normal(2, 6, 9), "bias": jnp.full(9, jnp.inf)}
    chosen = jax.tree.map(abs, params)
    mask = prune.select_within(chosen, keep, groups, key=KEY, sampler=sampler)
    assert mask["bias"].all()
    for leaf in (mask["conv"], mask["dense"]):
        assert leaf.dtype == bool and (masks.group_scores(jnp.float64(leaf), groups) == keep).all()


def test_each_group_keeps_its_highest():
    found = jnp.round(normal(3, 8, 5))  # with ties
    mask = np.asarray(prune.select_within(found, 2, (4, 1)))
    for group, column in np.ndindex(2, 5):
        rows = slice(4 * group, 4 * group + 4)
        order = np.argsort(-np.asarray(found)[rows, column], kind="stable")
        assert set(np.flatnonzero(mask[rows, column])) == set(order[:2])
    np.testing.assert_array_equal(jax.jit(lambda s: prune.select_within(s, 2, (4, 1)))(found), mask)
    several = jnp.stack([found, -found])
    together = jax.vmap(lambda s, keep: prune.select_within(s, keep, (4, 1)))(several, jnp.array([1, 3]))
    np.testing.assert_array_equal(together[1], prune.select_within(-found, 3, (4, 1)))


def test_groups_are_drawn_apart():
    mask = np.asarray(prune.select_within(jnp.ones((2, 64)), 1, "columns", key=KEY, sampler=DRAWN))
    assert 10 < mask[0].sum() < 54  # one key for all groups would draw the same row of each


def test_infinite_scores_within_groups():
    found = jnp.array([[jnp.inf, 1.0, 2.0], [-jnp.inf, -jnp.inf, 5.0]])
    assert prune.select_within(found, 2, "rows").tolist() == [[True, True, True], [False, False, True]]
    assert prune.select_within(jnp.zeros((2, 0)), 0, "rows").shape == (2, 0)
    assert prune.select_within(jnp.zeros((0, 2)), 1, "rows").shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: prune.select_within(s, 3, (2, 1)), r"keep is 3; it takes at most 2, the size of a group of scores"),
        (lambda s: prune.select_within(s, -1, (2, 1)), "keep is -1; it takes a whole number >= 0"),
        (lambda s: prune.select_within(s.at[0, 0].set(jnp.nan), 1, (2, 1)), "scores has NaN entries; it takes numbers"),
        (lambda s: prune.select_within(s, 1, (3, 1)), r"scores has shape \(4, 2\); it takes multiples of the block"),
        (lambda s: prune.select_within(s, 1, (2, 1), sampler=DRAWN), "key is None"),
    ],
)
def test_misuse_within_groups_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((4, 2)))


def test_kept_counts_of_groups_of_unequal_size():
    """Columns of "a" have 4 weights and those of "b" and "c" 6: groups are counted, not weights."""
    mask = prune.one_shot(magnitude, network, None, PARAMS, BATCH, {"a": 2, "b": 1, "c": 1}, groups="columns")
    assert kept(mask) == 2 * 4 + 6 + 6
