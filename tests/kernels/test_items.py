"""The items of a kernel give every law the error that the items of its explicit Jacobian give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sketchprune import kernels, laws, sketch
from tests.support import close, flat
from tests.support.networks import instance, random_mask

LAWS = {
    "multinomial": lambda chances: laws.Multinomial(chances, 7),
    "binary multinomial": lambda chances: laws.Multinomial(chances, 7, binary=True),
    "poisson": lambda chances: laws.Poisson(jax.tree.map(lambda p: 1 - (1 - p) ** 20, chances)),
    "binary poisson": lambda chances: laws.Poisson(chances, binary=True),
}


def explicit_items(apply, params, x, weight=1.0):
    """The items of the Jacobian [N K, d] over all leaves joined, with zero columns for leaves that are not floating."""
    floating = {name: leaf for name, leaf in params.items() if name != "steps"}
    jacobian = jax.jacrev(lambda floating: apply({**params, **floating}, x))(floating)
    columns = jax.tree.map(lambda j: j.reshape(len(x) * j.shape[1], -1), jacobian)
    if "steps" in params:
        columns["steps"] = np.zeros((len(jax.tree.leaves(columns)[0]), params["steps"].size))
    return sketch.tangent_items(jnp.concatenate(jax.tree.leaves(columns), axis=1) * jnp.sqrt(weight))


def random_chances(params):
    """Probabilities shaped like the parameters, none for leaves that are not floating."""
    rng = np.random.default_rng(5)
    sizes = jax.tree.map(lambda leaf: (leaf.dtype != int) * rng.uniform(0.5, 1.5, size=leaf.shape), params)
    total = sum(leaf.sum() for leaf in jax.tree.leaves(sizes))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf / total), sizes)


@pytest.mark.parametrize(("name", "masked"), [("mlp", False), ("mlp", True), ("lenet", False), ("shared", True)])
def test_errors_of_laws_are_those_of_the_explicit_jacobian(name, masked):
    """In a multilayer perceptron, a convolutional network, and one with weights that no layer holds."""
    apply, params, x = instance(name)
    mask = random_mask(params, 3) if masked else None

    @jax.jit
    def errors(params, chances):
        items = kernels.ntk_items(apply, params, x, mask=mask)
        expected = explicit_items(apply, params, x, flat(mask) if masked else 1.0)
        joined, _ = ravel_pytree(chances)
        found = {name: make(chances).error(items) for name, make in LAWS.items()}
        return items.squares, found, {name: make(joined).error(expected) for name, make in LAWS.items()}

    squares, found, expected = errors(params, random_chances(params))
    assert jax.tree.map(jnp.shape, squares) == jax.tree.map(jnp.shape, params)
    for law, error in expected.items():
        assert error > 0
        close(found[law], error, 1e-10)


def test_combinations_and_gram_matrix():
    """Coefficients may be negative; known or traced."""
    apply, params, x = instance("mlp")
    items = kernels.ntk_items(apply, params, x)
    expected = jax.jit(lambda c: (lambda items: (items.combination(c), items.gram()))(explicit_items(apply, params, x)))
    coefficients = jax.tree.map(lambda draws: 1 - draws, random_mask(params, 4))
    assert min(leaf.min() for leaf in jax.tree.leaves(coefficients)) < 0
    size, gram = expected(flat(coefficients))
    close(items.combination(coefficients), size)
    close(jax.jit(items.combination)(coefficients), size)
    close(items.gram(), gram)


def test_no_gram_matrix_of_many_parameters():
    items = kernels.ntk_items(lambda w, x: x @ w, jnp.zeros((4097, 1)), jnp.ones((1, 4097)))
    with pytest.raises(ValueError, match="params has 4097 entries; it takes at most 4096"):
        items.gram()
