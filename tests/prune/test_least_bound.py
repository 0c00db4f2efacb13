"""Pruning by the least training bound, against the same steps with the whole Jacobian in NumPy, and its refusals."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, masks, prune
from sketchprune.search import subsets
from tests.support.pruning import PARAMS, SHAPES, biased, kept, network

X = jnp.asarray(np.random.default_rng(5).standard_normal((7, 4)))
Y = jnp.asarray(np.random.default_rng(6).standard_normal((7, 2)))
BIASED = {**PARAMS, "bias": jnp.array([0.5, -1.0])}
STEPS = 3


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def by_hand(apply, params, keeps, left):
    """The weights that are left after each round, as one vector; the reference in NumPy."""
    touched = flat(jax.tree.map(np.full_like, params, masks.prunable(params))) > 0
    unflatten = jax.flatten_util.ravel_pytree(params)[1]

    def outputs(vector):
        return apply(unflatten(vector), X).ravel()

    for keep in keeps:
        at = flat(params) * left
        jacobian = np.asarray(jax.jacobian(outputs)(at)) * left
        target = Y.ravel() - outputs(at) + jacobian @ at
        norms = np.linalg.norm(jacobian, axis=0)
        may = touched & (norms > 0)
        rates = np.where(may, keep / may.sum(), 0.99 * ~touched)
        for _ in range(STEPS):
            inside = (rates > 0) & (norms > 0)
            penalty = (1 / rates[inside] - 1) * norms[inside] ** 2
            columns = jacobian[:, inside]
            weights = np.zeros(len(rates))
            weights[inside] = np.linalg.solve(columns.T @ columns + np.diag(penalty), columns.T @ target)
            sizes = np.where(may, norms * abs(weights), 0)
            best = np.asarray(laws.poisson_rates(jnp.asarray(sizes), keep / 0.99))
            rates = np.where(touched, 0.99 * best, 0.99)
        ranked = np.where(touched & left, sizes, -1)
        chosen = np.argsort(-ranked)[:keep]
        last, next_one = -np.sort(-ranked)[keep - 1 : keep + 1]
        assert last - next_one > 1e-6 * last  # parallel columns tie, and rounding would decide
        left = ~touched | np.isin(np.arange(len(left)), chosen)
    return left


@pytest.mark.parametrize(("apply", "params"), [(network, PARAMS), (biased, BIASED)], ids=["network", "biased"])
def test_each_round_is_what_its_formula_says(apply, params):
    every = np.ones(len(flat(params)), bool)
    for keeps in ([12], [45, 12]):
        found = prune.least_bound(apply, params, (X, Y), keeps, steps=STEPS)
        np.testing.assert_array_equal(flat(found), by_hand(apply, params, keeps, every))
    early = jax.tree.map(lambda leaf: jnp.abs(leaf) > 0.3, {name: params[name] for name in SHAPES})
    early = {**jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params), **early}
    found = prune.least_bound(apply, params, (X, Y), [12], steps=STEPS, mask=early)
    np.testing.assert_array_equal(flat(found), by_hand(apply, params, [12], flat(early)))


def test_counts_are_exact_and_what_is_pruned_stays_so():
    left = None
    for keep in (70, 30, 9, 0):
        mask = prune.least_bound(biased, BIASED, (X, Y), [keep], steps=STEPS, mask=left)
        assert kept({name: mask[name] for name in SHAPES}) == keep and mask["bias"].all()
        if left is not None:
            assert not (flat(mask) & ~flat(left)).any()
        left = mask


def test_of_a_linear_model_it_is_the_relaxed_mask():
    """Whose outputs are Jθ, so that the target is y."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((20, 9)), rng.standard_normal(20)
    mask = prune.least_bound(lambda w, x: (x @ w)[:, None], jnp.ones(9), (x, y[:, None]), [3], steps=300)
    np.testing.assert_array_equal(mask, subsets.relaxed(x, y, 3).mask)


def test_jit_and_vmap_change_nothing():
    def pruned(params):
        return prune.least_bound(network, params, (X, Y), [40, 12], steps=STEPS)

    several = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), PARAMS)
    together = jax.jit(jax.vmap(pruned))(several)
    for index, sign in enumerate((1, -1)):
        alone = pruned(jax.tree.map(lambda leaf, sign=sign: sign * leaf, PARAMS))
        np.testing.assert_array_equal(flat(alone), flat(jax.tree.map(lambda leaf, index=index: leaf[index], together)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: prune.least_bound(network, PARAMS, (X, Y[:, :1]), [9]),
            r"batch has targets of shape \(7, 1\); it takes",
        ),
        (lambda: prune.least_bound(network, PARAMS, (X, Y), [9], steps=0), "steps is 0"),
        (lambda: prune.least_bound(network, PARAMS, (X, Y), [9, 12]), "it takes counts that do not grow"),
        (lambda: prune.least_bound(network, PARAMS, (X, Y), [100]), "none above 72"),
        (
            lambda: prune.least_bound(network, PARAMS, (X, Y * jnp.nan), [9]),
            "the training bound is NaN in round 1",
        ),
        (
            lambda: prune.least_bound(
                network, PARAMS, (X, Y), [9], mask=jax.tree.map(lambda leaf: leaf > 1.5, PARAMS), steps=STEPS
            ),
            "keeps is 9 in round 1 of 1; it takes at most [0-8], which is all that can be kept",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
