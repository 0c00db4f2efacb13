"""A score in a file of one's own works with the contract check, with pruning, with searches and with effects."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, prune, scores, search
from sketchprune.data import Dataset
from sketchprune.testing import check_score
from tests.support.pruning import BATCH, PARAMS, half_squares, kept, network
from theory.catalogue.effects import drawing, efficiency, path_traces, seeds

FILE = '''"""A pruning score of my own."""

import jax

from sketchprune import scores


@scores.score
def squared_snip(net, *, damping=0.0):
    """(θ_i ∂L/∂θ_i)² + damping·θ_i²."""
    gradient = net.gradient()
    return jax.tree.map(lambda w, g: (w * g) ** 2 + damping * w**2, net.params, gradient)
'''


@pytest.fixture(scope="module")
def squared_snip(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "my_scores.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("my_scores", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.squared_snip


def test_it_has_twelve_lines():
    assert len(FILE.splitlines()) == 12


def test_it_keeps_the_contract(squared_snip):
    check_score(squared_snip, network, half_squares, PARAMS, (BATCH[0], BATCH[1] + 1), damping=0.1)


def test_it_prunes(squared_snip):
    """At once it is SNIP, of which it is the square; in rounds counts are exact."""
    mask = prune.one_shot(squared_snip, network, half_squares, PARAMS, BATCH, 20)
    expected = prune.one_shot(scores.snip, network, half_squares, PARAMS, BATCH, 20)
    jax.tree.map(np.testing.assert_array_equal, mask, expected)
    assert kept(prune.iterative(squared_snip, network, half_squares, PARAMS, BATCH, [40, 20])) == 20


def test_it_is_a_law_that_is_searched(squared_snip):
    rng = np.random.default_rng(0)
    x, w = jnp.asarray(rng.normal(size=(8, 12)), jnp.float32), jnp.asarray(rng.normal(size=12), jnp.float32)
    found = squared_snip(lambda w, x: x @ w, half_squares, w, (x, jnp.ones(8, jnp.float32)))
    law = laws.FixedSize.proportional(found, 4)
    best = search.best(search.linear_error(x, w), law, 512, key=jax.random.key(0), num_best=2)
    assert (np.asarray(best.masks).sum(axis=1) == 4).all() and best.values[0] <= best.values[1] <= best.mean


def test_effects_are_claimed_of_it(squared_snip):
    """Each effect on a table with it: the trial traces, and the words name it."""
    digits = Dataset(np.random.default_rng(0).random((160, 16)), np.arange(160) % 3, "tiny", 3)
    instance = seeds.make_seed(np.random.default_rng(1), digits)
    table = {"ntk_trace": scores.ntk_trace, "mine": squared_snip}
    named = {"id": "my/effect", "title": "An effect"}
    for claim in (
        drawing.drawn_beats_top(drawing.BINARY, table, **named),
        path_traces.trace_predicts(
            lambda found: found.error, table, needs="error", outcome_name="the test error", **named
        ),
        efficiency.efficiency_predicts(table, sampled=True, **named),
    ):
        drawn = jax.eval_shape(claim.draw, instance, jax.random.key(0))
        sides = jax.eval_shape(claim.trial, instance, drawn)["claim"]
        assert sides.measured.dtype == sides.theory.dtype
        assert claim.id == "my/effect" and "ntk_trace, mine" in claim.note
