"""Counterexamples are made as small and as round as the claim allows, and contradict it still."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.claims import DATA, FALSE, TINY, all_coins, coins, programs, toy, unbiased, vector, verdict
from theory.catalogue.paths.cases import draw_network, gaussian
from theory.catalogue.paths.cuts import with_layers, with_units
from theory.catalogue.paths.networks import CONVOLUTIONAL, DENSE, SHORT_DENSE, SHORT_WIDTHS
from theory.catalogue.paths.scores import CONSERVATION_VARIANTS
from theory.catalogue.paths.spectra import EIGEN_ELEMENTWISE
from theory.claim import Case, Sides, along
from theory.counterexamples import shrink
from theory.counterexamples.simplify import number_cost
from theory.engine import Programs
from theory.kinds import Bound, Expectation, Identity
from theory.runs import Runs
from theory.statistics import ROUNDING
from theory.verdict import REFUTED
from theory.verification import verify_with

FREE = {name: replace(FALSE[name], free=("x",)) for name in ("identity", "bound")}


def smallest(claim, tier=TINY):
    """The shrunk counterexample of a verdict."""
    found = verify_with(Programs(claim), tier, 0, DATA)
    assert found.verdict == REFUTED
    return found.counterexample.smaller


def test_the_smallest_counterexample_of_a_bound():
    """(Σx)² ≤ (n/2)Σx² fails for two equal entries of three, and for one entry alone."""
    found = smallest(FREE["bound"])
    assert sorted(found.values["x"]) == [0, 1, 1]
    assert (found.measured, found.theory, found.found_by) == (4, 3, "shrinking")
    cut = smallest(replace(FREE["bound"], axes={"entries": along(x=0)}))
    assert (cut.values["x"], cut.measured, cut.theory) == ([1], 1, 0.5)


def test_the_smallest_counterexample_of_an_identity():
    found = smallest(FREE["identity"])
    assert sorted(found.values["x"]) == [0, 1, 1] and (found.measured, found.theory) == (4, 2)


def test_the_smallest_counterexample_of_an_enumerated_expectation():
    def trial(v, coins):
        right = unbiased(v, coins)["claim"]
        return {"claim": right._replace(theory=right.theory * 1.5, scale=jnp.ones(3))}

    enumerable = (Case("small", vector, enumerable=True),)
    claim = toy(Expectation(), trial, draw=coins, outcomes=all_coins, cases=enumerable, free=("x",))
    assert sorted(smallest(claim).values["x"]) == [0, 0, 1]


def test_fields_that_are_not_free_stay():
    found = verdict(FREE["identity"]).counterexample
    assert found.smaller.values["p"] == found.values["p"]
    kept = verdict(replace(FALSE["identity"], kind=Identity())).counterexample
    assert kept.smaller.values in [
        {"x": x.tolist(), "p": p.tolist()} for x, p in zip(*_instances(FALSE["identity"]), strict=True)
    ]


def _instances(claim):
    raw = Runs(programs(claim), TINY, 0, DATA).groups[0].raw
    return raw.x, raw.p


def test_hypotheses_are_met():
    apart = {"entries differ by 1/4 or more": lambda v: jnp.min(jnp.diff(jnp.sort(v.x))) >= 0.25}
    x = np.sort(smallest(replace(FREE["bound"], hypotheses=apart)).values["x"])
    assert np.diff(x).min() >= 0.25 and x.sum() ** 2 > 1.5 * (x**2).sum()


def test_a_statement_by_trials_is_not_shrunk():
    assert verdict(FALSE["probability"]).counterexample.smaller is None


def test_the_same_counterexample_shrinks_to_the_same():
    first, second = (verify_with(Programs(FREE["bound"]), TINY, 0, DATA) for _ in range(2))
    assert first == second and first.counterexample.smaller is not None


def test_what_a_spent_budget_leaves_contradicts_the_claim(monkeypatch):
    monkeypatch.setattr(shrink, "MAX_EVALUATIONS", 80)
    x = np.array(smallest(FREE["identity"]).values["x"])
    assert abs(x.sum() ** 2 - (x**2).sum()) > ROUNDING * (x**2).sum()


def test_an_excess_that_is_not_finite_is_none():
    """0/0 contradicts nothing: what shrinks must not get there."""

    def trial(v, _):
        return Sides(jnp.sum(v.x) ** 2 / jnp.sum(v.x**2), jnp.asarray(0.5))

    found = smallest(toy(Bound(), trial, free=("x",)))
    assert sorted(found.values["x"]) == [0, 0, 1] and found.measured == 1


def test_what_rounding_leaves_is_no_counterexample():
    """21(x₀/3 + x₁/7) − 7x₀ − 3x₁ is rarely 0 in floats, and nothing says how small it is beside x₀."""

    def trial(v, _):
        left = abs(21 * (v.x[0] / 3 + v.x[1] / 7) - 7 * v.x[0] - 3 * v.x[1])
        return Sides(left + jnp.maximum(v.x[2] - 1, 0), jnp.asarray(0.0))

    def make(rng, data):  # the last entry has the most digits, so that it is set to zero first
        return vector(rng, data).replace(x=np.array([0.37, 0.1, rng.uniform(2, 3)]))

    beyond = Case("beyond", make)
    found = smallest(toy(Bound(), trial, cases=(beyond,), free=("x",)))
    assert found.values["x"] == [0, 0, found.measured + 1] and found.measured in (1, 2)


@pytest.mark.parametrize(("value", "cost"), [(0.0, 0), (-0.0, 0), (1.0, 1), (-1.0, 2), (12.0, 4), (0.125, 5)])
def test_simple_numbers_cost_little(value, cost):
    assert number_cost(value) == cost


# --- Networks


def test_a_network_is_cut_to_the_units_that_are_kept():
    """Against the layers as matrices: the rows and columns of the units that stay."""
    net = draw_network(
        np.random.default_rng(0), lambda: gaussian(np.random.default_rng(1), SHORT_WIDTHS[0]), SHORT_DENSE
    )
    units = (np.array([0, 2]), np.array([1, 2]), np.array([1]))
    cut = with_units(net, units)
    theta = jnp.asarray(net.theta * net.kept)
    pairs = zip(net.matrices(theta), zip(units, units[1:], strict=False), strict=True)
    first, second = (np.asarray(matrix)[np.ix_(*pair)] for matrix, pair in pairs)
    expected = np.maximum(net.x[:, units[0]] @ first, 0) @ second
    found = cut.apply(jnp.asarray(cut.theta * cut.kept), jnp.asarray(cut.x))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert cut.theta.shape == (6,) and cut.in_layer.tolist() == [[1] * 4 + [0] * 2, [0] * 4 + [1] * 2]
    assert sorted(np.concatenate([index.ravel() for index in cut.indices])) == list(range(6))
    np.testing.assert_array_equal(cut.into_unit[0].sum(axis=0), [1] * 4 + [0] * 2)


def test_a_network_is_cut_to_the_layers_that_are_kept():
    """The middle layer of a convolutional and of a dense network maps as many units as it has inputs: it may go."""
    rng = np.random.default_rng(2)
    for topology in (DENSE, CONVOLUTIONAL):
        net = draw_network(rng, lambda: gaussian(rng), topology)
        cut = with_layers(net, np.array([0, 2]))
        first, _, last = (np.asarray(matrix) for matrix in net.matrices(jnp.asarray(net.theta * net.kept)))
        found = cut.apply(jnp.asarray(cut.theta * cut.kept), jnp.asarray(cut.x))
        np.testing.assert_allclose(found, np.maximum(net.x @ first, 0) @ last, rtol=1e-14)
        assert cut.depth == 2 and len(cut.theta) == sum(len(np.unique(i[c != 0])) for i, c in zip(
            cut.indices, cut.coefficients, strict=True))  # fmt: skip
        on_hidden = cut.into_unit[0].sum(axis=0) + cut.out_of_unit[0].sum(axis=0)
        np.testing.assert_array_equal(on_hidden, np.ones(len(cut.theta)))
        np.testing.assert_array_equal(cut.in_layer.sum(axis=0), np.ones(len(cut.theta)))
        np.testing.assert_array_equal(cut.into_unit[0].sum(axis=0), cut.in_layer[0])


@pytest.mark.parametrize("layers", [[], [0, 1], [1, 2]], ids=str)
def test_layers_that_do_not_fit_are_refused(layers):
    net = draw_network(np.random.default_rng(0), lambda: gaussian(np.random.default_rng(1)))
    with pytest.raises(ValueError, match="layers is .*; it takes layers that fit each other"):
        with_layers(net, np.array(layers, int))


def test_a_false_identity_shrinks_to_fewer_layers():
    with jax.enable_x64(True):
        values = smallest(replace(CONSERVATION_VARIANTS, cases=CONSERVATION_VARIANTS.cases[:1])).values
    assert [np.shape(values[f"indices[{layer}]"]) for layer in range(2)] == [(1, 1), (1, 1)]
    assert "indices[2]" not in values


def test_a_false_bound_on_spectra_shrinks_to_two_by_two():
    """Without the case that holds the known example: from what instances and the search show."""
    claim = replace(EIGEN_ELEMENTWISE, cases=EIGEN_ELEMENTWISE.cases[:1])
    with jax.enable_x64(True):
        values = smallest(claim, replace(TINY, instances=16)).values
    assert np.shape(values["x"])[0] * np.shape(values["indices[1]"])[1] <= 2  # rows of the tangent kernel
    assert np.shape(values["indices[0]"]) <= (2, 2)
    assert len(values["theta"]) <= 6
