"""Deterministic search against trying every subset."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune.search import subsets
from tests.support.subset_models import KINDS, brute_force, error, model


@pytest.mark.parametrize("kind", KINDS)
def test_local_search_ends_where_no_move_helps(kind):
    x, w = model(kind)
    for keep in (0, 3, 8):
        mask, value = subsets.local_search(jnp.asarray(x), jnp.asarray(w), keep, key=jax.random.key(3), starts=4)
        mask = np.asarray(mask)
        assert mask.sum() <= keep and float(value) == pytest.approx(error(x, w, mask), abs=1e-9)
        assert float(value) >= brute_force(x, w, keep) - 1e-9
        for i, j in itertools.product(range(-1, 8), repeat=2):
            other = mask.copy()
            if i >= 0:
                other[i] = ~other[i]
            if j >= 0:
                other[j] = ~other[j]
            if other.sum() <= keep:
                assert error(x, w, other) >= float(value) - 1e-9
        many, least = subsets.local_search(jnp.asarray(x), jnp.asarray(w), keep, key=jax.random.key(3), starts=64)
        assert float(least) == pytest.approx(brute_force(x, w, keep), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_adds_the_best_each_time(kind):
    x, w = model(kind)
    chosen = np.zeros(8, bool)
    for _ in range(4):
        tries = [error(x, w, chosen | (np.arange(8) == i)) if not chosen[i] else np.inf for i in range(8)]
        if min(tries) < error(x, w, chosen) - 1e-12:
            chosen[int(np.argmin(tries))] = True
    mask, value = subsets.greedy(jnp.asarray(x), jnp.asarray(w), 4)
    assert float(value) == pytest.approx(error(x, w, mask), abs=1e-9)
    assert float(value) == pytest.approx(error(x, w, chosen), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_matching_pursuit_is_match_and_refit(kind):
    x, w = model(kind)
    columns, target = x * w, x @ w
    norms = np.linalg.norm(columns, axis=0)
    for keep in (0, 1, 3, 8):
        chosen, residual, fit = [], target, np.zeros(0)
        while len(chosen) < keep:
            match = abs(residual @ columns) / np.where(norms > 0, norms, np.inf)
            for item in range(8):  # what the chosen ones span cannot be added
                stacked = columns[:, [*chosen, item]]
                if np.linalg.matrix_rank(stacked) <= len(chosen):
                    match[item] = -1
            if match.max() < 0:
                break
            chosen.append(int(match.argmax()))
            fit = np.linalg.lstsq(columns[:, chosen], target)[0]
            residual = target - columns[:, chosen] @ fit
        mask, value = subsets.orthogonal_matching_pursuit(jnp.asarray(x), jnp.asarray(w), keep)
        assert float(value) == pytest.approx(residual @ residual, abs=1e-9)
        assert error(x, w, mask) == pytest.approx(float(value), abs=1e-9)
        if keep < 8:
            np.testing.assert_allclose(np.asarray(mask)[chosen], fit, atol=1e-9)


def test_greedy_keeps_nothing_that_lowers_nothing(caplog):
    """And one program serves every ``keep``."""
    w = jnp.array([2.0, 0.0, 0.0, 1.0])
    with jax.log_compiles():
        kept = [subsets.greedy(jnp.eye(4), w, keep)[0].tolist() for keep in range(5)]
    assert kept == [[False] * 4, [True, False, False, False], *3 * [[True, False, False, True]]]
    compiled = [
        record for record in caplog.records if "Finished XLA compilation of jit(_greedy)" in record.getMessage()
    ]
    assert len(compiled) == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_matching_pursuit_of_columns_that_are_nearly_parallel(dtype):
    """Directions stay orthogonal: the error is that of a dense fit, for columns of condition 1e5 and of rank 12."""
    rng = np.random.default_rng(4)
    common, own = rng.normal(size=(40, 1)), rng.normal(size=(40, 12))
    few = common + (1e-2 if dtype == jnp.float32 else 1e-5) * own
    x = np.concatenate([few, few @ rng.normal(size=(12, 12))], axis=1)
    w = rng.normal(size=24)
    for keep in (6, 12, 24):
        mask, value = subsets.orthogonal_matching_pursuit(jnp.asarray(x, dtype), jnp.asarray(w, dtype), keep)
        chosen = np.flatnonzero(mask)
        columns, target = x * w, x @ w
        residual = target - columns[:, chosen] @ np.linalg.lstsq(columns[:, chosen], target)[0]
        assert len(chosen) == min(keep, 12)
        rounding = 10 * jnp.finfo(dtype).eps * np.linalg.norm(target)
        assert float(value) ** 0.5 == pytest.approx(np.linalg.norm(residual), abs=rounding)


def test_everything_works_under_jit_and_vmap():
    models = [model("gaussian", seed=seed) for seed in range(3)]
    x, w = (jnp.asarray(np.stack(part)) for part in zip(*models, strict=True))
    for search in (
        lambda x, w: subsets.greedy(x, w, 3),
        lambda x, w: subsets.local_search(x, w, 3, key=jax.random.key(1), starts=3),
        lambda x, w: subsets.orthogonal_matching_pursuit(x, w, 3),
    ):
        together = jax.jit(jax.vmap(search))(x, w)
        for i in range(3):
            for one, other in zip(search(x[i], w[i]), together, strict=True):
                np.testing.assert_allclose(one, other[i], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: subsets.greedy(x, w, 9), "keep is 9; it takes at most 8"),
        (lambda x, w: subsets.orthogonal_matching_pursuit(x, w, -1), "keep is -1"),
        (lambda x, w: subsets.local_search(x, w, 2, key=jax.random.key(0), starts=0), "starts is 0"),
        (lambda x, w: subsets.greedy(x[:, :0], w[:0], 0), "w has 0 weights; it takes at least 1"),
    ],
)
def test_bad_input(call, message):
    x, w = map(jnp.asarray, model("gaussian"))
    with pytest.raises(ValueError, match=message):
        call(x, w)
