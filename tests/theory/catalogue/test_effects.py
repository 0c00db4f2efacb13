"""Effects: their words and cases, rank correlation against scipy, shuffling, controls, the efficiency of scores."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sketchprune import data, prune, scores, sketch
from tests.support import few, taken
from theory import CATALOGUE, Case, Claim, Effect, Sides, verify
from theory.catalogue.effects import drawing, efficiency, path_traces, seeds
from theory.catalogue.effects.rank_correlation import spearman
from theory.instances import make_groups
from theory.staged import StagedTrial
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, TIERS, UNMET, Tier

RNG = np.random.default_rng(0)


@few(30)
@given(st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.lists(st.integers(-3, 3), min_size=6, max_size=6))
def test_rank_correlation_is_scipys(a, b):
    found = float(spearman(jnp.array(a, float), jnp.array(b, float)))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_shuffled_masks_keep_the_counts_of_layers_and_their_pairing():
    stack = (jnp.asarray(RNG.random((3, 4, 5)) < 0.4), jnp.asarray(RNG.random((3, 5, 2)) < 0.4))
    stack = (stack[0].at[1].set(stack[0][0]), stack[1])
    order = seeds.order_within_layers(jax.random.key(0), taken(stack, 0))
    mixed = jax.vmap(seeds.reordered, (0, None))(stack, order)
    for before, after in zip(stack, mixed, strict=True):
        np.testing.assert_array_equal(before.sum((1, 2)), after.sum((1, 2)))
        assert (before != after).any()
    np.testing.assert_array_equal(mixed[0][0], mixed[0][1])


@pytest.mark.parametrize("network", seeds.NETWORKS)
def test_training_heeds_masks_and_controls(network):
    """Kept whole, nothing is changed by shuffling; the dense network learns the digits."""
    instance = seeds.make_seed(RNG, data.load(), network)
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), instance.params)
    chance, stack, _ = seeds.drawn(instance, seeds.stacked(ones, jax.tree.map(jnp.zeros_like, ones)), jax.random.key(0))

    @jax.jit
    def run(control):
        return jax.vmap(lambda mask: seeds.train_mask(instance.replace(control=control), chance, mask))(stack)

    found = run(seeds.AS_PRUNED)
    losses, errors = found.losses, found.error
    assert losses[0, -1] < losses[0, 0] / 5 and errors[0] < 0.2
    np.testing.assert_allclose(losses[1], np.log(10), rtol=1e-6)
    np.testing.assert_array_equal(losses, run(seeds.SHUFFLED).losses)
    assert (losses[0] != run(seeds.REDRAWN).losses[0]).any()


def test_laws_heed_the_size_of_a_score_alone():
    """Neither scale nor sign; what is never pruned, or pruned already, is left out."""
    signed = {"kernel": RNG.standard_normal((3, 4)), "bias": np.full(4, np.inf)}
    signed["kernel"][1, 2] = -np.inf
    kept = np.where(np.isinf(signed["kernel"]), 0, abs(signed["kernel"]))
    found = efficiency.score_law(signed)
    np.testing.assert_allclose(found["kernel"], kept / kept.sum(), rtol=1e-12)
    np.testing.assert_array_equal(found["bias"], 0)
    for other in (jax.tree.map(lambda leaf: 7 * leaf, signed), signed | {"kernel": -abs(signed["kernel"])}):
        jax.tree.map(
            lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-12), found, efficiency.score_law(other)
        )
    optimal = efficiency.score_law(signed | {"kernel": RNG.random((3, 4)) * (kept > 0)})
    one, other = (np.asarray(law["kernel"])[kept > 0] for law in (optimal, found))
    assert float(sketch.efficiency(optimal, found)) == pytest.approx(1 / np.sum(one**2 / other), rel=1e-12)
    assert float(sketch.efficiency(optimal, optimal)) == 1


def test_masks_and_efficiencies_are_those_of_the_scores():
    """The Jacobian's own columns against each score, in numpy; masks of one size, the top the signed score's."""
    instance = seeds.make_seed(np.random.default_rng(3), data.load())
    checked = ("magnitude", "grasp", "synflow")
    table = {name: scores.SCORES[name] for name in (*checked, "ntk_trace")}

    @jax.jit
    def program(instance, key):
        found = efficiency.masks_of_scores(instance, key, table), seeds.stacked_scores(instance, table, key)
        return *found, jax.jacrev(instance.apply)(instance.params, instance.x[0][:64])

    (ratios, sampled, top), found, jacobian = program(instance, jax.random.key(1))

    def by_row(tree):
        return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(tree)], axis=1)

    optimal = np.concatenate(
        [np.square(leaf, dtype=float).sum(axis=(0, 1)).ravel() for leaf in jax.tree.leaves(jacobian)]
    )
    optimal /= optimal.sum()
    assert ratios[-1] == pytest.approx(1, abs=1e-6)
    assert ((ratios > 0) & (ratios < 1 + 1e-6)).all()
    keep = round(seeds.COMPARED_AT * prune.size(instance.params))
    score_of = dict(zip(table, by_row(found), strict=True))
    for row, name in enumerate(checked):
        score = score_of[name]
        law = abs(score) / abs(score).sum()
        used = optimal > 0
        assert ratios[row] == pytest.approx(1 / np.sum(optimal[used] ** 2 / law[used]), rel=1e-3)
        np.testing.assert_array_equal(np.flatnonzero(by_row(top)[row]), np.sort(np.argsort(-score, stable=True)[:keep]))
    assert (score_of["grasp"] < 0).any()
    for stack in (sampled, top):
        assert set(by_row(stack).sum(axis=1)) == {keep}


def test_efficiency_needs_the_optimal_law():
    instance = seeds.make_seed(RNG, PLAIN)
    with pytest.raises(ValueError, match=r"table is \['magnitude'\]; it takes one with ntk_trace"):
        efficiency.masks_of_scores(instance, jax.random.key(0), {"magnitude": scores.magnitude})


# --- Words and cases

TINY = Tier("tiny", instances=2, looks=(2,), tolerance=0.1, search_steps=1, seeds=8)
PLAIN = data.Dataset(np.arange(60.0).reshape(20, 3), np.arange(20) % 2, "features", 2)


def observed(**means):
    """An effect whose cases have these mean differences; their names say what they are."""
    cases = [
        Case(name, lambda rng, _, mean=mean: mean + rng.normal(0, 0.1), control="control" in name, long="long" in name)
        for name, mean in means.items()
    ]
    return Claim(
        id="toy/effect", title="", statement="", sources=(), kind=Effect(), cases=tuple(cases), expected=None,
        trial=lambda difference, _: {"claim": Sides(difference, jnp.zeros(()))},
    )  # fmt: skip


def test_controls_have_no_part_in_the_word():
    found = verify(observed(one=1.0, control_of_one=-1.0, other=1.0, control_of_other=0.0), tier=TINY)
    assert [case.verdict for case in found.cases.values()] == [SUPPORTED, REFUTED, SUPPORTED, INCONCLUSIVE]
    assert [case.control for case in found.cases.values()] == [False, True, False, True]
    assert found.verdict == SUPPORTED and not found.undecided
    assert verify(observed(one=1.0, control_of_one=1.0, other=-1.0), tier=TINY).verdict == REFUTED


def test_each_control_has_an_interval_of_the_effect_minus_it():
    """Paired by seed: what the two share cancels. Seeds that one of them does not admit are left out of both."""

    def case(name, lead, **options):
        def make(rng, _):
            seed = rng.normal(0, 5)
            return {"seed": seed, "difference": seed + lead, "admissible": name != "strict" or seed > -2}

        return Case(name, make, stream="seeds", **options)

    cases = (case("effect", 1.5), case("control", 1.0, control=True), case("strict", 0.0, control=True))
    claim = replace(
        observed(one=1.0), cases=cases, hypotheses={"seed": lambda instance: instance["admissible"]},
        trial=lambda instance, _: {"claim": Sides(instance["difference"], jnp.zeros(()))},
    )  # fmt: skip
    found = verify(claim, tier=TINY).cases
    assert found["effect"].contrast_interval is None and np.isnan(found["effect"].contrast)
    for name, excess in {"control": 0.5, "strict": 1.5}.items():
        assert found[name].contrast == pytest.approx(excess, abs=1e-12)
        assert found[name].contrast_interval == pytest.approx((excess, excess), abs=1e-12)
        assert np.diff(found[name].interval) > 5
    assert 2 <= found["strict"].admissible < 8


def test_long_cases_run_at_the_full_tier():
    claim = observed(one=1.0, long=-1.0)
    assert verify(claim, tier=TINY).verdict == SUPPORTED
    for tier in (replace(TINY, long=True), "full"):
        found = verify(claim, tier=tier)
        assert list(found.cases) == ["one", "long"] and found.verdict == REFUTED
    for tier in ("quick", "standard"):
        assert list(verify(claim, tier=tier).cases) == ["one"]


@pytest.mark.parametrize("dataset", [data.load(), PLAIN], ids=lambda dataset: dataset.name)
def test_the_conv_net_takes_images(dataset):
    """Of plain features it says nothing, and the MLP does."""
    claim = replace(
        path_traces.PREDICTS_TEST_ERROR,
        draw=lambda instance, key: key,
        trial=lambda instance, _: {"claim": Sides(instance.x, jnp.ones(()))},
    )
    found = verify(claim, tier=replace(TINY, long=True), data=dataset).cases
    unmet = {name for name, case in found.items() if case.verdict == UNMET}
    assert unmet == {name for name in found if "conv net" in name and dataset is PLAIN} and len(unmet) in (0, 3)


def test_the_quick_tier_takes_fewer_seeds_of_some_effects():
    """And says so in the note. The other tiers have no fewer."""
    for claim in (drawing.RANDOMISED_BEATS_TOP, drawing.REWEIGHTED_BEATS_TOP):
        few = claim is drawing.REWEIGHTED_BEATS_TOP
        counts = [claim.kind.count_instances(TIERS[name]) for name in ("quick", "standard", "full")]
        assert counts == [8 if few else 16, 32, 64]
        assert ("half of its seeds" in claim.note) is few


def test_controls_have_the_seeds_of_their_case():
    """A control is the same seed without a possible cause, so that the two are compared seed by seed."""
    groups, _ = make_groups(drawing.RANDOMISED_BEATS_TOP, 2, 0, data.load(), lambda raw: (raw, np.ones((6, 1), bool)))
    (group,) = groups
    assert [case.control for case in group.cases] == [False, True, True]
    for leaf in jax.tree.leaves((group.raw.params, group.raw.x, group.keys)):
        np.testing.assert_array_equal(leaf[:2], leaf[2:4])
        np.testing.assert_array_equal(leaf[:2], leaf[4:])
    assert (group.raw.control != group.raw.control[0]).sum() == 4


class Untouched:
    """What may be handed on, but not looked at."""

    def __eq__(self, other):
        raise AssertionError("a draw looked at the control")

    __hash__ = None


STAGED = {claim.draw: claim for claim in CATALOGUE if isinstance(claim.trial, StagedTrial)}


def traced_draw(draw):
    instance = seeds.make_seed(RNG, data.load())
    key = jax.random.key(0)
    rest = {name: getattr(instance, name) for name in ("params", "redrawn", "x", "y")}
    return jax.eval_shape(lambda rest: draw(instance.replace(control=Untouched(), **rest), key).arms, rest)


@pytest.mark.parametrize("claim", STAGED.values(), ids=lambda claim: claim.id)
def test_what_is_drawn_is_the_same_for_every_control(claim):
    """The verifier draws once for an effect and its controls."""
    assert jax.tree.leaves(traced_draw(claim.draw))


def test_a_draw_that_looks_at_the_control_is_found():
    def draw(instance, key):
        return seeds.drawn(instance, seeds.tree_where(instance.control == seeds.SHUFFLED, {}, {}), key)

    with pytest.raises(AssertionError, match="looked at the control"):
        traced_draw(draw)
