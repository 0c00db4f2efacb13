"""Selection by score: exact counts under any ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import masks

few = settings(deadline=None, derandomize=True, max_examples=40)
keep_top, keep_top_jit = masks.keep_top, jax.jit(masks.keep_top)
SHAPES = {"a": (2, 3), "b": (4,), "c": ()}
SIZES = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
VALUES = [-np.inf, -3.0, -1.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1.0, 1.0, 2.0, 6e4, np.inf]


def tree_of(flat, dtype):
    ends = np.cumsum([0, *SIZES.values()])
    return {
        name: jnp.asarray(np.asarray(flat)[a:b].reshape(SHAPES[name]), dtype)
        for name, a, b in zip(SHAPES, ends, ends[1:], strict=False)
    }


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def top_reference(scores, keep):
    """Sort finite scores downwards, ties by index; +inf besides."""
    scores = flatten(scores).astype(np.float64)
    order = [i for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    mask = scores == np.inf
    mask[order[:keep]] = True
    return mask


@few
@given(
    st.lists(st.sampled_from(VALUES), min_size=11, max_size=11),
    st.integers(0, 11),
    st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
)
def test_keep_top_is_the_stable_sort(flat, keep, dtype):
    scores = tree_of(flat, dtype)
    keep = min(keep, int(np.isfinite(flatten(scores).astype(np.float64)).sum()))
    mask = keep_top(scores, keep)
    assert all(leaf.dtype == bool and leaf.shape == SHAPES[name] for name, leaf in mask.items())
    np.testing.assert_array_equal(flatten(mask), top_reference(scores, keep))
    np.testing.assert_array_equal(flatten(keep_top_jit(scores, keep)), flatten(mask))


def test_keep_top_orders_every_float():
    """The bits order neighbours, subnormals and both ends, in leaves of mixed dtypes."""
    tiny = np.finfo(np.float32).smallest_subnormal
    top = np.finfo(np.float32).max
    above = np.nextafter(np.float32(-1), np.float32(0))
    values = np.array([-top, -1.0, above, -tiny, 0, tiny, 1e-40, 1.0, top], np.float32)
    shuffled = np.random.default_rng(0).permutation(values)
    for keep in range(len(values) + 1):
        expected = shuffled >= np.append(values, np.inf)[-1 - keep]
        np.testing.assert_array_equal(keep_top(jnp.asarray(shuffled), keep), expected)
    mixed = {"half": jnp.array([1.0, 2.0], jnp.bfloat16), "single": jnp.array([1.5, 1.0], jnp.float32)}
    assert flatten(keep_top(mixed, 3)).tolist() == [True, True, True, False]


def test_keep_top_counts_exactly_at_scale():
    noise = jax.random.normal(jax.random.key(0), (100_003,), jnp.float32)
    for scores in (noise, jnp.round(noise), jnp.zeros_like(noise)):
        for keep in (0, 1, 5_000, 100_002, 100_003):
            mask = np.asarray(keep_top_jit(scores, keep))
            assert mask.sum() == keep
            assert np.min(scores, where=mask, initial=np.inf) >= np.max(scores, where=~mask, initial=-np.inf)


def test_keep_top_under_vmap_is_the_loop():
    scores = jnp.round(jax.random.normal(jax.random.key(1), (6, 11)))
    keeps = jnp.array([0, 1, 4, 7, 10, 11])
    together = jax.vmap(keep_top)(scores, keeps)
    for row, keep, mask in zip(scores, keeps, together, strict=True):
        np.testing.assert_array_equal(mask, keep_top(row, int(keep)))
    shared = jax.vmap(keep_top, (None, 0))(scores[0], keeps)
    np.testing.assert_array_equal(shared.sum(1), keeps)


def test_keep_top_under_a_trace_keeps_what_there_is_and_nothing_of_nan():
    scores = jnp.array([1.0, jnp.inf, -jnp.inf, 0.0])
    assert keep_top_jit(scores, 4).tolist() == [True, True, False, True]
    assert not keep_top_jit(scores.at[0].set(jnp.nan), 2).any()
    assert keep_top(jnp.zeros((0,)), 0).shape == (0,)


@pytest.mark.parametrize(
    ("scores", "keep", "message"),
    [
        ({"w": jnp.ones(2), "v": jnp.array([0.0, jnp.nan])}, 1, r"scores\['v'\] has NaN entries"),
        (jnp.ones(3), 4, "keep is 4; it takes at most 3, the number of finite scores"),
        (jnp.array([1.0, jnp.inf]), 2, "keep is 2; it takes at most 1"),
        (jnp.ones(3), -1, "keep is -1; it takes a whole number >= 0"),
        (jnp.arange(3), 1, "scores has dtype int64; it takes floating numbers"),
        ({}, 1, "scores is a pytree without arrays"),
    ],
)
def test_keep_top_refuses(scores, keep, message):
    with pytest.raises(ValueError, match=message):
        keep_top(scores, keep)


def test_keep_top_refuses_other_types():
    """By the function, or before it by its annotations where those are checked."""
    with pytest.raises((ValueError, TypeError), match="keep is 1.5; it takes a whole number|Type-check error"):
        keep_top(jnp.ones(3), 1.5)
