"""The claims that ship, and what their measured sides are made of, against brute force."""

import os
import subprocess
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import data, linalg, train
from theory import CATALOGUE, verify
from theory.catalogue import squares
from theory.catalogue.sketch import cases, moments, trained_means, training
from theory.catalogue.sketch.data_free import worst_columns
from theory.kinds import Effect
from theory.report.references import references
from theory.verdict import SUPPORTED, UNMET, VACUOUS, Tier

BY_ID = {claim.id: claim for claim in CATALOGUE}
TINY = Tier("tiny", instances=8, looks=(64, 256, 1024), tolerance=0.1, search_steps=20)
digits = cache(data.load)


def rng(*seed):
    return np.random.default_rng([7, *seed])


@cache
def small(index=0):
    """An instance with five features and at most four draws."""
    return cases.SMALL[index % 2].make(rng(index), digits())


# --- All claims

OBSERVATIONS = ("tangent/finite-width-relu", "tangent/training-error-ridge-network")
"""Claims that say what the data say."""


def test_ids_are_unique():
    assert len(BY_ID) == len(CATALOGUE) > 0


def test_the_catalogue_loads_without_a_device():
    """Nothing is computed before it is asked for: no backend starts, not even one that does not exist."""
    code = """
import sys
import jax
from theory.catalogue import CATALOGUE
assert "theory.engine" not in sys.modules
try:
    jax.devices()
except RuntimeError:
    print(len(CATALOGUE))
"""
    environment = os.environ | {"JAX_PLATFORMS": "nonsense"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stdout == f"{len(CATALOGUE)}\n", ran.stderr


@pytest.mark.parametrize("claim", CATALOGUE, ids=BY_ID)
def test_claims_are_complete(claim):
    """Beside the contract of a claim, which tests/theory/test_testing.py checks."""
    for source in claim.sources:
        assert source.key in references()
    observation = isinstance(claim.kind, Effect) or claim.id in OBSERVATIONS
    assert (claim.expected is None) == observation


SOME = (
    "sketch/optimal-probabilities", "sketch/top-k", "sketch/data-free", "sketch/data-free-random-data",
    "sketch/linear-scores",
)  # fmt: skip


@pytest.mark.parametrize("id", SOME)
def test_some_claims_hold_and_their_mutants_do_not(id):
    """One of each kind that compiles fast; the quick tier runs them all."""
    verdict = verify(BY_ID[id], tier=TINY, data=digits())
    assert verdict.as_expected
    assert verdict.cases["digits"].verdict in (SUPPORTED, VACUOUS, UNMET)


# --- Instances


LINEAR = (*cases.EVALUATED, cases.SAMPLED[-1], cases.MANY_DRAWS[-1], *cases.SMALL)


@pytest.mark.parametrize("case", LINEAR, ids=lambda case: case.name)
def test_instances_are_what_they_say(case):
    instance = case.make(rng(), digits())
    for leaf in jax.tree.leaves(instance):
        assert isinstance(leaf, np.ndarray) and np.isfinite(leaf).all()
    assert instance.w.shape == instance.tilt.shape == instance.x.shape[1:]
    assert instance.y.shape == instance.x.shape[:1]
    assert instance.tilt.sum() == pytest.approx(1) and instance.tilt.min() > 0
    assert 0.5 <= instance.beta <= 1 and 1 <= instance.budget <= 100 * instance.w.size
    again = case.make(rng(), digits())
    jax.tree.map(np.testing.assert_array_equal, instance, again)


def test_columns_are_as_their_names_say():
    deficient = cases.rank_deficient(rng())
    assert (np.linalg.norm(deficient, axis=0) == 0).any() and np.linalg.matrix_rank(deficient) <= cases.FEATURES // 2
    norms = np.linalg.norm(cases.heavy_tailed(rng()), axis=0)
    assert norms.max() > 30 * norms.min()
    cosines = np.corrcoef(cases.correlated(rng()).T)
    assert abs(cosines).min() > 0.5 and cosines.min() < -0.5
    for *_, informative in (cases.EVALUATED, cases.SAMPLED, cases.MANY_DRAWS):
        instance = informative.make(rng(), digits())
        sizes = np.linalg.norm(instance.x, axis=0) * instance.w
        assert instance.w.min() >= 0 and np.linalg.norm(instance.x @ instance.w) > 0.5 * sizes.sum()


def test_training_on_all_images_is_training_on_the_compressed_ones():
    """1,797 images in 74 rows: gradient descent cannot tell them apart."""
    x, y = map(jnp.asarray, cases.real(rng(), digits(), standardise=True))
    assert x.shape == (cases.ROWS, cases.FEATURES) and y.shape == (cases.ROWS,)
    pixels = jnp.asarray(data.standardise(digits().x))
    targets = jnp.where(digits().y == rng().integers(10), 1.0, -1.0)
    start, kept = jnp.asarray(rng(1).standard_normal(64)), jnp.asarray(rng(2).random(64) < 0.3, float)
    step = 1 / jnp.sum(pixels**2)

    def descend(x, y):
        loss = squares.stepped_half_squares
        fit = partial(train.fit, squares.predict, loss, start, optimizer=optax.sgd(1.0), steps=200)
        return fit((x, squares.with_step(y, step)), mask=kept)

    (compressed, losses), (raw, raw_losses) = descend(x, y), descend(pixels, targets)
    np.testing.assert_allclose(compressed, raw, rtol=0, atol=1e-11)
    np.testing.assert_allclose(losses, raw_losses, rtol=1e-11)
    assert raw_losses[-1] < 0.9 * raw_losses[0]


# --- Measured sides

expected_error, largest_error = jax.jit(moments.expected_error), jax.jit(moments.largest_error)
multinomial_law = jax.jit(lambda instance: (instance.near_optimal, *instance.multinomial.outcomes()))


@pytest.mark.parametrize("index", range(4))
def test_the_expected_error_is_that_of_all_masks(index):
    """By enumerating one draw, against all sequences of draws; and no mask errs by more than is said."""
    instance = small(index)
    p, found, chances = jax.device_get(multinomial_law(instance))
    errors = np.sum(((found * instance.w) @ instance.x.T - instance.x @ instance.w) ** 2, axis=1)
    expected = expected_error(instance.x, instance.w, p, instance.budget)
    assert float(expected) == pytest.approx(chances @ errors, rel=1e-12)
    assert float(largest_error(instance, p)) == pytest.approx(errors.max(), rel=1e-12)
    assert np.isnan(largest_error(instance.replace(max_budget=10**4), p))


def test_a_law_that_misses_an_empty_item_costs_nothing():
    x, w = np.diag([1.0, 2.0, 3.0]), np.array([1.0, -1.0, 0.0])
    expected = expected_error(x, w, np.array([0.5, 0.5, 0.0]), 2)
    assert float(expected) == pytest.approx((1 / 0.5 + 4 / 0.5 - 5) / 2)


# --- Constructions


@pytest.mark.parametrize("rows", [1, 10, 74])
def test_mixing_is_orthogonal_and_spreads_every_sample(rows):
    matrix = moments.mixing(rows)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(rows), atol=1e-13)
    assert abs(matrix).max() <= (2 / rows) ** 0.5 + 1e-13 and (matrix[:, 0] ** 2).min() > 0.99 / rows


def test_the_worst_columns_close_the_polygon():
    """Unit columns whose sum, weighted, vanishes: for sides of any number, zero, equal, as long as all the others."""
    special = [[1, 1], [3, -4, 5], [1, 1, 0, -2], [0, 1, 0, 1], [0.1, -5, 4, 2]]
    w = rng().lognormal(size=(200, 9)) * cases.random_signs(rng(1), 200, 9)
    w = np.vstack([w, *(np.pad(row, (0, 9 - len(row))) for row in special)])
    w = w[2 * abs(w).max(axis=1) <= abs(w).sum(axis=1)]
    columns = np.asarray(jax.jit(jax.vmap(lambda w: worst_columns(w, 4)))(w))
    np.testing.assert_allclose(np.linalg.norm(columns, axis=1), 1, rtol=1e-14)
    sums = np.einsum("bij,bj->bi", columns, w)
    flat = 2 * abs(w).max(axis=1) == abs(w).sum(axis=1)
    assert flat.sum() == 3
    np.testing.assert_allclose(sums, 0, atol=1e-7)  # in a flat triangle angles have half the digits
    np.testing.assert_allclose(sums[~flat], 0, atol=1e-12)


def test_training_reaches_the_least_squares_error():
    """Whatever is kept: everything, nothing, a zero column, columns that repeat or are of unequal size."""
    x = rng().standard_normal((9, 6)) * 10.0 ** np.array([0, -4, 3, 0, 0, 0])
    x[:, 3], x[:, 4] = 0, 2 * x[:, 0]
    y = rng(1).standard_normal(9)
    kept = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 1, 0], [0, 3, 0.5, 0, 0, 0]], float)
    found = jax.vmap(training.trained_error, in_axes=(None, None, 0))(x, y, kept)
    best = [np.sum((x @ linalg.limit(x, y, np.zeros(6), mask=row > 0) - y) ** 2) for row in kept]
    np.testing.assert_allclose(found, best, rtol=1e-12)
    residual = np.linalg.lstsq(x[:, [1, 2]], y)[1]
    np.testing.assert_allclose(found[3:], residual, rtol=1e-12)
    assert np.all(np.asarray(jax.vmap(training.trained_weights, in_axes=(None, None, 0))(x, y, kept))[kept == 0] == 0)


def test_determinantal_masks_have_the_probabilities_of_their_volumes():
    """det(X_SᵀX_S/τ) for all subsets, and among those of the fixed size."""
    model = jax.jit(trained_means._determinantal)(small())
    subsets, chances = jax.device_get(jax.jit(trained_means._enumerate_determinantal)(model))
    x, tau = small().x, float(model.law.tau)
    volumes = [np.linalg.det(x[:, s].T @ x[:, s] / tau) for s in subsets > 0]
    np.testing.assert_allclose(chances[:, 0], volumes / np.sum(volumes), atol=1e-12)
    fixed = np.where(subsets.sum(axis=1) == trained_means.FIXED_SIZE, volumes, 0)
    np.testing.assert_allclose(chances[:, 2], fixed / fixed.sum(), atol=1e-12)


def test_what_a_mask_keeps_is_all_that_training_sees():
    """The kept columns alone, in fewer rows, give the error of the masked model."""
    instance = cases.COMMON[1].make(rng(), digits())

    @jax.jit
    def both(instance, key):
        mask = training._draw_mask(instance, key)
        kept = training._keep(instance, mask)
        end = linalg.limit(instance.x, instance.y, jnp.zeros(cases.FEATURES), mask=mask > 0)
        masked = moments.squared(instance.x @ end - instance.y)
        return mask, kept, training.trained_error(kept.x, kept.y, jnp.ones(training.KEPT)), masked

    mask, kept, found, masked = jax.device_get(both(instance, jax.random.key(0)))
    assert kept.x.shape[1] == training.KEPT and 0 < np.sum(mask > 0) <= training.KEPT
    assert found == pytest.approx(masked, rel=1e-10)
