"""Figures of kernels, subset sums and trained networks: what they draw is what the library says of one instance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from figures import ntk_sketch, sparse_to_sparse, subset_sums
from figures._config import Config
from figures._sweeps import rows_of
from sketchprune import laws, prune, sketch, sweep, train
from sketchprune.laws import ErdosRenyiCounts

pytestmark = pytest.mark.usefixtures("jax_settings")


def test_sampled_kernel_errors_agree_with_the_second_moment():
    rng = np.random.default_rng(0)
    jacobian, p = jnp.asarray(rng.standard_normal((3, 8))), jnp.asarray(rng.dirichlet(np.ones(8)) * 0.5 + 1 / 16)
    kernel, budgets, masks = jacobian @ jacobian.T, jnp.array([2, 9]), 20_000
    measured = ntk_sketch._kernel_errors(jax.random.key(1), jacobian, kernel, p, budgets, masks, 9)
    for found, budget in zip(measured, budgets, strict=True):
        expected = laws.Multinomial(p, budget).error(sketch.tangent_items(jacobian)) / jnp.sum(kernel**2)
        assert float(found) == pytest.approx(float(expected), rel=0.06)


def test_distances_keep_to_their_bounds_and_optimal_laws_are_best(made):
    numbers = made("ntk_sketch")
    for index in range(len(ntk_sketch.TRAINED)):
        assert (numbers[f"distance_{index}_mean"] <= numbers[f"bound_{index}_mean"] * (1 + 1e-9)).all()
        assert numbers[f"distance_{index}_mean"][0] > 0
    for name in ("weights", "uniform"):
        assert (numbers[f"{name}_theory_mean"] >= numbers["optimal_theory_mean"]).all()


def test_coverage_grows_and_needs_the_least_number_of_items(made):
    numbers = made("subset_sums")
    least = int(np.log2(1 / (2 * subset_sums.EPSILON)))
    for index in range(len(subset_sums.DENSITIES)):
        covered = numbers[f"covered_{index}"]
        assert (np.diff(covered) >= 0).all() and (covered[:least] == 0).all()
        assert (numbers[f"measured_{index}"] <= numbers[f"bound_{index}"] * (1 + 1e-9)).all()
    assert numbers["covered_0"].sum() > numbers["covered_1"].sum() > numbers["covered_2"].sum()
    assert numbers["covered_0"][-1] > 0.9 * numbers["sets"]


def test_a_target_reads_the_pixels_that_vary_most():
    kernels, x = subset_sums._target(Config(), jax.random.key(0), steps=0)
    assert x.shape[1] == subset_sums.PIXELS and abs(x).max() == 1
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    assert [kernel.shape for kernel in kernels] == [(16, 8), (8, 10)]


def test_rules_keep_one_count_and_preserving_flow_adds(made):
    rows = rows_of(made("layer_densities"))
    plain = {row.realised_density for row in rows if row.sampler == "" and row.score != "dense"}
    assert len(plain) == 1
    for row in rows:
        if row.sampler:
            assert row.realised_density >= min(plain)
    assert {row.seed for row in rows} == {0, 1} and len(rows) == 2 * (1 + 8)


def test_what_is_found_in_a_source_is_what_the_method_finds_alone(made):
    """Edge-popup, in the random source of the second seed."""
    work = sparse_to_sparse.SETTINGS["tiny"]
    problem = sweep.problem(work.network, *Config().halves(work.samples), work.training)
    weight_key, source_key, search_key = jax.random.split(jax.random.key(1), 3)
    params = problem.params(weight_key)
    source = ErdosRenyiCounts.at_density(params, work.sources[1]).sample(jax.random.fold_in(source_key, 1))
    ticket = jax.jit(
        functools.partial(
            train.edge_popup,
            problem.trained,
            train.cross_entropy,
            data=problem.train,
            optimizer=problem.optimizer,
            steps=work.training.steps,
            keep=prune.count(params, work.frozen),
            batch_size=problem.batch_size,
        )
    )(params=params, mask=source, key=search_key)
    answers = problem.trained(ticket.params, problem.test[0]).argmax(axis=1)
    accuracy = float((answers == problem.test[1]).mean())
    assert made("sparse_to_sparse")["edge_popup"][1, 1] == pytest.approx(accuracy, abs=2 / len(answers))


def test_counts_go_from_the_source_to_what_is_kept():
    work = Config().settings(sparse_to_sparse.SETTINGS)
    problem = sweep.problem(work.network, *Config().halves(), work.training)
    for name, length in (("imp", sparse_to_sparse.ROUNDS), ("gradual", 500 // 2 // 12), ("rigl", 1)):
        keeps = sparse_to_sparse._keeps(name, problem, 1000, 50)
        assert len(keeps) == length and keeps[-1] == 50 and (np.diff(keeps) <= 0).all()
