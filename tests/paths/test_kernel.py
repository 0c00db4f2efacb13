"""Norms, trace, Gram products and spectrum are those of all paths, one by one, and can be transformed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchprune import paths
from tests.support import close, few, flat, normal, taken
from tests.support.path_networks import SMALL_NETWORKS, relu_network


@functools.partial(jax.jit, static_argnames="small")
def listed(small, params, mask, u):
    """Values v_p, the Jacobian with √u of the input that each path starts from, and that input."""
    found = small.paths(params, mask)
    start = u.ravel()[found.units[:, 0]]
    return found.values, jnp.sqrt(start)[:, None] * found.jacobian, start


@functools.partial(jax.jit, static_argnames="small")
def formulas(small, params, mask, u, vector):
    """All that is found without listing paths."""
    arguments, options = (small.apply, params, small.input_shape), {"u": u, "mask": mask}
    return {
        "norms": jnp.stack([paths.path_norm(*arguments, power, **options) for power in (1, 2, 3)]),
        "log norm": paths.path_norm(*arguments, 2, log=True, **options),
        "trace": paths.trace(*arguments, **options),
        "log trace": paths.trace(*arguments, log=True, **options),
        "product": paths.gram_product(*arguments, vector, **options),
        "spectrum": paths.spectrum(*arguments, count=3, num_products=64, **options),
    }


def check(small, params, mask, u, num_eigenvalues=3):
    """The formulas against all paths; of the eigenvalues, the largest that are distinct."""
    network = small._replace(params=None)  # which can be hashed
    vector = tuple(normal(2, *w.shape) for w in params)
    values, jacobian, start = jax.device_get(listed(network, params, mask, u))
    found = formulas(network, params, mask, u, vector)
    norms, trace = [np.sum(abs(values) ** power * start) for power in (1, 2, 3)], np.sum(jacobian**2)
    for power in range(3):
        close(found["norms"][power], norms[power])
    close(found["trace"], trace)
    with np.errstate(divide="ignore"):  # where nothing is left
        np.testing.assert_allclose([found["log norm"], found["log trace"]], np.log([norms[1], trace]), atol=1e-11)
    gram = jacobian.T @ jacobian
    close(flat(found["product"]), gram @ flat(vector))
    expected = np.maximum(np.sort(np.linalg.eigvalsh(gram))[::-1], 0)
    distinct = expected[np.append(True, np.diff(expected) < -1e-9 * expected[0])][:num_eigenvalues]
    close(found["spectrum"][: len(distinct)], distinct)


def test_formulas_are_those_of_all_paths(small):
    """Pruned, by a mask that is a sketch of all layers but the first, and whole: one program serves both."""
    rng, u = np.random.default_rng(20), abs(normal(1, *small.input_shape))
    first, *others = [rng.random(w.shape) < 0.6 for w in small.params]
    pruned = (first, *(kept * rng.uniform(0.5, 2, kept.shape) for kept in others))
    for mask in (pruned, jax.tree.map(np.ones_like, pruned)):
        check(small, small.params, mask, u)


def test_formulas_need_no_mask():
    small = SMALL_NETWORKS["mlp"]
    check(small, tuple(map(jnp.asarray, small.params)), None, abs(normal(1, *small.input_shape)))


@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0, 1), exponents=st.tuples(*[st.integers(-20, 20)] * 3))
@few(15)
def test_formulas_at_any_scale_density_and_input(seed, density, exponents):
    """Weights that are zero or pruned, inputs that are zero, and layers of unequal scale."""
    rng = np.random.default_rng(seed)
    small = SMALL_NETWORKS["mlp"]
    zeros = [rng.random(w.shape) < 0.2 for w in small.params]
    params = tuple(
        jnp.asarray(np.where(zero, 0, 10.0**scale * rng.standard_normal(zero.shape)))
        for zero, scale in zip(zeros, exponents, strict=True)
    )
    first, *others = [rng.random(w.shape) < density for w in params]
    mask = (first, *(kept * 1.0 for kept in others))  # dtypes of the fixture's mask, so that the program is shared
    u = jnp.asarray(rng.uniform(size=4) * (rng.random(4) < 0.7))
    check(small, params, mask, u, num_eigenvalues=1)  # eigenvalues may nearly coincide at such scales


def test_ones_are_the_input_unless_one_is_given():
    small = SMALL_NETWORKS["pooled"]
    params = tuple(map(jnp.asarray, small.params))
    values, jacobian, _ = listed(small._replace(params=None), params, None, jnp.ones(small.input_shape))
    close(paths.path_norm(small.apply, params, small.input_shape, 2), np.sum(values**2))
    close(paths.trace(small.apply, params, small.input_shape), np.sum(jacobian**2))


def test_a_weight_that_is_zero_counts():
    """Tr Π has the product of the other weights, not v_p/θ_i."""
    params = [jnp.array([[0.0]]), jnp.array([[3.0]]), jnp.array([[-2.0]])]
    assert paths.path_norm(relu_network, params, (1,), 2) == 0
    assert paths.trace(relu_network, params, (1,)) == 36
    assert paths.spectrum(relu_network, params, (1,))[0] == pytest.approx(36, rel=1e-12)


def test_skip_connections_are_paths():
    """(1 + w_3 w_2) w_1 w_4 on scalars: a path through the skip and one through the branch."""

    def apply(p, x):
        x = jax.nn.relu(x @ p[0])
        return (x + jax.nn.relu(x @ p[1]) @ p[2]) @ p[3]

    params = [jnp.full((1, 1), value) for value in (2.0, 3.0, -5.0, 7.0)]
    assert paths.path_norm(apply, params, (1,), 1) == 2 * 7 + 2 * 3 * 5 * 7
    squares = np.array([4, 9, 25, 49])
    branch = sum(np.prod(squares) / s for s in squares)
    assert paths.trace(apply, params, (1,)) == pytest.approx(squares[0] + squares[3] + branch, rel=1e-14)


def test_pruned_away_to_nothing():
    params = [normal(0, 2, 3), normal(1, 3, 1)]
    options = {"mask": [jnp.zeros((2, 3), bool), jnp.ones((3, 1), bool)]}
    assert paths.path_norm(relu_network, params, (2,), 2, **options) == 0
    assert paths.path_norm(relu_network, params, (2,), 2, log=True, **options) == -np.inf
    assert paths.trace(relu_network, params, (2,), **options) == 0
    np.testing.assert_array_equal(paths.spectrum(relu_network, params, (2,), count=2, **options), [0, 0])


def test_one_array_of_all_weights():
    """Entries that layers take from one array are different weights; so are uses side by side."""
    packed = normal(0, 8)
    alone = [packed[:4].reshape(2, 2), packed[4:].reshape(2, 2)]

    def apply(p, x):
        return jax.nn.relu(x @ p[:4].reshape(2, 2)) @ p[np.arange(4, 8).reshape(2, 2)]

    def twice(p, x):
        return x @ p + x @ p

    close(paths.trace(apply, packed, (2,)), paths.trace(relu_network, alone, (2,)))
    close(paths.trace(twice, alone[0], (2,)), 2 * paths.trace(lambda p, x: x @ p, alone[0], (2,)))


def test_a_vector_may_float_where_the_parameters_do_not():
    params = {"n": jnp.ones(1, int), "w": jnp.array([[2.0], [3.0]])}
    vector = {"n": jnp.ones(1), "w": jnp.array([[5.0], [7.0]])}
    product = paths.gram_product(lambda p, x: x @ p["w"], params, (2,), vector)
    assert not product["n"].any()
    close(product["w"], vector["w"])


# --- Transformations


@pytest.mark.parametrize("name", ["mlp", "convs"])
def test_jit_and_vmap(name):
    small = SMALL_NETWORKS[name]
    stacked = tuple(np.stack([w, 2 * w, w**2]) for w in small.params)
    kept = tuple(w > 0 for w in stacked)

    def both(params, mask):
        arguments = small.apply, params, small.input_shape
        return paths.path_norm(*arguments, 2, mask=mask), paths.trace(*arguments, mask=mask)

    every = jax.jit(jax.vmap(both))(stacked, kept)
    for at in range(3):
        alone = both(*jax.tree.map(jnp.asarray, taken((stacked, kept), at)))
        close([leaf[at] for leaf in every], alone, 1e-14)


def test_the_norm_is_differentiable():
    """In the parameters, ∂R_2/∂θ = 2 Jᵀv; in the input, ∂R_2/∂u."""
    small = SMALL_NETWORKS["pooled"]
    params, u = tuple(map(jnp.asarray, small.params)), jnp.ones(small.input_shape)
    values, jacobian, _ = listed(small._replace(params=None), params, None, u)

    def norm(params, u):
        return paths.path_norm(small.apply, params, small.input_shape, 2, u=u)

    in_params, in_u = jax.jit(jax.grad(norm, argnums=(0, 1)))(params, u)
    close(flat(in_params), 2 * values @ jacobian)
    close(jnp.sum(in_u), np.sum(values**2))
