"""Products, trace, column norms, Frobenius norm and spectrum are those of the plain kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import kernels
from tests.support import normal
from tests.support.networks import assert_same, instance, matrix, random_mask


@pytest.mark.parametrize("name", ["mlp", "shared"])
def test_products_trace_norms_and_spectrum(name):
    apply, params, x = instance(name)

    @jax.jit
    def results(params, vector, mask):
        functions = (kernels.trace, kernels.frobenius_norm, kernels.extreme_eigenvalues)
        theta = kernels.ntk_reference(apply, params, x, mask=mask)
        product = kernels.ntk_vector_product(apply, params, x, vector, mask=mask)
        return theta, product, *(function(apply, params, x, mask=mask) for function in functions)

    vector = normal(5, len(x), apply(params, x).shape[1])
    for mask in (None, random_mask(params, 3)):
        theta, product, trace, norm, extremes = results(params, vector, mask)
        assert_same(product, jnp.einsum("nmkl,ml->nk", theta, vector))
        assert_same(trace, jnp.einsum("nnkk->", theta))
        assert_same(norm, jnp.linalg.norm(matrix(theta)))
        assert_same(jnp.array(extremes), jnp.linalg.eigvalsh(matrix(theta))[jnp.array([0, -1])], 1e-10)


@pytest.mark.parametrize("name", ["unusual", "attention", "shared"])
def test_column_norms_are_those_of_the_jacobian(name):
    apply, params, x = instance(name)
    whole, steps = params, params.get("steps")
    params = {name: leaf for name, leaf in params.items() if name != "steps"}

    def outputs(params):
        return apply({**whole, **params}, x)

    squares = jax.tree.map(lambda j: jnp.sum(j**2, axis=(0, 1)), jax.jit(jax.jacrev(outputs))(params))
    norms = jax.jit(lambda params: kernels.column_norms(apply, params, x))(whole)
    assert jax.tree.map(jnp.shape, norms) == jax.tree.map(jnp.shape, whole)
    if steps is not None:
        assert not norms.pop("steps").any()
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), norms, squares)


def test_eigenvalues_when_the_krylov_space_is_exhausted():
    identity = jnp.eye(4)
    least, greatest = kernels.extreme_eigenvalues(lambda w, x: x @ w, jnp.ones((4, 2)), 2 * identity)
    np.testing.assert_allclose([least, greatest], 4, rtol=1e-12)
    low_rank = normal(0, 6, 2) @ normal(1, 2, 30)
    values = jnp.linalg.eigvalsh(low_rank @ low_rank.T)
    extremes = kernels.extreme_eigenvalues(lambda w, x: x @ w, jnp.ones((30, 1)), low_rank)
    np.testing.assert_allclose(extremes, values[jnp.array([0, -1])], atol=1e-12 * values[-1])
    least, greatest = kernels.extreme_eigenvalues(
        lambda w, x: x @ w, jnp.ones((30, 1)), normal(2, 9, 30), num_products=3
    )
    values = jnp.linalg.eigvalsh(normal(2, 9, 30) @ normal(2, 9, 30).T)
    assert values[0] < least < greatest < values[-1]
