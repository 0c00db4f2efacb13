"""What benchmarks share: turns, exponents, operations, and what the docstrings state."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks import _roofs
from benchmarks import paths as path_benchmark
from benchmarks._exponents import exponent
from benchmarks._operations import product_operations
from benchmarks._roofs import Roof
from benchmarks._timing import Prepared, Timing, in_turns, prepared
from benchmarks.paths import gram_matrix, trace_in_float64
from sketchprune import paths
from tests.support.clock import Clock


@pytest.mark.parametrize(("power", "factor"), [(0.0, 3.0), (1.0, 0.5), (2.5, 1e-9), (-1.0, 4.0)])
def test_exponents_of_power_laws_are_exact(power, factor):
    sizes = [3, 10, 17, 200]
    assert exponent(sizes, [factor * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


@pytest.mark.parametrize(
    ("sizes", "costs", "message"),
    [
        ([1, 2], [1], "costs has 1 numbers; it takes one for each of the 2 sizes"),
        ([2, 2], [1, 1], r"sizes is \[2, 2\]; it takes positive numbers, two different ones"),
        ([0, 1], [1, 1], r"sizes is \[0, 1\]; it takes positive"),
        ([], [], r"sizes is \[\]; it takes positive"),
        ([1, 2], [0, 1], r"costs is \[0, 1\]; it takes positive numbers"),
    ],
)
def test_numbers_without_a_slope_are_refused(sizes, costs, message):
    with pytest.raises(ValueError, match=message):
        exponent(sizes, costs)


def test_functions_run_in_turns_for_about_as_long(monkeypatch):
    clock = Clock(monkeypatch)
    slow, fast = clock.taking("slow", [1.0] * 4), clock.taking("fast", itertools.repeat(0.25))
    timings = in_turns({"slow": slow, "fast": fast}, rounds=2)
    assert "".join(name[0] for name in clock.calls) == "sf" * 2 + ("s" + "f" * 4) * 2
    assert timings["slow"].rounds == (1.0, 1.0)
    assert timings["slow"].over(timings["fast"]) == 4.0


def test_no_fast_function_runs_for_more_than_a_second_a_round(monkeypatch):
    clock = Clock(monkeypatch)
    runs = {"slow": clock.taking("slow", [8.0] * 3), "fast": clock.taking("fast", itertools.repeat(0.25))}
    in_turns(runs, rounds=1)
    assert clock.calls.count("fast") == 2 + 4


def test_a_slow_function_runs_in_three_rounds_and_the_first_call_is_apart(monkeypatch):
    clock = Clock(monkeypatch)
    timing = in_turns({"slow": clock.taking("slow", [9.0, 4.0, 3.0, 5.0, 4.0])}, rounds=9)["slow"]
    assert timing == Timing(9.0, (3.0, 5.0, 4.0))
    assert (timing.seconds, timing.compile_s) == (4.0, 5.0)


def test_ratios_are_medians_over_rounds():
    assert Timing(0, (2.0, 30.0, 4.0)).over(Timing(0, (1.0, 2.0, 4.0))) == 2.0
    assert Timing(1.0, (2.0,)).compile_s == 0.0


def test_a_share_of_a_roof_is_work_a_second_over_work_a_second():
    roof = Roof("products", lambda: None, work=100.0)
    # 30 in 3 s beside 100 in 2 s: a fifth of its rate.
    assert roof.share(30.0, Timing(0, (3.0,)), Timing(0, (2.0,))) == pytest.approx(0.2)


@pytest.mark.parametrize(("memory", "size"), [(2**40, 32), (8 * 4 * 8, 16)])
def test_a_roof_grows_until_a_call_takes_long_enough_or_memory_ends(monkeypatch, memory, size):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(_roofs, "_memory_bytes", lambda: memory)

    def make(size):
        return Prepared(clock.taking("roof", itertools.repeat(size * 2e-4)), 0.0, size)

    roof = _roofs._grown("roof", make, lambda size: 3 * size, size=4)
    before = clock.now
    roof.run()
    assert (roof.work, clock.now - before) == (3 * size, pytest.approx(size * 2e-4))


def test_the_memory_roof_is_measured_on_more_than_caches_hold(monkeypatch):
    entries = []
    monkeypatch.setattr(_roofs, "_memory_bytes", lambda: 0)
    monkeypatch.setattr(_roofs.jnp, "ones", lambda size: entries.append(size) or np.ones(1, np.float32))
    works = [_roofs.memory().work, _roofs.cached_memory().work]
    assert [4 * size for size in entries] == [2**28, 2**20]
    assert works == [8 * 8 * 2**26, 16 * 8 * 2**18]


def test_a_prepared_function_runs_and_knows_its_memory():
    run = prepared(lambda x: x + 1, jnp.zeros(256, jnp.float32))
    assert run.run().tolist() == [1.0] * 256
    assert run.peak_bytes >= 2 * 1024
    assert run.peak_mib == run.peak_bytes / 2**20


def test_operations_of_products_count_loops_and_the_largest_branch():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert product_operations(lambda a, b: a @ b, a, b) == 2 * 3 * 5 * 7

    def loop(a, b):
        return lax.scan(lambda carry, _: (carry + jnp.sum(a @ b), None), 0.0, None, length=4)[0]

    assert product_operations(loop, a, b) == 4 * 2 * 3 * 5 * 7

    def branch(a, b):
        return lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: (a @ b) @ (b.T @ b))

    assert product_operations(branch, a, b) == 2 * (3 * 5 * 7 + 7 * 5 * 7 + 3 * 7 * 7)

    def unknown(a, b):
        return lax.while_loop(lambda carry: carry[0, 0] < 9, lambda carry: carry + a @ b, jnp.zeros((3, 7)))

    assert product_operations(unknown, a, b, trips=6) == 6 * 2 * 3 * 5 * 7


def test_references_of_the_path_kernel_agree_with_all_paths():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4, 2), (2, 2))]
    listed = paths.enumerate_paths(weights)
    assert trace_in_float64(weights) == pytest.approx(float(jnp.sum(listed.jacobian**2)), rel=1e-5)
    np.testing.assert_allclose(gram_matrix(weights), listed.gram, rtol=2e-5, atol=1e-5)


def test_rows_of_the_eigenvalue_say_what_their_errors_do_not_show(monkeypatch):
    monkeypatch.setattr(path_benchmark, "in_turns", lambda runs, rounds: in_turns(runs, rounds=1))
    weights = [np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((4, 4), (4, 2))]
    rows = list(path_benchmark._eigenvalue_rows(weights))
    assert rows[0].note.startswith("32 products") and rows[0].error < 1e-4
    assert all(row.note.endswith("error against our own products in float64") for row in rows)
