"""The check of scores: a right score of one's own passes, and each planted fault is found and named."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import masks, scores
from sketchprune.testing import check_score
from tests.support import normal

PARAMS = {"w": normal(1, 3, 2), "bias": normal(2, 2)}
BATCH = normal(3, 5, 3), normal(4, 5, 2)
COUNTER = itertools.count()


def apply(params, x):
    return x @ params["w"] + params["bias"]


def loss(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def with_infinities(found, params, mask):
    """The conventions, by hand."""
    mask = jax.tree.map(jnp.ones_like, params) if mask is None else mask

    def leaf(pruned, w, score, m):
        return jnp.where(m != 0, score, -jnp.inf).astype(w.dtype) if pruned else jnp.full_like(w, jnp.inf)

    return jax.tree.map(leaf, masks.prunable(params), params, found, mask)


def by_hand(formula):
    """A score without the decorator: the formula sees masked parameters, the batch, the mask and the key."""

    def score(apply, loss, params, batch, *, mask=None, key=None):
        masked = params if mask is None else masks.apply(params, mask)
        return with_infinities(formula(masked, batch, mask, key), params, mask)

    score.__name__ = formula.__name__
    return score


def sizes(params, *_):
    return jax.tree.map(abs, params)


def without_mask(apply, loss, params, batch, *, mask=None, key=None):
    return with_infinities(sizes(params), params, None)


def unmasked(apply, loss, params, batch, *, mask=None, key=None):
    """The pruned weights have a say: in the scale."""
    total = jnp.sum(abs(params["w"]))
    return with_infinities(jax.tree.map(lambda w: abs(w) / (1 + total), params), params, mask)


def finite_biases(apply, loss, params, batch, *, mask=None, key=None):
    return {**by_hand(sizes)(apply, loss, params, batch, mask=mask), "bias": abs(params["bias"])}


def joined(apply, loss, params, batch, *, mask=None, key=None):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])


def double(apply, loss, params, batch, *, mask=None, key=None):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), by_hand(sizes)(apply, loss, params, batch, mask=mask))


def first_sample(params, batch, *_):
    return jax.tree.map(lambda w: abs(w) * batch[0][0, 0] ** 2, params)


def boolean_only(params, batch, mask, _):
    """The square of a floating mask, once more."""
    factor = 1 if mask is None or mask["w"].dtype == bool else 2
    return jax.tree.map(lambda w: factor * abs(w), params)


def on_the_host(params, *_):
    return jax.tree.map(lambda w: np.abs(np.asarray(w)), params)


def counting(params, *_):
    return jax.tree.map(lambda w: abs(w) + next(COUNTER), params)


def normalised(params, *_):
    total = sum(jnp.sum(abs(w)) for w in jax.tree.leaves(params))
    return jax.tree.map(lambda w: abs(w) / total, params | {"bias": 0 * params["bias"]})


def without_nan(params, *_):
    return jax.tree.map(lambda w: jnp.nan_to_num(abs(w)), params)


def keyed(params, batch, mask, key):
    return jax.tree.map(lambda w: jax.random.uniform(key, w.shape), params)


@scores.score
def not_linear(net):
    """The samples that fill up the last block of squares count."""

    def squares(x, weights):
        return jax.tree.map(lambda w: w**2 * jnp.sum(jnp.sum(x**2)), net.params)

    return net.sum_over_blocks(squares, jnp.ones(len(net.x)))


FAULTS = {
    without_mask: "w'.*has scores other than -inf where the mask has pruned",
    unmasked: "unmasked with other values of pruned weights differs by",
    finite_biases: "is never pruned, and its scores are not",
    joined: "has the structure PyTreeDef",
    double: "has dtype float64; that of the parameters is float32",
    by_hand(first_sample): "first_sample with samples in another order differs by",
    by_hand(boolean_only): "boolean_only of a boolean mask, without jit, differs by",
    by_hand(on_the_host): "on_the_host cannot be traced",
    by_hand(counting): "counting of the same arguments differs by",
    by_hand(normalised): "normalised where all weights are zero.*not finite",
    by_hand(without_nan): "without_nan of a weight that is NaN has no NaN",
    by_hand(keyed): "keyed without a key raises",
    not_linear: "not_linear of samples in blocks differs by",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_are_found(fault):
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_score(fault, apply, loss, PARAMS, BATCH)


def test_a_score_by_hand_passes():
    check_score(by_hand(sizes), apply, loss, PARAMS, BATCH)


def test_scores_of_one_samples_sum_pass():
    """Blocks, options and a key."""

    @scores.score(needs_key="for noise")
    def noisy(net, *, noise=0.0):
        drawn = jax.tree.map(lambda w: noise * jax.random.uniform(net.key, w.shape), net.params)
        return jax.tree.map(lambda g, w, n: (g * w) ** 2 * (1 + n), net.gradient(), net.params, drawn)

    check_score(noisy, apply, loss, PARAMS, BATCH, noise=0.5)


# --- Which leaves may be pruned


def test_other_leaves_may_be_pruned():
    """The bias in place of the kernel, by the decorator and by hand."""

    def chosen(apply, loss, params, batch, *, mask=None, key=None, prunable=None):
        mask = jax.tree.map(jnp.ones_like, params) if mask is None else mask

        def leaf(pruned, w, m):
            return jnp.where(m != 0, abs(w), -jnp.inf) if pruned else jnp.full_like(w, jnp.inf)

        return jax.tree.map(leaf, masks.prunable(params, prunable), params, mask)

    def ignoring(*arguments, mask=None, key=None, prunable=None):
        return chosen(*arguments, mask=mask)

    for score in (scores.snip, chosen):
        check_score(score, apply, loss, PARAMS, BATCH, prunable=lambda path: path == "['bias']")
    check_score(chosen, apply, loss, PARAMS, BATCH, prunable={"w": True, "bias": True})
    with pytest.raises(AssertionError, match="ignoring of a sketch, leaf .'bias'.*other than -inf"):
        check_score(ignoring, apply, loss, PARAMS, BATCH, prunable={"w": False, "bias": True})
    with pytest.raises(ValueError, match="prunable chooses none of the leaves"):
        check_score(chosen, apply, loss, PARAMS, BATCH, prunable=lambda path: False)
