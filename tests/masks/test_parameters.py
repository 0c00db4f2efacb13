"""What is prunable, and what a mask does to parameters."""

import jax
import jax.numpy as jnp
import pytest

from sketchprune import masks


def test_prunable_names_matrices_or_the_only_leaf():
    params = {
        "conv": jnp.ones((3, 3, 1, 4)),
        "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
        "gain": jnp.ones(()),
    }
    assert masks.prunable(params) == {"conv": True, "norm": {"scale": False, "bias": False}, "gain": False}
    assert masks.prunable(jnp.ones(4)) is True
    chosen = masks.prunable(params, lambda path: "bias" in path or "conv" in path)
    assert chosen == {"conv": True, "norm": {"scale": False, "bias": True}, "gain": False}
    assert masks.prunable(params, chosen) == chosen
    with pytest.raises(ValueError, match="prunable chooses none of the leaves .*; it takes one that chooses some"):
        masks.prunable(params, lambda path: False)
    with pytest.raises(ValueError, match="prunable is .*; it takes a function of a path, or one boolean for each leaf"):
        masks.prunable(params, {"conv": True})
    assert jax.eval_shape(lambda p: jax.tree.map(lambda x, on: x * on, p, masks.prunable(p)), params)


def test_apply_keeps_dtypes_and_puts_exact_zeros():
    params = {"w": jnp.array([[jnp.nan, -2.0]], jnp.float32), "b": jnp.array([3.0], jnp.bfloat16)}
    pruned = masks.apply(params, {"w": jnp.array([[False, True]]), "b": jnp.array([2.5])})
    assert pruned["w"].tolist() == [[0.0, -2.0]] and pruned["b"].tolist() == [7.5]
    assert (pruned["w"].dtype, pruned["b"].dtype) == (jnp.float32, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"mask\['w'\] has shape \(2,\); it takes params' \(1, 2\)"):
        masks.apply(params, {"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match="mask is .*; it takes the structure of params"):
        masks.apply(params, {"w": jnp.ones((1, 2))})
