"""Bins, sums over tiles and moments, against NumPy; and that sums do not depend on how tiles come."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import search
from sketchprune.search import _bins, mesh
from sketchprune.search._program import SearchProgram
from sketchprune.search._summary import SearchSummary
from sketchprune.search._tiles import TILE, BatchSummary, _tile_sums

RNG = np.random.default_rng(5)
KEY = jax.random.key(7)
ALONE = mesh.over(jax.devices()[:1])
THREE = mesh.over(jax.devices()[:3])


def test_bins_are_the_logarithms():
    """Of any value, of zero and what counts as zero, and of the edges themselves and the numbers just below them."""
    edges = _bins.edges()
    exact = edges[_bins.ZERO_BIN + 1 : -2]  # the positive ones that float32 holds
    assert (exact == exact.astype(np.float32)).all()
    values = np.concatenate([RNG.normal(size=2000) * 10.0 ** RNG.integers(-37, 38, 2000), [0, 2**-127], exact, -exact])
    values = values.astype(np.float32)
    values = np.concatenate([values, np.nextafter(values[-2 * len(exact) :], np.float32(0))])
    places = np.asarray(_bins.bin_index(jnp.asarray(values)))
    assert (np.diff(edges) > 0).all()
    size = abs(values.astype(np.float64))
    ordinary = size >= 2.0**-126
    assert (places[~ordinary] == _bins.ZERO_BIN).all()
    signed = np.where(values > 0, places, 2 * _bins.ZERO_BIN - places)[ordinary]
    assert ((edges[signed] <= size[ordinary]) & (size[ordinary] < edges[signed + 1])).all()
    assert _bins.bin_index(jnp.array([-jnp.inf, jnp.inf])).tolist() == [0, _bins.NUM_BINS - 1]
    inner = edges[_bins.ZERO_BIN + 1 : -1]
    assert (inner[1:] / inner[:-1]).max() == pytest.approx(_bins.MAX_EDGE_RATIO) and _bins.MAX_EDGE_RATIO**0.5 < 1.011


def batch(values, *, devices=1):
    """What devices find in values [masks]: sums of real tiles, with empty tiles behind each device's."""
    sums = np.asarray(jax.jit(_tile_sums)(jnp.asarray(values)))
    sums = np.pad(sums.reshape(4, devices, -1), ((0, 0), (0, 0), (0, 3)))
    empty = np.zeros((devices, 0))
    return BatchSummary(empty, empty, np.zeros(_bins.NUM_BINS, int), np.int32(0), *sums, values.max())


def merged(*batches):
    summary = SearchSummary(1)
    for values, devices in batches:
        summary = summary.plus(batch(values, devices=devices), len(values))
    return summary


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_the_same_however_tiles_come(dtype):
    """To the last bit; and they are those of all values, whatever the first ones."""
    values = (RNG.normal(size=12 * TILE) * 10.0 ** RNG.integers(-15, 16, 12 * TILE)).astype(dtype)
    values[: 2 * TILE] = np.nan  # no finite value among the first
    values[-5:] = np.inf
    whole = merged((values, 1))
    for cuts in (
        [(values, 4)],
        [(part, 1) for part in np.split(values, 12)],
        [(values[: 6 * TILE], 3), (values[6 * TILE :], 1)],
    ):
        for name in ("finite", "reference", "deviations", "squares"):
            assert getattr(merged(*cuts), name) == getattr(whole, name), name
    finite = values[np.isfinite(values)].astype(np.float64)
    assert whole.finite == len(finite)
    rounding = np.finfo(dtype).eps * np.sqrt(len(finite))
    mean, variance = whole.moments()
    assert mean == pytest.approx(finite.mean(), abs=4 * rounding * abs(finite).mean())
    assert variance == pytest.approx(finite.var(), rel=16 * rounding)


def test_a_variance_much_smaller_than_the_mean_is_not_lost():
    values = 1e6 + RNG.normal(size=40 * TILE)
    mean, variance = merged((values, 4)).moments()
    assert mean == pytest.approx(values.mean(), rel=1e-15)
    assert variance == pytest.approx(values.var(), rel=1e-9)


def test_a_record_is_the_summary():
    summary = merged((RNG.normal(size=4 * TILE), 2), (RNG.normal(size=TILE), 1))
    summary = summary.plus(batch(np.full(TILE, np.inf)), TILE)
    restored = SearchSummary.restored(summary.record())
    for name, value in vars(summary).items():
        np.testing.assert_array_equal(getattr(restored, name), value, err_msg=name)
    assert np.isnan(SearchSummary(1).moments()).all() and SearchSummary(1).record()["reference"] is None


def test_moments_of_values_of_any_size():
    """Their squares, and the sum of a tile of them, are beyond float32. One device and three find the same."""
    count = 700
    any_scale = jnp.ones(1, jnp.float32)

    def large(number):
        return any_scale[0] * jnp.where(number > 0.9, -number, number)

    law = functools.partial(jax.random.uniform, shape=(), dtype=jnp.float32, minval=0.5, maxval=1.5)
    programs = [SearchProgram(large, law, KEY, mesh=over, num_best=count) for over in (ALONE, THREE)]
    for scale in (1e-30, 1e20, 1e37, 2e38):
        results = []
        for program, over in zip(programs, (ALONE, THREE), strict=True):
            # Data are arguments of the compiled program, so that one serves every scale.
            program._constants = [[], [mesh.replicated(over, jnp.full(1, scale, jnp.float32))]]
            batch = program.run(0, 3 * TILE // over.size, count)
            assert batch.values.dtype == np.float32
            results.append(SearchSummary(count).plus(batch, count))
        one, three = results
        values = np.array([value for value, _ in one.best])
        assert np.isfinite(values).all() and one.finite == count
        np.testing.assert_allclose(one.moments(), [values.mean(), values.var()], rtol=1e-5)
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(three, name), err_msg=name)


def test_what_float64_cannot_hold_is_nan():
    def large(number):
        return 1e200 * (1 + (number > 0.5).astype(jnp.float64))

    law = functools.partial(jax.random.uniform, shape=())
    result = search.best(large, law, 256, key=KEY, num_best=256, mesh=ALONE)
    np.testing.assert_allclose(result.mean, np.mean(result.values), rtol=1e-12)
    assert np.isnan(result.variance) and result.infinite == 0
