"""Groups of weights: sums over blocks against a loop, and masks of groups spread over weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchprune import masks
from sketchprune.masks.groups import blocks
from tests.support import few, normal, without_type_checks

DENSE, CONV = (4, 6), (2, 3, 4, 6)
BLOCKS = {
    (DENSE, "rows"): (1, 6),
    (DENSE, "columns"): (4, 1),
    (DENSE, "channels"): (4, 1),
    (CONV, "rows"): (1, 1, 1, 6),
    (CONV, "columns"): (1, 1, 4, 1),
    (CONV, "channels"): (2, 3, 4, 1),
    (DENSE, (2, 3)): (2, 3),
    (DENSE, (3,)): (1, 3),
    (CONV, (4, 1)): (1, 1, 4, 1),
    (CONV, (None, 1, None, 2)): (2, 1, 4, 2),
}
VALUES = [-np.inf, -2.0, -0.0, 0.0, 1.0, 3.0, np.inf]


def members(shape, block):
    """Of each block its place, and the slice of the weights."""
    for place in itertools.product(*(range(n // b) for n, b in zip(shape, block, strict=True))):
        yield place, tuple(slice(i * b, (i + 1) * b) for i, b in zip(place, block, strict=True))


def score_of(weights):
    """By the definition, in a loop's words."""
    if np.isnan(weights).any():
        return np.nan
    if (weights == np.inf).any():
        return np.inf
    left = weights[weights != -np.inf]
    return left.sum() if left.size else -np.inf


@pytest.mark.parametrize(("shape", "groups"), BLOCKS)
def test_scores_are_summed_over_blocks(shape, groups):
    scores, block = np.array(normal(1, *shape)), BLOCKS[shape, groups]
    scores.ravel()[::7] = -np.inf
    scores.ravel()[::17] = np.inf
    found = masks.group_scores(scores, groups)
    assert found.shape == tuple(n // b for n, b in zip(shape, block, strict=True)) and found.dtype == scores.dtype
    spread = np.asarray(masks.spread(found, np.zeros(shape)))
    for place, inside in members(shape, block):
        np.testing.assert_allclose(found[place], score_of(scores[inside]), rtol=1e-12)
        assert (spread[inside] == found[place]).all()


@few(40)
@given(st.lists(st.sampled_from(VALUES), min_size=12, max_size=12), st.sampled_from([(2, 1), (1, 3), (4, 3), (1, 1)]))
def test_infinite_scores_mean_in_a_group_what_they_mean_in_a_weight(flat, block):
    scores = np.reshape(flat, (4, 3))
    found = np.asarray(masks.group_scores(scores, block))
    for place, inside in members((4, 3), block):
        assert found[place] == score_of(scores[inside])
    kept = np.asarray(masks.spread(masks.keep_top(found, int(np.isfinite(found).sum())), scores))
    np.testing.assert_array_equal(kept, scores > -np.inf)  # all that can be kept, and nothing that was pruned


def test_a_nan_is_the_score_of_its_group():
    scores = jnp.array([[np.nan, 1.0], [np.inf, 2.0], [-np.inf, 3.0]])
    assert np.isnan(masks.group_scores(scores, "columns")[0, 0]) and masks.group_scores(scores, "columns")[0, 1] == 6
    with pytest.raises(ValueError, match="scores has NaN entries"):
        masks.keep_top(masks.group_scores(scores, "columns"), 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_sum_that_overflows_stays_a_number(dtype):
    large = jnp.full((4, 2), jnp.finfo(dtype).max, dtype).at[:, 1].multiply(-1)
    found = masks.group_scores(large, "columns")
    assert found.dtype == jnp.float32 and jnp.isfinite(found).all() and found[0, 0] > 0 > found[0, 1]


def test_leaves_that_are_never_pruned_have_no_groups():
    scores = {"kernel": jnp.ones((4, 6)), "bias": jnp.full(6, jnp.inf), "head": jnp.full((6, 5), jnp.inf)}
    shapes = jax.tree.map(jnp.shape, masks.group_scores(scores, (4, 2), lambda path: path == "['kernel']"))
    assert shapes == {"kernel": (1, 3), "bias": (6,), "head": (6, 5)}
    assert blocks("scores", scores, "rows") == {"kernel": (1, 6), "bias": (1,), "head": (1, 5)}
    assert jax.tree.map(jnp.shape, masks.group_scores(jnp.ones(6), (3,))) == (2,)  # a bare vector


def test_empty_leaves_have_no_groups():
    for shape, groups in itertools.product([(0, 3), (3, 0)], ["rows", "columns", "channels", (1, 1)]):
        scores = jnp.zeros(shape)
        found = masks.group_scores(scores, groups)
        assert found.ndim == 2 and masks.spread(found, scores).shape == shape


def test_groups_under_jit_and_vmap_are_the_loop():
    scores = normal(2, 5, *CONV)

    def select(scores, keep):
        return masks.spread(masks.keep_top(masks.group_scores(scores, "channels"), keep), scores)

    keeps = jnp.arange(1, 6)
    together = jax.jit(jax.vmap(select))(scores, keeps)
    for one, keep, mask in zip(scores, keeps, together, strict=True):
        np.testing.assert_array_equal(mask, select(one, int(keep)))
        assert mask.sum() == keep * 24  # channels of 2·3·4 weights each


def test_spread_takes_the_dtype_of_the_mask():
    sketch = masks.spread(jnp.array([[0.0, 2.5]], jnp.float32), np.ones((3, 4)))
    assert sketch.dtype == jnp.float32 and sketch.tolist() == [[0, 0, 2.5, 2.5]] * 3
    assert masks.spread(jnp.array([[1, 0]]), np.ones((1, 2))).dtype == jnp.array(1).dtype


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("units", "groups is 'units'; it takes 'rows', 'columns', 'channels' or a tuple of lengths"),
        ((), r"groups is \(\); it takes 'rows'"),
        ((0, 1), r"groups is \(0, 1\); it takes whole numbers >= 1, or None for a whole axis"),
        ((2.0, 1), r"groups is \(2.0, 1\); it takes whole numbers"),
        ((4, 1), r"scores\['second'\] has shape \(6, 2\); it takes multiples of the block \(4, 1\)"),
        ((1, 1, 1), r"scores\['first'\] has shape \(4, 6\); it takes 3 axes or more for groups \(1, 1, 1\)"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    scores = {"first": jnp.ones((4, 6)), "second": jnp.ones((6, 2))}
    with without_type_checks(), pytest.raises(ValueError, match=message):
        masks.group_scores(scores, groups)


def test_other_misuse_is_refused():
    with pytest.raises(ValueError, match=r"scores has shape \(3,\); it takes 2 axes or more for groups 'columns'"):
        masks.group_scores(jnp.ones(3), "columns")
    with pytest.raises(ValueError, match="scores has dtype int64; it takes floating numbers"):
        masks.group_scores(jnp.ones((2, 2), int), "rows")
    for shape in ((4, 2), (3,), (0, 1)):
        with pytest.raises(ValueError, match=r"mask\['w'\] has shape .*; it takes lengths that divide those of scores"):
            masks.spread({"w": jnp.ones(shape)}, {"w": jnp.ones((3, 4))})
    with pytest.raises(ValueError, match=r"mask has no leaf \['w'\]; it takes the structure of scores"):
        masks.spread({"v": jnp.ones(3)}, {"w": jnp.ones((3, 4))})
