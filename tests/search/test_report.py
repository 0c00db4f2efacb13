"""The files of a search: figures and numbers of any values."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import search
from sketchprune.search import report
from sketchprune.search.problems import DirectMask

ALONE = search.mesh.over(jax.devices()[:1])


def test_figures_of_any_values():
    law = functools.partial(jax.random.normal, shape=())
    signed = search.best(lambda mask: mask, law, 512, key=jax.random.key(0), num_best=2, mesh=ALONE)
    figure = report.histogram(signed, theory={}, zero_mask=0.5, label="values")
    assert figure.axes[0].get_xscale() == "linear"
    counts, edges = report._bars(signed)
    assert counts.sum() == 512 and len(edges) == len(counts) + 1 <= 82
    infinite = search.best(lambda mask: jnp.inf + 0 * mask, law, 512, key=jax.random.key(0), num_best=2, mesh=ALONE)
    assert infinite.infinite == 512 and np.isnan(infinite.mean)
    assert np.isnan(report.standard_error(infinite))
    report.histogram(infinite, theory={"expectation": 1.0}, zero_mask=float("nan"), label="values")
    assert report.numbers(infinite, {})["quantiles"]["0.5"] == np.inf


def test_the_error_of_the_mean_is_that_of_finite_values():
    def mostly_undefined(value):
        return jnp.where(value < 0.8, jnp.nan, jnp.where(value < 0.9, jnp.inf, value))

    law = functools.partial(jax.random.uniform, shape=())
    found = search.best(mostly_undefined, law, 512, key=jax.random.key(0), num_best=1, mesh=ALONE)
    values = np.array([mostly_undefined(law(search.mask_key(jax.random.key(0), i))) for i in range(512)], np.float64)
    finite = values[np.isfinite(values)]
    assert 20 < len(finite) < 100 and found.infinite and found.undefined
    expected = finite.std() / np.sqrt(len(finite))
    assert report.standard_error(found) == pytest.approx(expected, rel=1e-6)
    assert report.numbers(found, {})["standard_error"] == report.standard_error(found)


def test_masks_found_directly_are_written_and_drawn(tmp_path):
    def count(mask):
        return jnp.sum(mask["a"], dtype=jnp.float32) + 1

    def law(key):
        return {"a": jax.random.bernoulli(key, shape=(4,))}

    found = search.best(count, law, 512, key=jax.random.key(0), num_best=2, mesh=ALONE)
    direct = (
        DirectMask("optimum", "a mask", {"a": np.zeros(4, bool)}, 1.0, 1.0),
        DirectMask("relaxed mask", "another mask", {"a": np.ones(4, bool)}, 5.0),
    )
    texts = [
        text.get_text()
        for legend in report.histogram(found, theory={}, zero_mask=1.0, direct_masks=direct, label="count").legends
        for text in legend.get_texts()
    ]
    assert "optimum: 1" in texts and "relaxed mask: 5" in texts and "zero mask: 1" in texts
    report.write(tmp_path, found, theory={}, zero_mask=1.0, direct_masks=direct, label="count", facts={"more": 1})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["direct_masks"]["optimum"] == {"kind": "a mask", "value": 1.0, "bound": 1.0}
    assert written["direct_masks"]["relaxed mask"]["bound"] is None and written["more"] == 1
    with np.load(tmp_path / "best.npz") as kept:
        assert kept["optimum['a']"].tolist() == [False] * 4 and kept["relaxed mask['a']"].all()
