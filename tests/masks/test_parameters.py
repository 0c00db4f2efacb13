"""What is prunable, and what a mask does to parameters."""

import jax
import jax.numpy as jnp
import pytest

from sketchprune import masks
from tests.support import without_type_checks


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
    with pytest.raises(ValueError, match=r"prunable has no leaf \['gain'\]; it takes the structure of params, or a"):
        masks.prunable(params, {"conv": True})
    with without_type_checks(), pytest.raises(ValueError, match=r"prunable\['gain'\] is 1.0; it takes True or False"):
        masks.prunable(params, chosen | {"gain": 1.0})
    with pytest.raises(ValueError, match=r"leaves '\[0\]', '\[1\]', '\[2\]', …; it takes one"):
        masks.prunable([jnp.ones(2)] * 99, lambda path: False)
    assert jax.eval_shape(lambda p: jax.tree.map(lambda x, on: x * on, p, masks.prunable(p)), params)


def test_apply_keeps_dtypes_and_puts_exact_zeros():
    params = {"w": jnp.array([[jnp.nan, -2.0]], jnp.float32), "b": jnp.array([3.0], jnp.bfloat16)}
    pruned = masks.apply(params, {"w": jnp.array([[False, True]]), "b": jnp.array([2.5])})
    assert pruned["w"].tolist() == [[0.0, -2.0]] and pruned["b"].tolist() == [7.5]
    assert (pruned["w"].dtype, pruned["b"].dtype) == (jnp.float32, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"mask\['w'\] has shape \(2,\); it takes params' \(1, 2\)"):
        masks.apply(params, {"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"mask has no leaf \['b'\]; it takes the structure of params"):
        masks.apply(params, {"w": jnp.ones((1, 2))})


def test_a_mask_in_the_place_of_parameters_is_refused():
    params, mask = {"w": jnp.ones((1, 2)), "n": jnp.int32(3)}, {"w": jnp.array([[True, False]]), "n": jnp.array(True)}
    with pytest.raises(ValueError, match=r"params\['.'\] has dtype bool, as masks have; it takes numbers, in apply\("):
        masks.apply(mask, params)
    with pytest.raises(ValueError, match="has dtype bool, as masks have"):
        jax.jit(masks.apply)(mask, params)
    assert masks.apply(params, mask)["n"] == 3
    flags = masks.apply({"w": jnp.ones(2), "flag": True}, {"w": jnp.ones(2, bool), "flag": True})
    assert bool(flags["flag"])  # a leaf that is no weight, under a mask that keeps it
