"""Records of several statements as one, and sums over trials in the rows of one array."""

import jax
import jax.numpy as jnp
import numpy as np

from theory.claim import Sides
from theory.measurements import TrialSums, add_up, assess, flatten, join


def test_statements_that_are_joined_come_apart_as_they_were():
    """Of different sizes and dtypes: what each says is what it says alone."""
    rng = np.random.default_rng(0)

    def sides(size, dtype):
        measured, theory = rng.standard_normal((2, 3, size)).astype(dtype)
        return jax.vmap(flatten)(Sides(measured, theory, delta=jnp.full((3, size), 0.1, dtype)))

    with jax.enable_x64(True):
        named = {"claim": sides(2, "f8"), "one": sides(1, "f4"), "three": sides(3, "f8")}
        joined = jax.jit(jax.vmap(lambda named: join(named).map(assess)))(named)
        apart = joined.split()
        assert list(apart) == ["claim", "three", "one"] and len(joined.records) == 2
        for name, values in named.items():
            alone = jax.jit(jax.vmap(assess))(values)
            assert apart[name].deviation.dtype == values.measured.dtype
            jax.tree.map(np.testing.assert_array_equal, apart[name], alone)


def test_sums_over_trials_have_the_names_of_what_they_sum():
    """Against NumPy, with a trial that is not finite, a scale that changes, and thresholds that are exceeded."""
    with jax.enable_x64(True):
        measured = np.array([[1.0, -2.0], [4.0, 0.5], [np.nan, 3.0], [2.5, 1.0]])
        scale = np.array([[2.0, 1.0], [2.0, 4.0], [2.0, 1.0], [2.0, 1.0]])
        trials = jax.vmap(lambda m, s: flatten(Sides(m, jnp.full(2, 2.0), scale=s, range=jnp.full(2, 9.0))))
        rows = jax.jit(lambda m, s: add_up(trials(m, s), (0.5, 1.0)))(measured, scale)
    sums = TrialSums.named(np.asarray(rows)[None])
    finite = np.isfinite(measured)
    deviation = np.where(finite, (measured - 2) / scale, 0)
    np.testing.assert_array_equal(sums.trials, [[3, 4]])
    np.testing.assert_array_equal(sums.broken, [[1, 0]])
    np.testing.assert_array_equal(sums.failures, [[2, 1]])
    np.testing.assert_array_equal(sums.changed_scales, [[0, 1]])
    for power, total in ((1, sums.deviation), (2, sums.squares), (4, sums.fourth_powers)):
        np.testing.assert_allclose(total, [(deviation**power).sum(axis=0)], rtol=1e-14)
    np.testing.assert_array_equal(sums.sides.measured, [[7.5, 2.5]])
    np.testing.assert_array_equal(sums.sides.theory, [[6, 8]])
    np.testing.assert_array_equal(sums.sides.scale, [[6, 4]])
    np.testing.assert_array_equal(sums.sides.range, [[27, 36]])
    assert np.isnan(sums.sides.trivial).all() and np.isnan(sums.sides.delta).all()
    np.testing.assert_array_equal(sums.exceeding, [[[3, 3], [1, 1]]])  # a trial that is broken exceeds every threshold
