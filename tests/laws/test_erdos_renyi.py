"""Random masks with a density a layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws

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


def test_masks_of_one_density_are_binary_poisson_masks():
    law = laws.ErdosRenyi(0.3, ((50,),))
    other = laws.Poisson(jnp.full(50, 0.3), binary=True)
    np.testing.assert_array_equal(law.sample(KEY), other.sample(KEY) > 0)
