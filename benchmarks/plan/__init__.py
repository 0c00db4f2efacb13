"""What to expect of accelerators: masks, kernel entries and trained masks a second on one chip, eight, and a pod.

The work of each program is XLA's own count (:mod:`benchmarks.plan.costs`), the chips are those of
:mod:`benchmarks.plan.chips`, and :mod:`benchmarks.plan.model` puts them together. The same model, with rates that are
measured here, is held against this machine first.
"""

from collections.abc import Iterator

import jax

from benchmarks import _roofs
from benchmarks._record import OURS, Row, Target
from benchmarks._timing import in_turns
from benchmarks.plan import model, programs
from benchmarks.plan.chips import CHIPS, POD, Chip, Rates
from benchmarks.plan.costs import cost
from benchmarks.plan.programs import Planned

FACTOR = 1.5
"""Within this factor the model has to meet what is measured here."""
CHECKPOINT_SECONDS = 60
"""Between two checkpoints of a search."""


def rows() -> Iterator[Row]:
    """The model against this machine, then the plans."""
    rates = measured_rates()
    for planned in programs.all_work():
        yield from check(planned, rates)
        for chip in CHIPS:
            for count in (1, 8, POD):
                yield plan(planned, chip, count)


def measured_rates() -> Rates:
    """The rates of this machine, with data in its caches: the library works in tiles that stay there."""
    roofs = [_roofs.products(size=1024), _roofs.random_words(), _roofs.lookups(), _roofs.memory(2**18)]
    timings = in_turns({roof.name: roof.run for roof in roofs})
    product, words, lookups, memory = (roof.work / timings[roof.name].seconds for roof in roofs)
    # Most of what is no product is the generator's arithmetic.
    thousand = cost(lambda key: jax.random.bits(key, (1000,)), jax.random.key(0))
    return Rates(product, words * thousand.elementwise / 1000, lookups, memory)


def check(planned: Planned, rates: Rates) -> Iterator[Row]:
    """What is measured here, and what the model says of this machine.

    Args:
        planned: the work.
        rates: of this machine.
    """
    work = planned.work
    seconds = planned.measure()
    yield Row(work.unit, OURS, seconds, note="this machine, measured")
    parts = model.on_device(work.cost, work.units, rates)
    total = sum(parts.values())
    target = Target("ratio", least=1 / FACTOR, most=FACTOR)
    missed = "" if target.met(total / seconds) else f"; {miss(total / seconds)}"
    note = f"{_shares(model.Prediction(parts))}{missed}"
    yield Row(work.unit, "this machine, by the model", total, ratio=total / seconds, target=target, note=note)


def miss(ratio: float) -> str:
    """What a prediction that is too far off leaves out.

    Args:
        ratio: predicted time over measured time.
    """
    if ratio < 1:
        return "the model misses that small products do not reach the rate of large ones, and calls inside the program"
    return "the model misses that parts overlap, and that what a product writes may stay in caches"


def plan(planned: Planned, chip: Chip, count: int) -> Row:
    """What to expect of a number of chips.

    Args:
        planned: the work.
        chip: what does it.
        count: how many.
    """
    work = planned.work
    found = model.predicted(work, chip, count)
    lost = min(CHECKPOINT_SECONDS / found.seconds, 10**12) if work.exchanged else work.units_per_call * count
    notes = [
        f"bound by {found.bound} ({_shares(found)})",
        f"10^9 in {_duration(1e9 * found.seconds)}, 10^12 in {_duration(1e12 * found.seconds)}",
        f"a restart loses {lost:.2g} at most, and compiles again",
        planned.remark,
    ]
    by = f"{count} x {chip.name}, by the model"
    memory_mib = work.memory / 2**20
    target = Target("memory_mib", most=chip.memory / 2**20)
    return Row(work.unit, by, found.seconds, memory_mib=memory_mib, target=target, note="; ".join(notes))


def _shares(found: model.Prediction) -> str:
    """The parts that take more than a hundredth of the time, the longest first."""
    parts = sorted(found.parts, key=lambda part: -found.parts[part])
    return ", ".join(f"{part} {found.share(part):.0%}" for part in parts if found.share(part) >= 0.01)


def _duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, size in (("years", 3.156e7), ("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
