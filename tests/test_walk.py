"""One story from end to end, as a user of the installed package would write it: prune, train, search, verify."""

import json

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import sketchprune as sp
from theory.cli import main

pytestmark = pytest.mark.usefixtures("jax_settings")

PROBLEM = """
import jax.numpy as jnp
import numpy as np
from sketchprune import laws, search

with np.load("first_layer.npz") as saved:
    x, w = jnp.asarray(saved["x"]), jnp.asarray(saved["w"])
law = laws.Poisson(jnp.full(w.shape, 0.5), binary=True)
zero = jnp.zeros(w.shape)
halved = search.problems.Problem(law, search.linear_error(x, w), weights=w.size, density=0.5, zero_mask=zero)
"""
CLAIMS = """
import jax.numpy as jnp
from flax import struct

from theory import Bound, Case, Claim, Identity, Sides, Source


class Model(struct.PyTreeNode):
    x: jnp.ndarray
    w: jnp.ndarray


def images(rng, dataset):
    return Model(x=rng.choice(dataset.x, 8), w=rng.standard_normal(dataset.x.shape[1]))


def norm(model, key):
    right = Sides(jnp.sum((model.x @ model.w) ** 2), FACTOR * jnp.sum(model.x**2) * jnp.sum(model.w**2))
    return {"claim": right, "a thousandth": right._replace(theory=right.theory / 1000)}


def gram(model, key):
    measured = jnp.sum((model.x @ model.w) ** 2)
    return {
        "claim": Sides(measured, model.w @ (model.x.T @ model.x) @ model.w),
        "transposed": Sides(measured, jnp.sum(model.x @ model.x.T)),
    }


FACTOR = 1.0
COMMON = {"statement": "a = b", "sources": (Source("Cauchy and Schwarz"),), "cases": (Case("{data}", images),)}
NORM = Claim(id="mine/norm", title="A norm", kind=Bound(), trial=norm, mutants=("a thousandth",), **COMMON)
GRAM = Claim(id="mine/gram", title="A form", kind=Identity(), trial=gram, mutants=("transposed",), **COMMON)
"""


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(64, 12, rngs=rngs), nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def test_from_pruning_to_a_report(tmp_path, monkeypatch, capsys):
    """In one test, since each chapter goes on from the files of the one before."""
    monkeypatch.chdir(tmp_path)
    a_network_is_pruned_by_units_trained_and_made_smaller(tmp_path)
    its_first_layer_is_searched_for_half_the_weights_of_a_unit(tmp_path)
    claims_are_verified_in_shards_joined_and_compared(tmp_path, capsys)


def a_network_is_pruned_by_units_trained_and_made_smaller(folder):
    with jax.enable_x64(False):
        images = sp.data.load()
        x, y = np.float32(sp.data.standardise(images.x))[:400], images.y[:400]
        model = Network(nnx.Rngs(0))
        graphdef, params = nnx.split(model, nnx.Param)

        def apply(params, x):
            return nnx.merge(graphdef, params)(x)

        def of_first(path):
            return "first" in path and "kernel" in path

        loss = sp.train.cross_entropy
        units = {"groups": "columns", "prunable": of_first}
        mask = sp.prune.one_shot(sp.scores.snip, apply, loss, params, (x, y), 5, **units)
        summary = sp.masks.summary(mask, of_first)
        assert "7 of 12" in str(summary) and abs(summary.density - 5 / 12) < 1e-6 and "<table>" in summary._repr_html_()

        optimizer = sp.train.pruned(optax.adamw(3e-2, weight_decay=1e-3), mask)
        state = optimizer.init(params)

        @jax.jit
        def step(params, state):
            value, slopes = jax.value_and_grad(lambda params: loss(apply(params, x), y))(params)
            updates, state = optimizer.update(slopes, state, params)
            return optax.apply_updates(params, updates), state, value

        losses = []
        for _ in range(40):
            params, state, value = step(params, state)
            losses.append(float(value))
        assert losses[-1] < losses[0] / 2
        for weight, kept in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True):
            assert not np.any(np.asarray(weight)[~np.asarray(kept)])
        nnx.update(model, params)
        smaller = sp.prune.remove_dead_units(apply, params, mask, x)
        assert smaller.params["first"]["kernel"].shape == (64, 5)
        np.testing.assert_allclose(apply(smaller.params, x), model(x), rtol=1e-4, atol=1e-4)
        kernel = np.asarray(model.first.kernel[...])
        np.savez(folder / "first_layer.npz", x=x, w=kernel[:, np.abs(kernel).sum(0).argmax()])


def its_first_layer_is_searched_for_half_the_weights_of_a_unit(folder):
    (folder / "problem.py").write_text(PROBLEM)
    assert main(["search", "problem.py", "--masks", "2000", "--best", "2", "--devices", "1", "--out", "found"]) == 0
    found = json.loads((folder / "found" / "result.json").read_text())
    with np.load(folder / "first_layer.npz") as saved, np.load(folder / "found" / "best.npz") as best:
        x, w, masks = saved["x"], saved["w"], best["mask"]
    for mask, entry in zip(masks, found["best"], strict=True):
        np.testing.assert_allclose(entry["value"], np.sum((x @ (mask * w) - x @ w) ** 2), rtol=1e-3)
    assert found["best"][0]["value"] < found["mean"]


def claims_are_verified_in_shards_joined_and_compared(folder, capsys):
    (folder / "claims_mine.py").write_text(CLAIMS)

    def verify(out, *words):
        return main(["verify", "claims_mine.py", "--tier", "quick", "--out", out, *words])

    assert [verify(f"shard-{number}", "--shard", f"{number}/2") for number in (1, 2)] == [0, 0]
    assert main(["merge", "shard-1", "shard-2", "--out", "report"]) == 0
    before = json.loads((folder / "report" / "verdicts.json").read_text())
    assert {claim["id"]: claim["verdict"] for claim in before["claims"]} == dict.fromkeys(
        ("mine/norm", "mine/gram"), "SUPPORTED"
    )
    (folder / "claims_mine.py").write_text(CLAIMS.replace("FACTOR = 1.0", "FACTOR = 0.001"))
    assert verify("changed", "--junit", "junit.xml") == 1
    assert 'failures="1"' in (folder / "junit.xml").read_text()
    capsys.readouterr()
    assert main(["compare", "report/verdicts.json", "changed/verdicts.json"]) == 1
    said = capsys.readouterr().out
    assert "mine/norm" in said and "REFUTED" in said
    assert main(["compare", "report/verdicts.json", "report/verdicts.json"]) == 0
