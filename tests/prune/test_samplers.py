"""Samplers: draws in proportion to the size of a score, by any law, hashed by value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, prune
from tests.support.pruning import BATCH, PARAMS, kept, magnitude, network

FIXED_SIZE = prune.proportional(laws.FixedSize)

SAMPLERS = {
    "fixed-size": FIXED_SIZE,
    "binary multinomial": prune.proportional(laws.Multinomial, binary=True),
    "multinomial": prune.proportional(laws.Multinomial),
    "poisson": prune.proportional(laws.Poisson),
    "binary poisson": prune.proportional(laws.Poisson, binary=True),
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
    bounded = prune.proportional(laws.Multinomial, max_budget=30)
    for sampler in (prune.top, FIXED_SIZE, bounded, SAMPLERS["poisson"]):
        options = {"key": jax.random.key(0), "sampler": sampler}
        run = functools.partial(prune.one_shot, magnitude, network, None, PARAMS, BATCH, **options)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), jax.jit(run)(20), run(20))
    with pytest.raises(ValueError, match="budget is 31; it takes at most max_budget = 30"):
        bounded(jax.random.key(0), jnp.ones(40), 31)


def test_each_layer_has_its_own_draw():
    same = {"a": jnp.ones((30, 30)), "b": jnp.ones((30, 30))}
    mask = prune.select(same, {"a": 450, "b": 450}, key=jax.random.key(0), sampler=FIXED_SIZE)
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
    assert (run([40], sampler=FIXED_SIZE) != once).any()
    at_once = functools.partial(prune.one_shot, by_chance, None, None, jnp.ones(200), BATCH, 40, key=jax.random.key(0))
    assert (at_once(sampler=FIXED_SIZE) != at_once()).any()


def test_samplers_are_compared_by_value():
    first, second = (prune.proportional(laws.Poisson, binary=True) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert len({first, prune.proportional(laws.Poisson), prune.proportional(laws.Multinomial, binary=True)}) == 3


def test_a_law_of_ones_own_draws():
    """A class with `proportional` and `sample`: here the first weights whose score is not zero."""

    class First:
        def __init__(self, sizes, keep):
            self.sizes, self.keep = sizes, keep

        @classmethod
        def proportional(cls, sizes, keep):
            return cls(sizes, keep)

        def sample(self, key):
            return (self.sizes > 0) & (jnp.cumsum(self.sizes > 0) <= self.keep)

    scores = jnp.array([0.0, -1.0, jnp.inf, 3.0, 2.0, -jnp.inf])
    found = prune.proportional(First)(jax.random.key(0), scores, 2)
    assert found.tolist() == [False, True, True, True, False, False]


def test_what_cannot_draw_is_refused():
    with pytest.raises(ValueError, match="law is .*Determinantal.*; it takes a class of laws with a class method"):
        prune.proportional(laws.Determinantal)
    with pytest.raises(ValueError, match=r"binary is \[\]; it takes a hashable value"):
        prune.proportional(laws.Poisson, binary=[])
    with pytest.raises(ValueError, match="key is None; it takes a key, since the sampler draws"):
        FIXED_SIZE(None, jnp.ones(3), 2)
