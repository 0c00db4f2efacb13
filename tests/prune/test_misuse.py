"""What pruning refuses, and what it says then."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, prune, scores
from tests.support import without_type_checks
from tests.support.pruning import BATCH, PARAMS, half_squares, magnitude, network

POISSON, KEY = prune.proportional(laws.Poisson), jax.random.key(0)


def undefined(apply, loss, params, batch, *, mask=None, key=None):
    return {**magnitude(apply, loss, params, batch, mask=mask), "b": params["b"] * jnp.nan}


def nothing(apply, loss, params, batch, *, mask=None, key=None):
    return jax.tree.map(lambda leaf: 0 * leaf, params)


def dying(apply, loss, params, batch, *, mask=None, key=None):
    """Undefined once fewer than 50 weights are left."""
    left = sum(leaf.sum() for leaf in jax.tree.leaves(mask))
    return jax.tree.map(
        lambda leaf: jnp.where(left < 50, jnp.nan, leaf), magnitude(apply, loss, params, batch, mask=mask)
    )


def overflowing(apply, loss, params, batch, *, mask=None, key=None):
    """Exact in float64, and infinite wherever it is not zero in float32."""
    return jax.tree.map(lambda leaf: abs(leaf) * 1e30 * 1e30, params)


def sinking(apply, loss, params, batch, *, mask=None, key=None):
    """-inf on a weight that is not pruned."""
    return {**params, "c": params["c"].at[0, 0].set(-jnp.inf)}


one_shot = functools.partial(prune.one_shot, loss=half_squares, apply=network, batch=BATCH)
iterative = functools.partial(prune.iterative, loss=half_squares, apply=network, batch=BATCH)
DEAD = {**PARAMS, "b": 0 * PARAMS["b"]}
COARSE = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PARAMS)
INFINITE = {**COARSE, "b": COARSE["b"].at[2, 3].set(jnp.inf)}
MISUSE = {
    "NaN": (lambda: one_shot(undefined, params=PARAMS, keep=3), r"scores\['b'\] has NaN entries; it takes finite"),
    "infinite": (
        lambda: one_shot(scores.magnitude, params=INFINITE, keep=5),
        r"scores\['b'\] has infinite entries; it",
    ),
    "infinite in a round": (
        lambda: iterative(scores.magnitude, params=INFINITE, keeps=[5]),
        r"scores\['b'\] has infinite entries in round 1 of 1; it takes finite",
    ),
    "all infinite": (lambda: one_shot(overflowing, params=COARSE, keep=5), r"scores\['a'\] has infinite entries"),
    "minus infinite": (lambda: one_shot(sinking, params=PARAMS, keep=5), r"scores\['c'\] has infinite entries"),
    "minus infinite in a round": (lambda: iterative(sinking, params=PARAMS, keeps=[5]), r"scores\['c'\] has infinite"),
    "NaN later": (
        lambda: iterative(dying, params=PARAMS, keeps=[60, 40, 30, 20]),
        r"scores\['a'\] has NaN entries in round 3 of 4",
    ),
    "all zero": (lambda: one_shot(nothing, params=PARAMS, keep=3), "scores are all zero; it takes some that differ"),
    "a layer all zero": (
        lambda: one_shot(magnitude, params=DEAD, keep={"a": 6, "b": 3, "c": 2}),
        r"scores\['b'\] are all zero; it takes some that differ",
    ),
    "a layer all zero in a round": (
        lambda: iterative(
            magnitude,
            params=DEAD,
            keeps=prune.linear_schedule({"a": 24, "b": 36, "c": 12}, {"a": 6, "b": 3, "c": 2}, 2),
        ),
        r"scores\['b'\] are all zero in round 1 of 2",
    ),
    "rounds of a layer": (
        lambda: iterative(magnitude, params=PARAMS, keeps={"a": np.arange(2), "b": np.arange(3), "c": np.arange(2)}),
        r"keeps has leaves of the lengths \[\(2,\), \(3,\)\]; it takes one number of rounds",
    ),
    "empty layer": (
        lambda: one_shot(magnitude, params={**PARAMS, "d": jnp.zeros((0, 3))}, keep=3),
        r"params\['d'\] is empty, of shape \(0, 3\)",
    ),
    "too many": (lambda: one_shot(magnitude, params=PARAMS, keep=73), "keep is 73; it takes at most 72"),
    "too many at first": (lambda: iterative(magnitude, params=PARAMS, keeps=[73]), "none above 72"),
    "growing": (lambda: iterative(magnitude, params=PARAMS, keeps=[5, 9]), r"keeps is \[5 9\]; it takes counts that"),
    "shape of the mask": (
        lambda: iterative(magnitude, params=PARAMS, keeps=[3], mask={**PARAMS, "a": jnp.ones((1, 6))}),
        r"mask\['a'\] has shape \(1, 6\); it takes params' \(4, 6\)",
    ),
    "structure": (
        lambda: one_shot(magnitude, params=PARAMS, keep={"a": 3}),
        r"keep has no leaf \['b'\]; it takes",
    ),
    "no key": (
        lambda: one_shot(magnitude, params=PARAMS, keep=3, sampler=POISSON),
        "key is None; it takes a key",
    ),
    "inexact sampler": (
        lambda: iterative(magnitude, params=PARAMS, keeps=[30, 9], sampler=POISSON, key=KEY),
        r"sampler is proportional\(Poisson\), which kept \d+ weights in round 1 of 2 where 30 were asked for",
    ),
    "inexact in a layer": (
        lambda: iterative(
            magnitude,
            params=PARAMS,
            keeps={"a": np.array([9]), "b": np.array([9]), "c": np.array([9])},
            sampler=POISSON,
            key=KEY,
        ),
        r"which kept \d+ weights in round 1 of 1 of scores\['.'\] where 9 were asked for",
    ),
    "too few to draw from": (
        lambda: iterative(magnitude, params=DEAD, keeps=[40], sampler=prune.proportional(laws.FixedSize), key=KEY),
        "which kept 36 weights in round 1 of 1 where 40 were asked for; .*whose score is not zero",
    ),
    "density 0": (lambda: prune.count(PARAMS, 0.0), r"density is 0.0; it takes a number in \(0, 1\]"),
    "density 2": (lambda: prune.layer_counts(PARAMS, 2.0), r"density is 2.0; it takes a number in \(0, 1\]"),
    "no weight": (lambda: prune.count(PARAMS, 0.001), "none of 72 weights; it takes one that keeps a weight"),
    "empty in a layer": (lambda: prune.layer_counts(PARAMS, 0.02), r"leaves params\['.'\] without weights"),
    "rule": (lambda: prune.layer_counts(PARAMS, 0.5, "best"), "rule is 'best'; it takes 'uniform'"),
    "rounds": (lambda: prune.exponential_schedule(9, 3, 0), "rounds is 0; it takes a whole number >= 1"),
    "schedule": (lambda: prune.linear_schedule(9, 10, 2), "keep is 10; it takes 1 to 9, the number of weights"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_named(name):
    call, message = MISUSE[name]
    with without_type_checks(), pytest.raises(ValueError, match=message):
        call()
