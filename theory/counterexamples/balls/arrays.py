"""Arrays of balls: NumPy arrays of objects, each a number of python-flint with a bound on its error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb

Balls = Any
"""A NumPy array of dtype object that holds :class:`flint.arb`."""


class NoBallVersion(Exception):
    """An operation of the program cannot be evaluated in ball arithmetic; the message names it."""


class Undecided(Exception):
    """The balls are too wide to decide a comparison; the message names the operation. More bits may decide it."""


def is_float(dtype: Any) -> bool:
    """Whether numbers of the dtype are balls; integers, booleans and random keys are data."""
    return not jnp.issubdtype(dtype, jax.dtypes.prng_key) and bool(jnp.issubdtype(dtype, jnp.floating))


def exact(number: float) -> arb:
    """A float as a ball of radius 0.

    >>> exact(0.5), exact(float("-inf")) == arb.neg_inf()
    (0.500000000000000, True)
    """
    if np.isinf(number):
        return arb.pos_inf() if number > 0 else arb.neg_inf()
    return arb(float(number))


def balls(values: Any) -> Balls:
    """An array of floats as balls of radius 0."""
    return elementwise(exact, np.asarray(values, np.float64))


def as_array(value: Any) -> Balls:
    """A ball, or an array of balls, as an array."""
    if isinstance(value, np.ndarray):
        return value
    array = np.empty((), object)
    array[()] = value
    return array


def elementwise(function: Callable[..., Any], *arrays: Any) -> Balls:
    """The function on each entry of arrays that broadcast against each other."""
    return as_array(np.frompyfunc(function, len(arrays), 1)(*arrays)).astype(object)


def decisions(function: Callable[..., bool], *arrays: Any) -> np.ndarray:
    """The same for a function that decides something: an array of booleans."""
    return elementwise(function, *arrays).astype(bool)


def midpoints(values: Balls) -> np.ndarray:
    """The centres of the balls as floats."""
    return elementwise(lambda ball: float(ball.mid()), values).astype(float)
