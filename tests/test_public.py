"""What holds for the library as a whole: the names it shows, and the precision of its products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

import sketchprune
from sketchprune import linalg, masks, sketch
from sketchprune.kernels import linearised


def test_private_modules_are_not_shown():
    assert {"masks", "sketch", "kernels", "search"} < set(dir(sketchprune))
    assert not [name for name in sketchprune.__all__ if name.startswith("_")]
    assert set(dir(sketchprune)) == {*sketchprune.__all__, "__version__"}


rng = np.random.default_rng(0)
x, y, w = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.normal(size=5)), jnp.asarray(rng.normal(size=4))
p, gram = jnp.full(4, 0.25), x @ x.T
PRODUCTS = {
    sketch.second_moment: (x, w, p, 3),
    sketch.binary_moment: (x, w, p),
    sketch.binary_multinomial_moment: (x, w, p, 3),
    sketch.fixed_size_moment: (x, w, p, 3),
    sketch.near_optimal_bound: (x, w, 3),
    sketch.mcdiarmid_tail: (x, w, 3, 0.1),
    sketch.ridge_bound: (x, y, p),
    sketch.ridge_bound_multinomial: (x, y, p, 3),
    sketch.dpp_error: (x, y, 1.0),
    sketch.fixed_size_dpp_error: (x, y, 2),
    linalg.limit: (x, y, w),
    linalg.trajectory: (x, y, w, 0.1, jnp.arange(3)),
    linearised.flow: (gram, y, 0 * y, 1.0),
    linearised.descent: (gram, y, 0 * y, 0.1, 3),
    masks.determinantal: (jax.random.key(0), 0.1 * gram),
}


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive is lax.dot_general_p:
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("function", PRODUCTS, ids=lambda function: function.__name__)
def test_matrix_products_have_the_highest_precision(function):
    found = list(products(jax.make_jaxpr(function)(*PRODUCTS[function]).jaxpr))
    assert found and set(found) == {(lax.Precision.HIGHEST, lax.Precision.HIGHEST)}
