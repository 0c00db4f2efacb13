"""Every law of the table keeps the contract, and refuses what it cannot draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws
from sketchprune.testing import check_law

KEY = jax.random.key(0)
TREE = {"a": jnp.array([[0.1, 0.2], [0.3, 0.1]]), "b": jnp.array([0.3, 0.0])}
HALF = jnp.array([0.5, 0.2, 0.3], jnp.float32)
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
SHAPES = ((2, 2), (1,))
LAWS = {
    "multinomial": [
        laws.Multinomial(TREE, 3),
        laws.Multinomial(HALF, jnp.int32(2), max_budget=3),
        laws.Multinomial(TREE, 3, binary=True),
    ],
    "poisson": [laws.Poisson(TREE), laws.Poisson(HALF, binary=True)],
    "fixed-size": [laws.FixedSize(TREE, 2)],
    "determinantal": [laws.Determinantal.ridge(X, 1.0)],
    "erdos-renyi": [laws.ErdosRenyi({"a": 0.3, "b": 1.0}, SHAPES)],
    "erdos-renyi-counts": [laws.ErdosRenyiCounts({"a": 3, "b": 0}, SHAPES)],
}


def test_every_law_of_the_table_is_checked():
    assert set(LAWS) == set(laws.LAWS)
    for name, some in LAWS.items():
        assert all(type(law) is laws.LAWS[name] for law in some)


@pytest.mark.parametrize(
    "law", [pytest.param(law, id=f"{name}-{i}") for name, some in LAWS.items() for i, law in enumerate(some)]
)
def test_laws_keep_the_contract(law):
    check_law(law, key=KEY)


one = jnp.ones(1)
REFUSED = {
    "multinomial": [
        (lambda: laws.Multinomial(jnp.array([1.5, -0.5]), 2), "probabilities has the entry -0.5"),
        (lambda: laws.Multinomial({"a": jnp.array([jnp.nan])}, 2), r"probabilities\['a'\] has the entry nan"),
        (lambda: laws.Multinomial(jnp.array([0.5, 0.4]), 2), "probabilities sums to 0.9"),
        (lambda: laws.Multinomial(jnp.full(7, 1 / 7 + 3e-9), 2), "probabilities sums to 1.00000002"),
        (lambda: laws.Multinomial(one, 0), "budget is 0; it takes a whole number >= 1"),
        (lambda: laws.Multinomial(one, 1.5), "budget is 1.5; it takes a whole number >= 1"),
    ],
    "poisson": [
        (lambda: laws.Poisson(jnp.array([0.5, 1.1])), "rates has the entry 1.1; it takes inclusion prob"),
        (lambda: laws.Poisson(jnp.array([-0.5])), "rates has the entry -0.5"),
        (lambda: laws.Poisson(jnp.array([1])), "rates has dtype int64; it takes floating numbers"),
        (lambda: laws.Poisson({}), "rates is a pytree without arrays"),
    ],
    "fixed-size": [
        (lambda: laws.FixedSize(jnp.array([1.0, 0.0]), 2), "size is 2; it takes at most 1, the weights that are > 0"),
        (lambda: laws.FixedSize(jnp.array([1.0, -1.0]), 1), "weights has the entry -1.0"),
        (lambda: laws.FixedSize(jnp.array([1.0, jnp.inf]), 1), "weights has the entry inf"),
        (lambda: laws.FixedSize(one, -1), "size is -1; it takes a whole number >= 0"),
    ],
    "determinantal": [
        (lambda: laws.Determinantal(jnp.ones((2, 3))), r"kernel has shape \(2, 3\); it takes a square matrix"),
        (lambda: laws.Determinantal(one), r"kernel has shape \(1,\)"),
    ],
    "erdos-renyi": [
        (lambda: laws.ErdosRenyi({"a": 1.5}, ((2,),)), "densities has the entry 1.5"),
    ],
    "erdos-renyi-counts": [
        (lambda: laws.ErdosRenyiCounts({"a": 3}, ((2,),)), "counts has the entry 3; it takes at most 2, the leaf's"),
        (lambda: laws.ErdosRenyiCounts({"a": -1}, ((2,),)), "counts is -1; it takes a whole number >= 0"),
    ],
}
METHODS = {
    "sample": lambda law: law.sample(KEY),
    "inclusion": lambda law: law.inclusion(),
    "error": lambda law: law.error(laws.Items(one, lambda c: jnp.sum(c), lambda: jnp.ones((1, 1)))),
    "outcomes": lambda law: law.outcomes(),
}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, calls in REFUSED.items() for i in range(len(calls))])
@pytest.mark.parametrize("method", METHODS)
def test_bad_laws_are_refused_by_every_method(name, number, method):
    make, message = REFUSED[name][number]
    with pytest.raises(ValueError, match=message):
        METHODS[method](make())


SOME = {"items": lambda: laws.Items(jnp.ones(2), lambda c: jnp.sum(c), lambda: jnp.eye(2))}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: laws.Multinomial(one, 3, max_budget=2).sample(KEY),
            "budget is 3; it takes at most max_budget = 2",
        ),
        (lambda: jax.jit(lambda s: laws.Multinomial(one, s).sample(KEY))(3), "budget is traced; .* max_budget"),
        (lambda: laws.Multinomial.proportional(jnp.zeros(2), 2), "sizes is zero everywhere; it takes some entries > 0"),
        (lambda: laws.Multinomial.proportional(jnp.array([1.0, jnp.nan]), 2), "sizes has the entry nan"),
        (lambda: laws.Multinomial(jnp.array([1.0, 0.0]), 2).error(SOME["items"]()), "probabilities vanishes at item 1"),
        (lambda: laws.Poisson(jnp.array([0.0, 1.0])).error(SOME["items"]()), "rates vanishes at item 0, which is not"),
        (lambda: laws.Poisson.proportional(jnp.array([1.0, 0.0]), 2), "budget is 2; it takes at most 1, the sizes"),
        (lambda: laws.FixedSize.proportional(one, 1, binary=True), "binary is True; FixedSize takes False"),
        (lambda: laws.FixedSize(jnp.ones(17), 2).error(SOME["items"]()), "weights has 17 entries; it takes at most 16"),
        (lambda: laws.Poisson(jnp.ones(21)).outcomes(), "rates has 21 entries, hence 2097152 outcomes; it takes at"),
        (lambda: laws.Multinomial(jnp.ones(32) / 32, 5).outcomes(), "probabilities has 32 entries, hence 33554432"),
        (lambda: laws.Determinantal(jnp.eye(21)).outcomes(), "kernel has 21 entries, hence 2097152 outcomes"),
        (lambda: laws.ErdosRenyiCounts(3, ((21,),)).outcomes(), "counts has 21 entries, hence 2097152 outcomes"),
        (lambda: laws.Determinantal(jnp.eye(2)).training_bound(X[:, :2], X[:, 2]), "tau is None; it takes a law made"),
        (lambda: laws.Determinantal.ridge(X, 0.0), "tau is 0.0; it takes a finite number > 0"),
        (lambda: laws.effective_dimension(X, float("nan")), "tau is nan"),
        (lambda: laws.Poisson(2 * jnp.ones(3)).training_bound(X, X[:, 0]), "rates has the entry 2"),
        (lambda: laws.Multinomial(jnp.ones(3), 2).training_bound(X, X[:, 0]), "probabilities sums to 3"),
        (lambda: laws.fixed_size_dpp_error(jnp.eye(2), jnp.ones(2), 3), "size is 3; it takes at most 2, the rank of x"),
        (lambda: laws.poisson_rates(jnp.array([1.0, 0.0]), 2), "budget is 2; it takes at most 1"),
        (lambda: laws.poisson_rates(jnp.ones(2), 0), "budget is 0; it takes a number > 0"),
        (lambda: laws.poisson_rates(jnp.array([jnp.nan, 1]), 1), "sizes has the entry nan"),
    ],
)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
