"""Random masks with a density a layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws
from sketchprune.laws import erdos_renyi

KEY = jax.random.key(0)
PARAMS = {"conv": jnp.ones((3, 3, 2, 8)), "bias": jnp.ones(8), "dense": jnp.ones((72, 10))}


@pytest.mark.parametrize("law", [laws.ErdosRenyi, laws.ErdosRenyiCounts])
@pytest.mark.parametrize("rule", ["uniform", "erk", "balanced", "pyramidal"])
def test_densities_are_those_of_the_rule(law, rule):
    shapes = [PARAMS["conv"].shape, PARAMS["dense"].shape]
    for options in ({}, {"redistribute": False}):
        expected = laws.layer_densities(rule, shapes, 0.4, **options)
        order = ["['conv']", "['bias']", "['dense']"]
        found = law.at_density(PARAMS, 0.4, rule=rule, order=order, **options).inclusion()
        assert (found["bias"] == 1).all()
        for name, density in zip(("conv", "dense"), expected, strict=True):
            assert found[name].shape == PARAMS[name].shape
            assert abs(found[name] - density).max() <= (law is laws.ErdosRenyiCounts) / found[name].size


def test_the_counts_of_layers_sum_exactly():
    params = {f"layer_{i}": jnp.ones((7, 7)) for i in range(9)}
    law = laws.ErdosRenyiCounts.at_density(params, 0.5, rule="uniform")
    assert sum(law.counts.values()) == round(0.5 * 9 * 49)


def test_pyramids_go_by_the_order_that_is_given():
    params = {"body": jnp.ones((9, 9)), "head": jnp.ones((9, 9)), "stem": jnp.ones((9, 9))}
    order = ["['stem']", "['body']", "['head']"]
    for law in (laws.ErdosRenyi, laws.ErdosRenyiCounts):
        found = law.at_density(params, 0.3, rule="pyramidal", order=order).inclusion()
        assert found["stem"][0, 0] > found["body"][0, 0] > found["head"][0, 0]
        with pytest.raises(ValueError, match="order is None, and the names .* do not tell which layer comes first"):
            law.at_density(params, 0.3, rule="pyramidal")


def test_counts_are_exact_and_keys_differ_by_leaf():
    law = laws.ErdosRenyiCounts.at_density({"a": jnp.ones((20, 20)), "b": jnp.ones((20, 20))}, 0.25)
    assert law.counts == {"a": 100, "b": 100}
    masks = jax.jit(jax.vmap(law.sample))(jax.random.split(KEY, 50))
    for leaf in jax.tree.leaves(masks):
        assert leaf.dtype == bool and (leaf.sum((1, 2)) == 100).all()
    assert (masks["a"] != masks["b"]).any((1, 2)).all()
    assert (masks["a"][1:] != masks["a"][:-1]).any((1, 2)).all()


def test_densities_and_counts_may_be_traced():
    shapes = ((4, 5), (3,))
    kept = jax.jit(lambda k: laws.ErdosRenyiCounts({"a": k, "b": 3}, shapes).sample(KEY)["a"].sum())
    assert [int(kept(k)) for k in (0, 7, 20)] == [0, 7, 20]
    some = jax.vmap(lambda p: laws.ErdosRenyi({"a": p, "b": 1.0}, shapes).sample(KEY)["a"].sum())
    few, all_ = some(jnp.array([0.0, 1.0]))
    assert (few, all_) == (0, 20)


def test_masks_of_one_density_have_the_law_of_binary_poisson_masks():
    law = laws.ErdosRenyi(0.3, ((5,),))
    other = laws.Poisson(jnp.full(5, 0.3), binary=True)
    for found, expected in zip(law.outcomes(), other.outcomes(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_densities_are_whole_numbers_of_the_unit(monkeypatch):
    """Of all random words exactly those below p·2^32 are kept; at least one where p is not zero."""
    words = np.array([0, 1, 2**24 - 1, 2**24, 2**32 - 257, 2**32 - 256, 2**32 - 1], np.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.asarray(words))
    kept = {0.0: 0, 1e-12: 1, 2.0**-32: 1, 2.0**-31: 2, 2.0**-8: 3, 1 - 2.0**-24: 5, 1.0: 7, np.nan: 0}
    for density, count in kept.items():
        found = erdos_renyi._bernoulli(KEY, jnp.float32(density), words.shape)
        assert found.tolist() == [True] * count + [False] * (len(words) - count), density


def test_masks_in_both_precisions_and_under_transformations():
    """Every leaf has a key and a density of its own; jit and vmap change no mask."""
    shapes = ((), (300, 100), (10_000,))
    for dtype in (jnp.float32, jnp.float64):
        law = laws.ErdosRenyi([jnp.asarray(p, dtype) for p in (1.0, 0.003, 0.7)], shapes)
        mask = law.sample(KEY)
        for found, density, shape in zip(mask, (1, 0.003, 0.7), shapes, strict=True):
            assert found.dtype == bool and found.shape == shape
            size = found.size
            assert abs(found.sum() - density * size) <= 5 * np.sqrt(density * (1 - density) * size)
        traced = jax.jit(lambda law, keys: jax.vmap(law.sample)(keys))(law, jnp.stack([KEY, jax.random.key(9)]))
        jax.tree.map(lambda several, one: np.testing.assert_array_equal(several[0], one), traced, mask)
        assert not (traced[2][0] == traced[2][1]).all()
