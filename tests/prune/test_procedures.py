"""Pruning at once and in rounds: exact counts, what is left is scored again, and layers by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, laws, masks, models, prune, scores
from tests.support import taken
from tests.support.pruning import BATCH, PARAMS, SHAPES, biased, half_squares, kept, magnitude, network, ties, weights

FIXED_SIZE = prune.proportional(laws.FixedSize)


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
    at_once = prune.one_shot(scores.magnitude, network, None, PARAMS, batch, 7)
    in_rounds = prune.iterative(scores.magnitude, network, None, PARAMS, batch, [7])
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
    counts = prune.exponential_schedule(72, 8, 6)
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


@pytest.mark.parametrize(
    "schedule", [prune.exponential_schedule, prune.linear_schedule], ids=lambda schedule: schedule.__name__
)
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
            counts = prune.one_at_a_time_schedule(72, keep)
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
    for density, collapses in (
        (0.02, {scores.synflow: [False, False, True], scores.magnitude: [True, True, False]}),
        (0.0003, {scores.snip: [False, False, True]}),
    ):
        keep = prune.count(params, density)
        rounds = prune.exponential_schedule(prune.size(params), keep, 100)
        in_rounds = prune.iterative(scores.synflow, apply, None, params, batch, rounds)
        assert all(leaf.any() for leaf in jax.tree.leaves(in_rounds)) and kept(in_rounds) == keep
        paths_left = apply(masks.apply(jax.tree.map(abs, params), in_rounds), jnp.ones((1, 64)))
        assert paths_left.sum() > 0
        for score, left in collapses.items():
            at_once = prune.one_shot(score, apply, half_squares, params, batch, keep)
            assert [bool(leaf.any()) for leaf in jax.tree.leaves(at_once)] == left and kept(at_once) == keep


def test_jit_and_vmap_are_eager():
    def run(params, keep, key):
        counts = prune.linear_schedule(72, 60, 2)
        drawn = prune.iterative(magnitude, network, None, params, BATCH, counts, key=key, sampler=FIXED_SIZE)
        top = prune.iterative(scores.snip, network, half_squares, params, BATCH, jnp.stack([keep + 5, keep]))
        return drawn, top, prune.one_shot(scores.snip, network, half_squares, params, BATCH, keep)

    keys = jax.random.split(jax.random.key(0), 3)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(weights, range(3)))
    keeps = jnp.array([4, 9, 20])
    together = jax.jit(jax.vmap(run))(stack, keeps, keys)
    for i in range(3):
        alone = run(weights(i), keeps[i], keys[i])
        jax.tree.map(np.testing.assert_array_equal, taken(together, i), alone)


def test_which_leaves_are_pruned_can_be_chosen():
    """A dense last layer and pruned biases: counts, both procedures, layers by themselves, and laws."""
    params = weights(bias=(2,))

    def chosen(path):
        return path != "['c']"

    total = prune.size(params, chosen)
    assert total == sum(params[name].size for name in ("a", "b", "bias"))
    assert prune.count(params, 0.5, chosen) == round(0.5 * total)
    counts = prune.layer_counts(params, 0.5, prunable=chosen)
    assert counts["c"] == 0 < counts["bias"] and sum(counts.values()) == round(0.5 * total)
    schedule = jax.tree.map(lambda count: np.array([count]), counts)
    for mask in (
        prune.one_shot(scores.magnitude, None, None, params, None, 9, prunable=chosen),
        prune.iterative(scores.magnitude, None, None, params, None, [20, 9], prunable=chosen),
    ):
        assert mask["c"].all() and kept(mask) == 9 + params["c"].size
    by_layer = prune.one_shot(scores.magnitude, None, None, params, None, counts, prunable=chosen)
    in_rounds = prune.iterative(scores.magnitude, None, None, params, None, schedule, prunable=chosen)
    jax.tree.map(np.testing.assert_array_equal, by_layer, in_rounds)
    assert {name: kept(by_layer[name]) for name in counts} == counts | {"c": params["c"].size}
    law = laws.ErdosRenyiCounts.at_density(params, 0.5, rule="uniform", prunable=chosen)
    assert law.counts == counts | {"c": params["c"].size}
    assert laws.ErdosRenyi.at_density(params, 0.5, rule="uniform", prunable=chosen).densities["bias"] == 0.5
    with pytest.raises(TypeError, match="unexpected keyword argument 'prunable'"):
        prune.one_shot(magnitude, None, None, params, None, 9, prunable=chosen)


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


@pytest.mark.parametrize("score", [scores.magnitude, scores.path_trace], ids=lambda score: score.__name__)
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
    rounds = prune.exponential_schedule({"a": 24, "b": 36, "c": 12, "bias": 0}, keep, 3)
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

    params, keeps = kind(PARAMS.values()), prune.exponential_schedule([24, 36, 12], [6, 9, 3], 3)
    expected = prune.iterative(magnitude, network, None, PARAMS, BATCH, dict(zip("abc", keeps, strict=True)))
    mask = prune.iterative(magnitude, apply, None, params, BATCH, kind(keeps))
    jax.tree.map(np.testing.assert_array_equal, mask, kind(expected.values()))
    assert kept(prune.iterative(magnitude, apply, None, params, BATCH, kind([30, 20, 7]))) == 7


def smallest(key, scores, keep):
    """The lowest scores, as a sketch: an exact sampler of one's own, and weights that are dropped."""
    return jax.tree.map(lambda m: 3.0 * m, prune.top(None, jax.tree.map(lambda leaf: -abs(leaf), scores), keep))


def test_rounds_take_any_sampler_that_counts_exactly():
    mask = prune.iterative(scores.magnitude, network, None, PARAMS, BATCH, [72, 30], sampler=smallest)
    size = np.concatenate([abs(leaf).ravel() for leaf in jax.tree.leaves(PARAMS)])
    chosen = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(mask)])
    assert chosen.dtype == bool and chosen.sum() == 30 and size[chosen].max() < size[~chosen].min()
    drawn = prune.iterative(
        magnitude, network, None, PARAMS, BATCH, [40, 20], sampler=FIXED_SIZE, key=jax.random.key(1)
    )
    assert kept(drawn) == 20
