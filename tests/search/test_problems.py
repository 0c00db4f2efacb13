"""Named problems: theory is what their masks do, and masks that are found directly are as good as they say."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, search
from sketchprune.search import problems, subsets
from sketchprune.search.problems import Setting, problem

ALONE = search.mesh.over(jax.devices()[:1])
SETTING = Setting("digits", "linear", "multinomial", "optimal", False, "linear-error", 0.2, None, None, 0)


@pytest.mark.parametrize(("law", "kept"), [("fixed-size", 3), ("poisson", 3), ("multinomial", 8)])
def test_no_law_keeps_more_weights_than_have_a_size(law, kept):
    """A multinomial law draws, and may draw one weight again and again."""
    three = replace(few(), x=np.where(np.arange(12) < 3, np.random.default_rng(0).standard_normal((200, 12)), 1.0))
    with jax.enable_x64(False):
        posed = problem(replace(SETTING, law=law, density=2 / 3), three)
        mask = np.asarray(posed.law(jax.random.key(0)))
    assert posed.keep == kept and posed.weights == 12
    assert mask[:3].any() and not mask[3:].any()


def test_settings_are_completed_once():
    for change, steps, step_size in (
        ({"objective": "training-error"}, None, None),
        ({"objective": "training-error", "steps": 7}, 7, 1.0),
        ({"model": "mlp", "objective": "trained-loss"}, 50, 0.01),
        ({"model": "mlp", "objective": "trained-loss", "steps": 0, "step_size": 0.5}, 0, 0.5),
    ):
        found = problems.completed(replace(SETTING, **change))
        assert (found.steps, found.step_size) == (steps, step_size)
        assert problems.completed(found) == found


@functools.cache
def few():
    """Twelve pixels of some images: small enough for every formula."""
    digits = data.load()
    return replace(digits, x=digits.x[:200, 18:30], y=digits.y[:200], image_shape=())


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": "data-free"},
        {"law": "multinomial", "binary": True},
        {"law": "poisson"},
        {"law": "poisson", "binary": True, "probabilities": "uniform"},
        {"law": "fixed-size"},
        {"objective": "training-error"},
        {"objective": "training-error", "law": "poisson"},
        {"model": "mlp", "objective": "ntk-error"},
        {"model": "mlp", "objective": "ntk-error", "law": "poisson", "probabilities": "data-free"},
    ],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_theory_is_what_the_masks_do(change):
    setting = replace(SETTING, density=0.4, **change)
    count = 512 if setting.model == "mlp" else 2048
    with jax.enable_x64(False):
        posed = problem(setting, few())
        found = search.best(posed.objective, posed.law, count, key=jax.random.key(1), num_best=1, mesh=ALONE)
        mask = jax.tree.map(lambda leaf: leaf[0], found.masks)
    deviation = np.sqrt(found.variance / count)
    if "expectation" in posed.theory:
        assert abs(found.mean - posed.theory["expectation"]) < 5 * deviation
    else:
        assert found.mean < posed.theory["expectation at most"] + 5 * deviation
    tail = [value for name, value in posed.theory.items() if not name.startswith("expectation")]
    assert len(tail) == 1 and found.quantile(1 - problems.DELTA) <= tail[0]
    np.testing.assert_allclose(float(posed.objective_float64(mask)), found.values[0], rtol=1e-4)


@pytest.mark.parametrize("objective", ["initial-loss", "trained-loss"])
def test_network_masks_keep_biases_and_count_weights(objective):
    setting = replace(SETTING, model="lenet", objective=objective, law="fixed-size", steps=2, step_size=0.01)
    setting = replace(setting, probabilities="data-free")  # column norms of a tangent kernel take long to compile
    with jax.enable_x64(False):
        posed = problem(setting, data.load())
        mask = posed.law(jax.random.key(0))
        assert np.isfinite(posed.objective(mask))
    kept = [np.asarray(leaf).sum() for leaf in jax.tree.leaves(mask) if leaf.ndim > 1]
    assert sum(kept) == posed.keep == round(0.2 * posed.weights)
    assert all(np.asarray(leaf).all() for leaf in jax.tree.leaves(mask) if leaf.ndim == 1)
    assert not posed.theory
    assert [bool(leaf.all()) for leaf in jax.tree.leaves(posed.zero_mask)] == [
        leaf.ndim == 1 for leaf in jax.tree.leaves(mask)
    ]


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_what_may_be_pruned_can_be_chosen(model):
    """The density and the law are over the layer that is chosen, and other layers stay dense."""
    setting = replace(SETTING, model=model, law="poisson", probabilities="uniform", binary=True)
    setting = replace(setting, objective=problems.OBJECTIVES[model][0])
    with jax.enable_x64(False):
        if model == "linear":
            with pytest.raises(ValueError, match="prunable chooses none of the leaves"):
                problem(setting, few(), prunable=lambda path: "Dense" in path)
            return
        posed = problem(setting, few(), prunable=lambda path: path == "['Dense_1']['kernel']")
        mask = posed.law(jax.random.key(0))
    assert posed.weights == 64 * 64 and posed.keep == round(0.2 * 64 * 64)
    whole = {jax.tree_util.keystr(path): leaf.all() for path, leaf in jax.tree_util.tree_leaves_with_path(mask)}
    assert not whole.pop("['Dense_1']['kernel']") and all(whole.values())


@pytest.mark.parametrize("law", ["fixed-size", "poisson", "multinomial"])
def test_the_realised_density_is_what_masks_keep(law):
    """Multinomial masks keep fewer weights than are drawn."""
    with jax.enable_x64(False):
        posed = problem(replace(SETTING, law=law, density=0.5), few())
        kept = np.asarray(jax.vmap(posed.law)(jax.random.split(jax.random.key(0), 4096))) != 0
    counts = kept.sum(axis=1)
    assert abs(counts.mean() / 12 - posed.density) <= 5 * counts.std() / 12 / 64 + 1e-6
    assert (posed.density < 0.45) == (law == "multinomial")


@pytest.mark.parametrize(
    ("change", "name", "kind"),
    [
        ({}, "optimum", "a mask >= 0 of at most 5 weights"),
        ({"law": "fixed-size"}, "optimum", "a 0/1 mask of at most 5 weights"),
        ({"law": "poisson", "binary": True}, "optimum", "a 0/1 mask of at most 5 weights"),
        ({"law": "fixed-size", "objective": "training-error"}, "relaxed mask", "a mask of 5 weights"),
    ],
)
def test_masks_that_are_found_directly(change, name, kind):
    """Their value is the objective of their mask, and random masks of as many weights do no better than an optimum."""
    with jax.enable_x64(False):
        posed = problem(replace(SETTING, density=0.4, **change), few())
        found = search.best(posed.objective, posed.law, 512, key=jax.random.key(1), num_best=512, mesh=ALONE)
    (direct,) = posed.direct_masks()
    assert (direct.name, direct.kind) == (name, kind)
    assert float(posed.objective_float64(jnp.asarray(direct.mask))) == pytest.approx(direct.value, rel=1e-5)
    assert np.count_nonzero(direct.mask) <= posed.keep == 5
    if name == "optimum":
        assert direct.proved and direct.bound == direct.value
        few_kept = (np.asarray(found.masks) != 0).sum(axis=1) <= 5
        assert few_kept.any() and (found.values[few_kept] >= direct.value * (1 - 1e-5)).all()
    else:
        assert direct.bound is None and not direct.proved and direct.value <= found.values[256]


def test_a_mask_without_a_proof_is_called_by_its_method(monkeypatch):
    monkeypatch.setattr("sketchprune.search.problems.linear._MAX_NODES", 1)
    with jax.enable_x64(False):
        (direct,) = problem(replace(SETTING, density=0.5), data.load()).direct_masks()
    assert direct.name == "branch and bound" and direct.bound < direct.value and not direct.proved


def test_where_no_method_is_known_none_is_tried(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("not to be tried")

    monkeypatch.setattr(subsets, "optimum", refused)
    monkeypatch.setattr(subsets, "relaxed", refused)
    monkeypatch.setattr("sketchprune.search.problems.linear._MAX_WEIGHTS", 11)
    with jax.enable_x64(False):
        for change in (
            {},
            {"objective": "training-error"},
            {"model": "mlp", "objective": "initial-loss", "probabilities": "data-free"},
        ):
            assert problem(replace(SETTING, **change), few()).direct_masks() == ()
        monkeypatch.undo()
        steps = replace(SETTING, objective="training-error", steps=3, step_size=1.0)
        assert problem(steps, few()).direct_masks() == ()
