"""The plan: costs of programs that are counted by hand, the model's arithmetic, and what its rows say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks import plan
from benchmarks.plan import model, programs
from benchmarks.plan.chips import CHIPS, POD, Chip, Rates
from benchmarks.plan.costs import Cost, collective_bytes, cost
from benchmarks.plan.model import Prediction, Work, on_device, predicted
from sketchprune.search import mesh as meshes
from sketchprune.search._program import SearchProgram
from sketchprune.search._tiles import MAX_TILES_PER_CALL, Chunking

RATES = Rates(products=100.0, elementwise=10.0, lookups=1.0, memory=1000.0)
CHIP = Chip("chip", RATES, memory=1e9, interconnect=50.0, node=3, network=10.0, call=0.5, source="", assumed="")
COST = Cost(products=200.0, elementwise=10.0, lookups=3.0, bytes=500.0, memory=64)


def test_a_product_is_counted_by_hand():
    a, b = jnp.ones((4, 8), jnp.float32), jnp.ones((8, 2), jnp.float32)
    found = cost(lambda a, b: a @ b, a, b)
    assert (found.products, found.elementwise, found.lookups) == (2 * 4 * 8 * 2, 0, 0)
    assert found.bytes == found.memory == 4 * (4 * 8 + 8 * 2 + 4 * 2)


def test_arithmetic_beside_products_is_counted_by_hand():
    a, b = jnp.ones((4, 8), jnp.float32), jnp.ones((8, 2), jnp.float32)
    found = cost(lambda a, b: (a + 1.0) @ (b * b), a, b)
    assert (found.products, found.elementwise) == (2 * 4 * 8 * 2, 4 * 8 + 8 * 2)


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
    x = jnp.ones(100, jnp.float32)
    once = cost(lambda x: lax.scan(lambda carry, _: (carry * x, None), x, length=1)[0], x).elementwise

    def elementwise(outer, inner):
        def body(carry, _):
            return lax.scan(lambda carry, _: (carry * x, None), carry, length=inner)[0], None

        return cost(lambda x: lax.scan(body, x, length=outer)[0], x).elementwise

    # A round of a loop takes two operations of its own: the counter, and its comparison with the end.
    assert once == pytest.approx(100, abs=4)
    assert elementwise(3, 5) == pytest.approx(15 * 100, abs=15 * 4)


def test_a_loop_of_unknown_length_takes_the_length_that_is_given():
    def function(x):
        return lax.while_loop(lambda carry: carry[0] < 1e9, lambda carry: carry * 2.0, x)

    x = jnp.ones(100, jnp.float32)
    assert cost(function, x).elementwise == pytest.approx(100, abs=4)
    assert cost(function, x, trips=7).elementwise == pytest.approx(700, abs=30)


def test_lookups_are_slices_at_computed_places():
    table, places = jnp.zeros((10, 4)), jnp.array([1, 2, 3])
    assert cost(lambda table, at: table[at], table, places).lookups == 3
    assert cost(lambda table, at: table.at[at].add(1.0), table, places).lookups == 3
    assert cost(lambda table, at: table.ravel()[at], table, places).lookups == 3

    def many(table, at):
        return lax.scan(lambda carry, _: (carry + table[at], None), table[at], length=5)[0]

    assert cost(many, table, places).lookups == 3 + 5 * 3


def test_the_generator_is_counted_without_its_loops():
    per_word = [cost(lambda key, n=n: jax.random.bits(key, (n,)), jax.random.key(0)).elementwise / n for n in (64, 640)]
    # 20 rounds of 5 operations and more for two words, and what makes the counters.
    assert 50 < per_word[1] < 200
    assert per_word[0] == pytest.approx(per_word[1], rel=0.05)


def test_what_a_search_exchanges_is_counted_by_hand():
    assert collective_bytes("stablehlo.add %a, %b : tensor<4xf32>") == 0
    text = (
        '"stablehlo.all_gather"(%1) <{}> : (tensor<2x3xf32>) -> tensor<1x2x3xf32>\n %2 = stablehlo.add -> tensor<9xf32>'
    )
    assert collective_bytes(text) == 4 * 6
    reduced = '"stablehlo.all_reduce"(%1) ({\n ^bb0:\n stablehlo.return\n }) : (tensor<i32>) -> tensor<i32>'
    assert collective_bytes(reduced) == 4
    program = SearchProgram(
        jnp.sum, lambda key: jax.random.normal(key, (4,), jnp.float32), jax.random.key(0),
        mesh=meshes.over(jax.devices()[:1]), num_best=3,
    )  # fmt: skip
    found = collective_bytes(program.lowered(Chunking(1, 256), "tpu").as_text())
    bins = program.run(0, 256, 256).histogram.size
    sums = 4 * (MAX_TILES_PER_CALL + 1)
    assert found == 4 * (3 + 3 + bins + sums + 1 + 1)  # values, places, histogram, sums, undefined, largest


def test_parts_are_work_over_rate():
    assert on_device(COST, 2, RATES) == {"products": 1.0, "elementwise": 0.5, "lookups": 1.5, "memory": 0.25}


def test_chips_share_work_and_the_host_does_not():
    work = Work("unit", COST, units=2, units_per_call=10, host=lambda chips: 0.1 * chips, exchanged=100)
    one, four = predicted(work, CHIP, 1), predicted(work, CHIP, 4)
    assert one.parts == pytest.approx(on_device(COST, 2, RATES) | {"host": (0.5 + 0.1) / 10, "exchange": 0.0})
    expected = {"products": 0.25, "elementwise": 0.125, "lookups": 0.375, "memory": 0.0625}
    assert four.parts == pytest.approx(expected | {"host": (0.5 + 0.4) / 40, "exchange": (2 / 50 + 1 / 10) * 100 / 40})
    assert four.share("lookups") == pytest.approx(0.375 / four.seconds)
    with pytest.raises(ValueError, match="chips is 0; it takes a whole number >= 1"):
        predicted(work, CHIP, 0)


def planned(**fields):
    work = Work("unit", COST, units=2, units_per_call=10, memory=2**21, **fields)
    return programs.Planned(work, lambda: None, 2, "a remark")


@pytest.mark.parametrize(("seconds", "met"), [(3.25, True), (4.8, True), (5.0, False), (2.2, True), (2.0, False)])
def test_a_model_that_is_off_says_what_it_misses(seconds, met):
    measured, modelled = plan.check(planned().work, seconds, RATES)
    assert (measured.seconds, modelled.seconds) == (seconds, 3.25)
    assert modelled.ratio == pytest.approx(3.25 / seconds)
    assert modelled.met is met
    assert ("it misses" in modelled.note) is not met
    assert modelled.note.startswith("lookups 46%, products 31%, elementwise 15%, memory 8%")


def test_a_plan_says_what_bounds_it_how_long_it_lasts_and_what_a_restart_loses():
    row = plan.plan(planned(exchanged=1), CHIP, 1)
    assert row.seconds == pytest.approx(3.25 + 0.05)
    assert row.memory_mib == 2.0
    assert row.met  # it fits the chip
    assert row.note.startswith("lookups 45%")
    assert "10^9 in 105 years" in row.note  # 3.3e9 s
    assert "a restart loses 18" in row.note  # a minute of 3.3 s each
    assert "a restart loses 10;" in plan.plan(planned(), CHIP, 1).note  # no checkpoints: a call
    assert "a restart loses 80" in plan.plan(planned(), CHIP, 8).note


def test_the_plans_follow_the_check(monkeypatch):
    monkeypatch.setattr(programs, "all_work", lambda: iter([planned()]))
    rows = list(plan.rows())
    assert [row.by for row in rows[:3]] == ["sketchprune, here", "the model, here", "the model, 1 x H200"]
    assert len(rows) == 2 + 3 * len(CHIPS)
    assert all(row.seconds > 0 for row in rows)


def test_chips_have_figures_and_sources():
    for chip in CHIPS:
        assert all(np.isfinite(rate) and rate > 0 for rate in (*chip.rates, chip.memory, chip.interconnect, chip.call))
        assert "http" in chip.source and chip.assumed
        # A plan with a second node needs the rate between nodes.
        assert np.isfinite(chip.exchange_seconds(POD, 1.0)), chip.name


def test_no_more_than_eight_gpus_exchange_at_the_rate_of_a_node():
    (h200,) = (chip for chip in CHIPS if chip.name == "H200")
    assert h200.exchange_seconds(8, 1.0) == 7 / h200.interconnect
    assert h200.exchange_seconds(POD, 1.0) == 7 / h200.interconnect + 248 / h200.network
    assert h200.network < h200.interconnect and "network" in h200.assumed


def test_a_prediction_adds_its_parts():
    found = Prediction({"a": 1.0, "b": 3.0})
    assert (found.seconds, found.share("a")) == (4.0, 0.25)


def test_merging_takes_longer_for_more_devices():
    assert 0 < programs.merge_seconds(1)
    assert model.predicted(planned().work, CHIP, 2).parts["host"] == 0.5 / 20
