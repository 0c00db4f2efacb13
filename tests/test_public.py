"""What holds for the library as a whole: the names it shows, and the precision of its products."""

from types import ModuleType

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


def public_modules(module):
    """The module, and those that can be reached from it by names that dir() shows."""
    yield module
    for value in (getattr(module, name) for name in dir(module)):
        if isinstance(value, ModuleType):
            yield from public_modules(value)


def test_public_modules_show_their_own_names():
    """Not what they import for themselves, and not the files of a package."""
    foreign = {"Any", "Array", "Callable", "Float", "PyTree", "checked", "functools", "jax", "jnp", "np", "own_names"}
    modules = list(public_modules(sketchprune))
    assert len(modules) > 20
    for module in modules:
        assert "__dir__" in vars(module), f"{module} takes the line __dir__ = own_names(__name__)"
        shown = dir(module)
        assert shown and all(hasattr(module, name) for name in shown), module
        assert not [name for name in shown if name.startswith("_") and name != "__version__"], module
        assert not foreign & set(shown), module


def test_modules_show_what_they_define_and_hand_on():
    assert {"keep_top", "apply", "summary"} < set(dir(sketchprune.masks))
    assert "selection" not in dir(sketchprune.masks)
    assert {"infinite", "ntk"} < set(dir(sketchprune.kernels)) and "empirical" not in dir(sketchprune.kernels)
    assert {"LAWS", "Poisson"} < set(dir(laws)) and {"Mask", "Groups"} < set(dir(sketchprune.types))
    assert {"limit", "ONE_THREAD_OPTIONS"} < set(dir(linalg))


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
