"""What holds for the library as a whole: the names it shows, and the precision of its products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

import sketchprune
from sketchprune import laws, linalg, sketch
from sketchprune.kernels import linearised


def test_private_modules_are_not_shown():
    assert {"masks", "sketch", "kernels", "search"} < set(dir(sketchprune))
    assert not [name for name in sketchprune.__all__ if name.startswith("_")]
    assert set(dir(sketchprune)) == {*sketchprune.__all__, "__version__"}


rng = np.random.default_rng(0)
x, y, w = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.normal(size=5)), jnp.asarray(rng.normal(size=4))
p, gram = jnp.full(4, 0.25), x @ x.T


def error(law):
    return lambda x, w: law.error(sketch.linear_items(x, w))


PRODUCTS = {
    error(laws.Multinomial(p, 3)): (x, w),
    error(laws.Poisson(p, binary=True)): (x, w),
    error(laws.Multinomial(p, 3, binary=True)): (x, w),
    error(laws.FixedSize(p, 3)): (x, w),
    sketch.near_optimal_bound: (x, w, 3),
    sketch.mcdiarmid_tail: (x, w, 3, 0.1),
    laws.Poisson(p).training_bound: (x, y),
    laws.Multinomial(p, 3).training_bound: (x, y),
    laws.Determinantal.ridge(x, 1.0).training_bound: (x, y),
    laws.fixed_size_dpp_error: (x, y, 2),
    linalg.limit: (x, y, w),
    linalg.trajectory: (x, y, w, 0.1, jnp.arange(3)),
    linearised.flow: (gram, y, 0 * y, 1.0),
    linearised.descent: (gram, y, 0 * y, 0.1, 3),
    laws.Determinantal(0.1 * gram).sample: (jax.random.key(0),),
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
