"""Any depth, density and scale in float32; heavy weights that no path uses have no effect; a million weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import paths
from tests.support.path_networks import relu_network


def deep():
    """Twenty layers of width 100 at a density of 1 %, with layers of very unequal scale."""
    rng = np.random.default_rng(0)
    scales = [1e-9, 1e-6, *[0.02] * 17, 1e12]
    params = [scale * rng.standard_normal((100, 100)) for scale in scales]
    # A permutation in each layer keeps 1 % and a few more paths alive.
    kept = [np.eye(100)[rng.permutation(100)] > 0 for _ in scales]
    for m in kept:
        m[rng.integers(100, size=30), rng.integers(100, size=30)] = True
    return params, kept


def in_log(params, kept):
    """log R_1, log R_2 and log Tr Π by products in float64, with the scale of each layer apart."""
    norms = []
    for power in (1, 2):
        raised = [abs(w * m) ** power for w, m in zip(params, kept, strict=True)]
        units = [r.max() for r in raised]
        raised = [r / unit for r, unit in zip(raised, units, strict=True)]
        scale = np.sum(np.log(units))
        forward = [np.ones(100)]
        for r in raised:
            forward.append(forward[-1] @ r)
        backward = [np.ones(100)]
        for r in raised[::-1]:
            backward.append(r @ backward[-1])
        backward = backward[::-1]
        norms.append(scale + np.log(forward[-1].sum()))
    terms = [
        scale - np.log(unit) + np.log(np.sum(np.outer(a, b) * m))
        for unit, a, b, m in zip(units, forward, backward[1:], kept, strict=False)
    ]
    return *norms, np.logaddexp.reduce(terms)


def test_deep_and_sparse_in_float32():
    params, kept = deep()
    first, second, trace = in_log(params, kept)
    coarse = [jnp.asarray(w, jnp.float32) for w in params]
    options = {"mask": [jnp.asarray(m) for m in kept], "log": True}

    @jax.jit
    def found(params):
        norms = [paths.path_norm(relu_network, params, (100,), power, **options) for power in (1, 2)]
        return jnp.stack([*norms, paths.trace(relu_network, params, (100,), **options)])

    logarithms = found(coarse)
    assert logarithms.dtype == jnp.float32
    np.testing.assert_allclose(logarithms, [first, second, trace], atol=1e-4)
    assert second < -88 * 1.2  # not representable itself


def test_sums_that_grow_with_each_layer_do_not_overflow():
    """Eighteen layers of width n whose weights are all a, after an input of ones: R_q = n Π n a^q."""
    params = [jnp.full((64, 64), a, jnp.float32) for a in (0.95, 19.0) for _ in range(9)]

    @jax.jit
    def found(params):
        return jnp.stack([paths.path_norm(relu_network, params, (64,), power, log=True) for power in (1, 2)])

    expected = [np.log(64) + sum(np.log(64 * float(w[0, 0]) ** power) for w in params) for power in (1, 2)]
    np.testing.assert_allclose(found(params), expected, rtol=1e-6)


DEPTH = 8


@jax.jit
def logarithms(params, mask, u):
    """log R_2, log Tr Π and log λ_1."""
    arguments, options = (relu_network, params, u.shape), {"u": u, "mask": mask, "log": True}
    norm, trace = paths.path_norm(*arguments, 2, **options), paths.trace(*arguments, **options)
    return norm, trace, *paths.spectrum(*arguments, num_products=3, **options)


@pytest.mark.parametrize("dead", ["no output", "no input"])
def test_heavy_weights_on_no_path_have_no_effect(dead):
    """One path of weights 0.1 beside heavier chains that are cut off: R_2 = 0.1^(2L), Tr Π = λ_1 = L 0.1^(2L−2)."""
    kept = [jnp.eye(3) > 0] * DEPTH
    kept[-1 if dead == "no output" else 0] = jnp.diag(jnp.array([1, 0, 0])) > 0
    params = [jnp.diag(jnp.array([0.1, 1.0, 1e3], jnp.float32))] * DEPTH
    trace = np.log(DEPTH) + (2 * DEPTH - 2) * np.log(0.1)
    found = logarithms(params, kept, jnp.ones(3, jnp.float32))
    np.testing.assert_allclose(found, [2 * DEPTH * np.log(0.1), trace, trace], atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_heavy_weights_from_an_input_of_zero_have_no_effect(masked):
    """Weights 1 and 1e30 into a unit with the output weight 2, the second from an input of zero: Tr Π = 2² + 1²."""
    params = [jnp.array([[1.0], [1e30]], jnp.float32), jnp.array([[2.0]], jnp.float32)]
    options = {"u": jnp.array([1.0, 0.0]), "mask": [jnp.ones((2, 1)), jnp.ones((1, 1))] if masked else None}
    arguments = relu_network, params, (2,)
    assert paths.trace(*arguments, **options) == 5
    assert paths.spectrum(*arguments, **options)[0] == pytest.approx(5, rel=1e-6)
    first, second = paths.gram_product(*arguments, params, **options)
    assert first[0] == 8 and first[1] == second[0] * 0 and second[0] == 4


@functools.cache
def million():
    rng = np.random.default_rng(0)
    sizes = (64, 700, 1280, 10)
    return [rng.standard_normal((a, b)) * np.sqrt(2 / a) for a, b in zip(sizes, sizes[1:], strict=False)]


def test_a_million_weights():
    """λ_1 lies in the bracket max G_ii ≤ λ_1 ≤ Σ_l max_{i∈l} G_ii and ≥ L²R_2/‖θ‖²; twice the products agree."""
    params = [jnp.asarray(w, jnp.float32) for w in million()]
    assert sum(w.size for w in params) > 9.5e5
    top = paths.spectrum(relu_network, params, (64,), num_products=12)
    again = paths.spectrum(relu_network, params, (64,), num_products=24)
    np.testing.assert_allclose(top, again, rtol=2e-2)
    squares = [np.asarray(w, float) ** 2 for w in params]
    forward = [np.ones(64), squares[0].sum(0), squares[0].sum(0) @ squares[1]]
    backward = [squares[1] @ squares[2].sum(1), squares[2].sum(1), np.ones(10)]
    most = [a.max() * b.max() for a, b in zip(forward, backward, strict=True)]
    norm = (forward[-1] @ squares[2]).sum()
    least = max(*most, 9 * norm / sum(s.sum() for s in squares))
    assert least < again[0] < sum(most)


def test_zeros_beside_heavy_units_do_not_set_the_scale():
    """A slice that holds only zeros is added to light paths: a unit of weight 0 beside one of weight 1e30."""

    def apply(params, x):
        heavy, light = params
        return (x @ heavy)[:, 1:] + x @ light

    params = [jnp.array([[1e30, 0.0]], jnp.float32), jnp.array([[1e-20]], jnp.float32)]
    assert float(paths.path_norm(apply, params, (1,), 1)) == np.float32(1e-20)
