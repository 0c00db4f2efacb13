"""Functions as static arguments: what is equal shares a program, at every boundary; what cannot be hashed works."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import kernels, paths, prune, scores, train
from sketchprune._static import static

PARAMS, X, Y = jnp.array([[1.0], [-2.0]]), jnp.eye(2), jnp.ones((2, 1))
STACK = jnp.array([[[True], [False]], [[True], [True]]])
OPTIMIZER = optax.sgd(0.1)
CALLS = []


def linear(w, x, *, scale):
    CALLS.append(x)
    return scale * (x @ w)


def half_squares(outputs, y, *, factor):
    return factor * jnp.sum((outputs - y) ** 2)


def second(params, *, power):
    return jnp.sum(params**power)


class Unhashable:
    __hash__ = None  # pyright: ignore

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments, **keywords):
        return self.function(*arguments, **keywords)


def made_anew(wrapped=lambda function: function):
    """apply, loss, a score with an option and an evaluation, as one writes them in a call."""
    return (
        wrapped(functools.partial(linear, scale=2)),
        wrapped(functools.partial(half_squares, factor=0.5)),
        wrapped(functools.partial(scores.synflow, inputs="data")),
        wrapped(functools.partial(second, power=2)),
    )


BOUNDARIES = {
    "kernel": lambda apply, *_: kernels.ntk(apply, PARAMS, X),
    "norms": lambda apply, *_: kernels.column_norms(apply, PARAMS, X),
    "path kernel": lambda apply, *_: paths.trace(apply, PARAMS, (2,)),
    "snip": lambda apply, loss, *_: scores.snip(apply, loss, PARAMS, (X, Y)),
    "one shot": lambda apply, loss, score, _: prune.one_shot(score, apply, loss, PARAMS, (X, Y), 1),
    "iterative": lambda apply, loss, score, _: prune.iterative(score, apply, loss, PARAMS, (X, Y), [2, 1]),
    "fit": lambda apply, loss, *_: train.fit(apply, loss, PARAMS, (X, Y), OPTIMIZER, 3),
    "converge": lambda apply, loss, *_: train.converge(apply, loss, PARAMS, (X, Y), OPTIMIZER, 3),
    "fit many": lambda apply, loss, _, evaluate: train.fit_many(
        apply, loss, PARAMS, (X, Y), OPTIMIZER, 3, mask=STACK, evaluate=evaluate, checkpoints=(1,)
    ),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_equal_options_share_a_program(name):
    CALLS.clear()
    first = BOUNDARIES[name](*made_anew())
    traces = len(CALLS)
    again = BOUNDARIES[name](*made_anew())
    assert traces and len(CALLS) == traces
    unhashable = BOUNDARIES[name](*made_anew(Unhashable))
    for other in (again, unhashable):
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_what_differs_is_kept_apart():
    def power(x, q, *, sign=1):
        return sign * x**q

    bound = functools.partial
    assert static(bound(power, q=2)) == static(bound(power, q=2)) != static(bound(power, q=3))
    assert static(bound(bound(power, q=2), sign=-1)) == static(bound(power, sign=-1, q=2))
    assert static(bound(power, q=1)) != static(bound(power, q=1.0)) != static(bound(power, q=True))
    assert static(bound(power, 2.0)) != static(bound(power, q=2.0))
    assert static(bound(power, 3.0, sign=2))(2) == 2 * 3.0**2
    assert static(bound(power, q=2))(3, q=3) == 27
    arrays = bound(power, q=np.ones(2))
    assert static(arrays) is arrays and static(power) is power and static(None) is None
