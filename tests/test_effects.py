"""Effects: rank correlation against scipy, shuffling, and what the controls change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sketchprune import data
from theory.catalogue import effects

RNG = np.random.default_rng(0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.lists(st.integers(-3, 3), min_size=6, max_size=6))
def test_rank_correlation_is_scipys(a, b):
    found = float(effects.spearman(jnp.array(a, float), jnp.array(b, float)))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_shuffled_masks_keep_the_counts_of_layers_and_their_pairing():
    stack = (jnp.asarray(RNG.random((3, 4, 5)) < 0.4), jnp.asarray(RNG.random((3, 5, 2)) < 0.4))
    stack = (stack[0].at[1].set(stack[0][0]), stack[1])
    mixed = effects.shuffled(jax.random.key(0), stack)
    for before, after in zip(stack, mixed, strict=True):
        np.testing.assert_array_equal(before.sum((1, 2)), after.sum((1, 2)))
        assert (before != after).any()
    np.testing.assert_array_equal(mixed[0][0], mixed[0][1])


def test_training_heeds_masks_and_controls():
    """Kept whole, nothing is changed by shuffling; the dense network learns the digits."""
    instance = effects.seed(RNG, data.load(), effects.AS_PRUNED, 0)
    dense = jax.tree.map(lambda leaf: jnp.ones((1, *leaf.shape)), instance.layers)
    empty = jax.tree.map(jnp.zeros_like, dense)
    stack = jax.tree.map(lambda one, other: jnp.concatenate([one, other]), dense, empty)
    run = jax.jit(lambda control: effects.trained(instance.replace(control=control), stack, jax.random.key(0)))
    losses, errors = run(effects.AS_PRUNED)
    assert losses[0, -1] < losses[0, 0] / 5 and errors[0] < 0.2
    np.testing.assert_allclose(losses[1], np.log(10), rtol=1e-6)
    np.testing.assert_array_equal(losses, run(effects.SHUFFLED)[0])
    assert (losses[0] != run(effects.REDRAWN)[0][0]).any()
