"""Claims small enough to see through: for each kind one that is true, and a mutant of it that is false."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sketchprune.data import Dataset
from theory.claim import Case, Claim, Sides, Source
from theory.engine import Programs
from theory.kinds import Bound, Effect, Expectation, Identity, Probability, Rate
from theory.verdict import Tier
from theory.verification import verify_with

DATA = Dataset(np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1]), "toys", 2)
TINY = Tier("tiny", instances=4, looks=(64, 512, 4096), tolerance=0.1, search_steps=60)


class Vector(struct.PyTreeNode):
    """x is [3]; p is a chance."""

    x: Any
    p: Any


def vector(rng, dataset):
    return Vector(rng.standard_normal(3), np.asarray(rng.uniform(0.3, 0.8)))


def longer(rng, dataset):
    return Vector(rng.standard_normal(5), np.asarray(0.5))


def sample(rng, dataset):
    return Vector(1.0 + dataset.x[rng.integers(len(dataset.x))], np.asarray(0.5))


VECTOR, LONGER, SAMPLE = Case("vector", vector), Case("longer", longer), Case("{data}", sample)


def toy(kind, trial, **fields):
    """A claim; ``trial`` returns its sides, or those of its mutants too."""

    def named(*arguments):
        sides = trial(*arguments)
        return sides if isinstance(sides, dict) else {"claim": sides}

    defaults = dict(id="toy/claim", title="", statement="", sources=(), cases=(VECTOR,), batch=256)
    return Claim(kind=kind, trial=named, **(defaults | fields))


def promoted(claim, mutant):
    """The mutant as a claim of its own."""
    return replace(claim, mutants=(), trial=lambda *arguments: {"claim": claim.trial(*arguments)[mutant]})


programs = cache(Programs)
"""Kept, so that a second verification of a claim compiles nothing."""


@cache
def verdict(claim, seed=0, tier=TINY):
    return verify_with(programs(claim), tier, seed, DATA)


def square_of_sum(v, _):
    total, products = jnp.sum(v.x) ** 2, v.x[:, None] * v.x
    return {"claim": Sides(total, jnp.sum(products)), "squares alone": Sides(total, jnp.sum(v.x**2))}


def cauchy_schwarz(v, _):
    right = Sides(jnp.sum(v.x) ** 2, v.x.size * jnp.sum(v.x**2))
    return {"claim": right, "half": right._replace(theory=right.theory / 2)}


def coins(v, key):
    return jax.random.bernoulli(key, v.p, v.x.shape)


def all_coins(v):
    coins = (jnp.arange(2**v.x.size)[:, None] >> jnp.arange(v.x.size)) % 2 == 1
    return coins, jnp.prod(jnp.where(coins, v.p, 1 - v.p), axis=1)


def unbiased(v, coins):
    return {"claim": Sides(coins / v.p * v.x, v.x), "not reweighted": Sides(coins * v.x, v.x)}


def bounded(v, coins):
    right = Sides(coins / v.p, jnp.ones(3), range=1 / v.p)
    return {"claim": right, "not reweighted": right._replace(measured=coins * 1.0)}


def jensen(v, coins):
    right = Sides(abs(coins / v.p - 1), jnp.sqrt((1 - v.p) / v.p))
    return {"claim": right, "half": right._replace(theory=right.theory / 2)}


def quantiles(v, key):
    delta = jnp.array([0.3, 0.1])
    right = Sides(jax.random.uniform(key) * abs(v.x[0]), (1 - delta) * abs(v.x[0]), delta=delta)
    return {"claim": right, "thrice as often": right._replace(theory=(1 - 3 * delta) * abs(v.x[0]))}


def root(v, key, size):
    noise = jnp.exp(0.01 * jax.random.normal(key))
    right = Sides(noise / jnp.sqrt(size), jnp.asarray(-0.5))
    return {"claim": right, "linear": right._replace(theory=jnp.asarray(-1.0))}


def improved(v, key):
    right = Sides(jnp.sum(v.x) + 0.5 + 0.01 * jax.random.normal(key), jnp.sum(v.x))
    return {"claim": right, "by one": right._replace(theory=right.theory + 1)}


KINDS = {
    "identity": toy(Identity(), square_of_sum, mutants=("squares alone",)),
    "bound": toy(Bound(search=("x",)), cauchy_schwarz, mutants=("half",)),
    "equal": toy(Expectation(), unbiased, draw=coins, mutants=("not reweighted",)),
    "bounded": toy(Expectation(), bounded, draw=coins, mutants=("not reweighted",)),
    "at most": toy(Expectation("at most"), jensen, draw=coins, mutants=("half",)),
    "probability": toy(Probability(), quantiles, mutants=("thrice as often",)),
    "rate": toy(Rate((4, 16, 64)), root, mutants=("linear",)),
    "effect": toy(Effect(), improved, mutants=("by one",), expected=None),
}
FALSE = {name: promoted(KINDS[name], KINDS[name].mutants[0]) for name in KINDS}
"""The first mutant of each, as a claim of its own."""


def claim(id):
    """A claim of which only the id matters."""
    return Claim(
        id=id,
        title="a title",
        statement="a = b",
        sources=(Source("bar2023sketching"),),
        kind=Bound(),
        cases=(Case("digits", lambda key, data: key),),
        trial=lambda instance, outcome: {},
    )
