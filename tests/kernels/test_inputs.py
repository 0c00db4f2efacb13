"""What the kernels accept and refuse, and when they compile anew."""

import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import kernels
from sketchprune.kernels._network import _stable_bounds
from tests.support import normal, without_type_checks
from tests.support.networks import random_mask

LINEAR = (lambda p, x: x @ p["w"], {"w": jnp.ones((3, 2)), "n": jnp.int32(1)}, jnp.ones((4, 3)))


def test_random_masks_of_one_density_share_programs():
    """Where each of 20 masks had one of its own; counted by the traces of apply."""
    params = {"first": normal(0, 40, 60), "bias": normal(1, 60), "second": normal(2, 60, 5)}
    traces = []

    def apply(params, x):
        traces.append(x)
        return jnp.tanh(x @ params["first"] + params["bias"]) @ params["second"]

    programs = 0
    for seed in range(20):
        before = len(traces)
        kernels.ntk(apply, params, normal(3, 2, 40), mask=random_mask(params, seed, density=0.05))
        programs += len(traces) > before
    assert programs <= 4


def test_bounds_on_what_is_kept():
    """They hold for any numbers, never exceed the leaf, and stay within twice what a leaf keeps and its deviation."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        leaves = [np.empty(size) for size in rng.integers(1, 10**5, 4)]
        kept = [int(leaf.size * rng.random() ** rng.integers(1, 20)) for leaf in leaves]
        bounds = _stable_bounds([*kept, None], [*leaves, np.empty(7)])
        assert bounds[4] is None
        for count, bound, leaf in zip(kept, bounds, leaves, strict=False):
            assert count <= bound <= min(leaf.size, max(2 * count + 8 * count**0.5, 64 + 32) + 1)
    assert _stable_bounds([0, None, 0], [np.ones(3)] * 3) == (0, None, 0)


def test_an_apply_that_cannot_be_hashed():
    class Apply:
        __hash__ = None

        def __call__(self, w, x):
            return x @ w

    assert kernels.ntk(Apply(), jnp.ones((2, 1)), jnp.ones((1, 2))).item() == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": {"w": jnp.ones((2, 3)), "n": jnp.ones(())}}, r"mask\['w'\] has shape \(2, 3\).*\(3, 2\)"),
        ({"mask": {"w": jnp.ones((3, 2))}}, r"mask has no leaf \['n'\]; it takes the structure of params"),
        ({"mask": {**LINEAR[1], "v": jnp.ones(1)}}, r"mask has a leaf \['v'\]; it takes the structure of params"),
        ({"mask": jnp.ones((3, 2))}, "mask is one leaf; it takes the structure of params"),
        ({"mask": {"w": jnp.ones((3, 2), int), "n": True}}, r"mask\['w'\] has dtype int64; .* booleans"),
        ({"params": {"w": jnp.ones((3, 2)) * 1j}}, r"params\['w'\] is complex"),
        ({"params": {"w": jnp.ones((3, 2), int)}}, "params has no floating leaf"),
        ({"params": {}}, "params is a pytree without arrays; it takes a pytree of arrays"),
        ({"apply": lambda p, x: x @ p["w"] * 1j}, "apply returns complex128"),
        ({"apply": lambda p, x: jnp.argmax(x @ p["w"], -1)[:, None]}, "apply returns int64"),
        ({"apply": lambda p, x: (x @ p["w"])[:, 0]}, r"apply returns shape \(4,\) for 4 samples.*\(4, K\)"),
        ({"apply": lambda p, x: (x @ p["w"]).mean(0, keepdims=True)}, r"apply returns shape \(1, 2\)"),
        ({"apply": lambda p, x: (x @ p["w"], x)}, "apply returns .* for 4 samples"),
        ({"apply": lambda p, x: (x @ p["w"])[:, :0]}, r"apply returns shape \(4, 0\)"),
        ({"apply": lambda p, x: (x @ p["w"]) if len(x) > 1 else x}, r"apply returns shape \(1, 3\) for one"),
        ({"x": jnp.ones((0, 3))}, r"x has shape \(0, 3\); it takes at least one sample"),
        ({"x": jnp.ones(())}, r"x has shape \(\); it takes at least one sample"),
        ({"x": [[1.0, 2.0, 3.0]]}, r"x1 is \[\[1.0, 2.0, 3.0\]\]; it takes an array"),
        ({"x2": jnp.ones((0, 3))}, r"x2 has shape \(0, 3\)"),
        ({"x2": jnp.ones((2, 5))}, r"x2 holds samples of shape \(5,\); it takes those of x1, \(3,\)"),
        ({"block_size": 0}, "block_size is 0; it takes a whole number >= 1"),
    ],
)
def test_bad_input(change, message):
    apply, params, x = LINEAR
    given = {"apply": apply, "params": params, "x": x, **change}
    x2 = given.pop("x2", None)
    with without_type_checks(), pytest.raises(ValueError, match=message):
        kernels.ntk(given.pop("apply"), given.pop("params"), given.pop("x"), x2, **given)


def test_bad_input_elsewhere():
    with (
        without_type_checks(),
        pytest.raises(ValueError, match=r"vector has shape \(4,\); it takes floating numbers \[n, k\]"),
    ):
        kernels.ntk_vector_product(*LINEAR, jnp.ones(4))
    for wrong in (0, 2.5, True):
        with (
            without_type_checks(),
            pytest.raises(ValueError, match=f"num_products is {wrong}; it takes a whole number >= 1"),
        ):
            kernels.extreme_eigenvalues(*LINEAR, num_products=wrong)
    for function in (kernels.trace, kernels.column_norms, kernels.frobenius_norm, kernels.ntk_reference):
        with without_type_checks(), pytest.raises(ValueError, match=r"x has shape \(0, 3\)"):
            function(*LINEAR[:2], jnp.ones((0, 3)))
        with without_type_checks(), pytest.raises(ValueError, match="apply returns int64"):
            function(lambda p, x: jnp.zeros((4, 1), int), *LINEAR[1:])
