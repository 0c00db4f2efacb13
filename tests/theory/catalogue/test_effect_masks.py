"""Effects that draw or find masks: equal counts in both arms, flow preserved, tickets inside their source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, lottery, paths, prune, scores, train
from sketchprune.data import Dataset
from tests.support import taken
from theory.catalogue.effects import least_bound, path_traces, ratios, seeds, tickets
from theory.claim import Source

SMALL = Dataset(np.random.default_rng(0).random((160, 12)), np.arange(160) % 3, "small", 3)
INSTANCE = seeds.make_seed(np.random.default_rng(1), SMALL)
SIZE = prune.size(INSTANCE.params)
KEY = jax.random.key(0)


def layers(mask):
    """In the order of the network's layers."""
    return [np.asarray(mask[f"Dense_{i}"]["kernel"]) for i in range(3)]


@pytest.mark.parametrize("rule", ["balanced", "pyramidal"])
def test_masks_of_two_rules_keep_the_same_counts(rule):
    """As drawn they keep the density exactly; with their flow preserved, as many as each other, and no less."""
    pairs = jax.jit(lambda instance, key: ratios.masks_of_rules(instance, rule, key))(INSTANCE, KEY)
    for row, density in enumerate(ratios.DENSITIES):
        drawn, preserved = (
            [layers(jax.tree.map(lambda leaf, at=(flow, row, arm): leaf[at], pairs)) for arm in (0, 1)]
            for flow in (0, 1)
        )
        assert [sum(leaf.sum() for leaf in mask) for mask in drawn] == [round(density * SIZE)] * 2
        expected = prune.layer_counts(INSTANCE.params, density, rule, least=0)
        assert [leaf.sum() for leaf in drawn[1]] == [leaf.sum() for leaf in layers(expected)]
        one, other = (sum(leaf.sum() for leaf in mask) for mask in preserved)
        assert one == other >= round(density * SIZE)
        for before, after in zip(drawn, preserved, strict=True):
            for layer, kept in zip(before, after, strict=True):
                assert (kept >= layer).all()
                assert lottery.connected_units(kept).all() and lottery.connected_inputs(kept).all()


def test_shuffling_over_layers_keeps_the_sum_of_the_counts():
    stack = (jnp.zeros((2, 4, 5), bool).at[:, 0].set(True), jnp.zeros((2, 30), bool))
    mixed = jax.vmap(seeds.reordered, (0, None))(stack, seeds.order_over_layers(KEY, taken(stack, 0)))
    total = sum(leaf.reshape(2, -1).sum(axis=1) for leaf in mixed)
    assert total.tolist() == [5, 5] and mixed[1].any()
    np.testing.assert_array_equal(mixed[0][0], mixed[0][1])


SEARCHES = {
    "edge-popup": (tickets._edge_popup, tickets._final_count, tickets.POPUP_DENSITY),
    "iterative": (tickets._iterative, lambda size, keep: np.array([size // 2, keep]), tickets.FINAL_DENSITY),
    "gradual": (tickets._gradual, lambda size, keep: np.array([size // 2, keep]), tickets.FINAL_DENSITY),
    "rigl": (tickets._rigl, tickets._final_count, tickets.FINAL_DENSITY),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_tickets_lie_inside_their_source_and_have_one_count(name, monkeypatch):
    """Entry by entry; dense and sparse end at the same density."""
    monkeypatch.setattr(tickets, "STEPS", 30)
    search, schedule, density = SEARCHES[name]
    keep = prune.count(INSTANCE.params, density)
    sparse = laws.ErdosRenyi.at_density(INSTANCE.params, tickets.SOURCE_DENSITY).sample(KEY)
    assert 0.4 * SIZE < sum(leaf.sum() for leaf in layers(sparse)) < 0.6 * SIZE
    sources = seeds.stacked(jax.tree.map(np.ones_like, sparse), sparse)
    keeps = jnp.array([schedule(size, keep) for size in (SIZE, SIZE // 2)])
    found = jax.jit(jax.vmap(lambda source, keeps: search(INSTANCE, source, keeps, KEY)))(sources, keeps)
    for arm in range(2):
        mask, params = layers(taken(found.mask, arm)), layers(taken(found.params, arm))
        assert sum(leaf.sum() for leaf in mask) == keep
        for kept, weights, usable in zip(mask, params, layers(taken(sources, arm)), strict=True):
            assert not (kept & ~usable).any() and (weights[~kept] == 0).all()


def test_arms_are_what_was_found_and_controls_are_what_becomes_of_it():
    def search(instance, source, keeps, key):
        # The dense network, or one that predicts class 0.
        whole = jnp.array([leaf.all() for leaf in jax.tree.leaves(source)]).all()
        params = jax.tree.map(lambda leaf: jnp.where(whole, leaf, 0), instance.params)
        return train.Ticket(params, source, jnp.zeros(0))

    def again(instance, chance, mask):
        whole = jnp.array([leaf.all() for leaf in jax.tree.leaves(mask)]).all()
        return seeds.Trained(mask, mask, mask, jnp.zeros(0), jnp.where(whole, 0.7, 0.2))

    claim = tickets.starts_sparse(
        search, tickets._final_count, again,
        id="my/search", title="A search", source=Source("evci2020rigl"), note="",
    )  # fmt: skip

    @jax.jit
    def run(control):
        instance = INSTANCE.replace(control=control)
        return claim.trial(instance, claim.draw(instance, KEY))["claim"]

    found = run(seeds.AS_PRUNED)
    dense = float(np.mean(np.argmax(INSTANCE.apply(INSTANCE.params, INSTANCE.x[1]), axis=1) != INSTANCE.y[1]))
    assert float(found.measured) == pytest.approx(dense)
    assert float(found.theory) == pytest.approx(np.mean(INSTANCE.y[1] != 0))
    for control in (seeds.SHUFFLED, seeds.REDRAWN):
        sides = run(control)
        assert (float(sides.measured), float(sides.theory)) == pytest.approx((0.7, 0.2))


def test_how_far_the_trace_and_the_weights_move(monkeypatch):
    """From the weights at both ends, in NumPy and without logarithms."""
    monkeypatch.setattr(seeds, "STEPS", 5)
    trial = path_traces.TRACE_MOVES.trial
    draw = path_traces._draw_top((("magnitude", scores.magnitude),))

    @jax.jit
    def program(instance, key):
        shared, arms, _ = draw(instance, key)
        results = jax.vmap(lambda mask: trial.run(instance, shared, mask))(arms)
        return trial.compare(instance, trial.needed(results), None)["claim"], results

    sides, found = program(INSTANCE, KEY)
    start, end, mask = (taken(tree, 0) for tree in (found.start, found.params, found.mask))
    flat = [np.concatenate([leaf.ravel() for leaf in layers(tree)]) for tree in (start, end)]
    assert float(sides.measured[0]) == pytest.approx(
        np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0]), rel=1e-5
    )
    before, after = (float(paths.trace(INSTANCE.apply, p, INSTANCE.x.shape[2:], mask=mask)) for p in (start, end))
    assert float(sides.theory[0]) == pytest.approx(abs(after / before - 1), rel=1e-4)


def test_masks_of_the_least_bound_and_of_its_rivals_keep_the_same_counts():
    keeps = jnp.asarray(prune.exponential_schedule(SIZE, 200, 2))
    own = jax.jit(least_bound.least_bound_mask)(INSTANCE, keeps)
    for mask in own, least_bound.snip_mask(INSTANCE, 200), least_bound.synflow_mask(INSTANCE, 200):
        assert sum(leaf.sum() for leaf in layers(mask)) == 200
    assert all(leaf.any() for leaf in layers(own))
