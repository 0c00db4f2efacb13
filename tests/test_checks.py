"""Checks of arguments: what a trace closes over, large arrays, mixed precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import _checks, laws

KEY = jax.random.key(0)


def test_checks_see_what_a_trace_closes_over():
    """A law is known inside a traced function that closes over it, and next to leaves that are traced."""
    halves, undefined = jnp.ones(3) / 2, jnp.array([jnp.nan])
    for law in (halves, np.asarray(halves)):
        with pytest.raises(ValueError, match="probabilities sums to 1.5"):
            jax.jit(lambda key, law=law: laws.Multinomial(law, 2).sample(key))(KEY)
        with pytest.raises(ValueError, match="probabilities sums to 1.5"):
            jax.vmap(lambda key, law=law: laws.Multinomial(law, 2).sample(key))(jax.random.split(KEY, 3))
    with pytest.raises(ValueError, match=r"rates\['b'\] has the entry nan"):
        jax.jit(lambda a: laws.Poisson({"a": a, "b": undefined}).sample(KEY))(halves)
    program = jax.make_jaxpr(lambda p: laws.Multinomial(p, 2).sample(KEY))(jnp.ones(2))
    assert len(program.eqns) == 1  # and what is traced costs nothing


def test_checks_sum_large_laws_and_mixed_precisions():
    sizes = np.random.default_rng(0).normal(size=3_000_001).astype(np.float32) ** 2
    facts = _checks.weights("sizes", jnp.asarray(sizes))
    assert facts is not None
    assert facts.total == pytest.approx(sizes.sum(dtype=np.float64), rel=2e-6)
    assert facts[:2] == ((sizes > 0).sum(), (sizes > 1).sum())
    for entry in (-0.5, np.nan, np.inf):  # where a minimum or a maximum need not notice
        sizes[1_234_567] = entry
        with pytest.raises(ValueError, match=f"sizes has the entry {entry}; it takes finite numbers >= 0"):
            _checks.weights("sizes", jnp.asarray(sizes))
    sevenths = {"a": jnp.full(3, 1 / 7, jnp.float32), "b": jnp.full(4, 1 / 7, jnp.float64)}
    assert laws.Multinomial(sevenths, 2).sample(KEY)["b"].dtype == jnp.float64


@pytest.mark.parametrize(
    ("tree", "reference", "fault"),
    [
        ({"a": 1}, {"a": 1, "b": {"c": 2, "d": 3}}, r"has no leaf \['b'\]\['c'\]"),
        ({"a": 1, "z": 2}, {"a": 1}, r"has a leaf \['z'\]"),
        ({"a": None, "b": 1}, {"a": 1, "b": 1}, r"has no leaf \['a'\]"),
        (1, {"a": 1}, "is one leaf"),
        ({"a": 1}, 1, "is no single leaf"),
        ([1, 2], (1, 2), "has the leaves in other containers, such as a list in the place of a tuple"),
    ],
)
def test_a_structure_that_differs_is_named_by_its_first_leaf(tree, reference, fault):
    with pytest.raises(ValueError, match=f"^mask {fault}; it takes the structure of params$"):
        _checks.same_structure("mask", tree, "params", reference)
    _checks.same_structure("mask", reference, "params", reference)
