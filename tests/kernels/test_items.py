"""The items of a kernel give every law the error that the items of its explicit Jacobian give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import kernels, laws, sketch
from tests.support import close, flat, quick_jit
from tests.support.networks import instance, random_mask


def explicit_jacobian(apply, params, x):
    """J as [N K, d] over all leaves joined, with zero columns for leaves that are not floating."""
    floating = {name: leaf for name, leaf in params.items() if name != "steps"}
    leaves = quick_jit(jax.jacrev(lambda floating: apply({**params, **floating}, x)))(floating)
    rows = x.shape[0] * jax.eval_shape(apply, params, x).shape[1]
    blocks = {name: jax.tree.map(lambda j: j.reshape(rows, -1), leaf) for name, leaf in leaves.items()}
    if "steps" in params:
        blocks["steps"] = np.zeros((rows, params["steps"].size))
    return np.concatenate(jax.tree.leaves(blocks), axis=1)


def probabilities(items, seed):
    """Probabilities shaped like the items, positive where these are not zero."""
    rng = np.random.default_rng(seed)
    sizes = jax.tree.map(lambda square: (square > 0) * rng.exponential(size=square.shape), items.squares)
    total = sum(leaf.sum() for leaf in jax.tree.leaves(sizes))
    return jax.tree.map(lambda leaf: leaf / total, sizes)


@pytest.mark.parametrize(("name", "masked"), [("mlp", False), ("mlp", True), ("lenet", False), ("shared", True)])
def test_errors_of_laws_are_those_of_the_explicit_jacobian(name, masked):
    """In a multilayer perceptron, a convolutional network, and one with weights that no layer holds."""
    apply, params, x = instance(name)
    mask = random_mask(params, 3) if masked else None
    items = kernels.ntk_items(apply, params, x, mask=mask)
    assert jax.tree.map(jnp.shape, items.squares) == jax.tree.map(jnp.shape, params)
    weight = flat(mask) if masked else 1.0
    expected = sketch.tangent_items(explicit_jacobian(apply, params, x) * np.sqrt(weight))
    chances = probabilities(items, 5)
    rates = jax.tree.map(lambda p: jnp.minimum(1, 3 * p / flat(chances).max()), chances)
    for make, tree in (
        (lambda p: laws.Multinomial(p, 7), chances),
        (lambda p: laws.Multinomial(p, 7, binary=True), chances),
        (laws.Poisson, rates),
        (lambda p: laws.Poisson(p, binary=True), rates),
    ):
        close(make(tree).error(items), make(jnp.asarray(flat(tree))).error(expected), 1e-10)


def test_combinations_take_negative_coefficients_and_traces():
    apply, params, x = instance("mlp")
    items = kernels.ntk_items(apply, params, x)
    expected = sketch.tangent_items(explicit_jacobian(apply, params, x))
    coefficients = jax.tree.map(lambda draws: 1 - draws, random_mask(params, 4))
    assert min(leaf.min() for leaf in jax.tree.leaves(coefficients)) < 0
    close(items.combination(coefficients), expected.combination(flat(coefficients)))
    close(quick_jit(items.combination)(coefficients), expected.combination(flat(coefficients)))
    close(items.gram(), expected.gram())


def test_no_gram_matrix_of_many_parameters():
    items = kernels.ntk_items(lambda w, x: x @ w, jnp.zeros((4097, 1)), jnp.ones((1, 4097)))
    with pytest.raises(ValueError, match="params has 4097 entries; it takes at most 4096"):
        items.gram()
