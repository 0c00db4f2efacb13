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
from benchmarks.plan.model import Work
from benchmarks.plan.programs import Planned

FACTOR = 1.5
"""Within this factor the model has to meet what is measured here."""
CHECKPOINT_SECONDS = 60
"""Between two checkpoints of a search."""


def rows() -> Iterator[Row]:
    """The model against this machine, then the plans."""
    product, words, lookups, memory = (
        _roofs.products(),
        _roofs.random_words(),
        _roofs.lookups(),
        _roofs.cached_memory(),
    )
    # Most of what is no product is the generator's arithmetic.
    thousand = cost(lambda key: jax.random.bits(key, (1000,)), jax.random.key(0)).elementwise
    roofs = product, words._replace(work=words.work * thousand / 1000), lookups, memory
    for planned in programs.all_work():
        timings = in_turns({roof.name: roof.run for roof in roofs} | {OURS: planned.run})
        rates = Rates(*(roof.work / timings[roof.name].seconds for roof in roofs))
        yield from check(planned.work, timings[OURS].seconds / planned.made, rates)
        for chip in CHIPS:
            for count in (1, 8, POD):
                yield plan(planned, chip, count)


def check(work: Work, seconds: float, rates: Rates) -> Iterator[Row]:
    """What is measured here, and what the model says of this machine.

    Args:
        work: what is done.
        seconds: of one unit here.
        rates: of this machine, with data in its caches: the library works in tiles that stay there.
    """
    yield Row(work.unit, f"{OURS}, here", seconds)
    found = model.Prediction(model.on_device(work.cost, work.units, rates))
    target = Target("ratio", least=1 / FACTOR, most=FACTOR)
    missed = "" if target.met(found.seconds / seconds) else f"; {miss(found.seconds / seconds)}"
    note = f"{_shares(found)}{missed}"
    yield Row(work.unit, "the model, here", found.seconds, ratio=found.seconds / seconds, target=target, note=note)


def miss(ratio: float) -> str:
    """What a prediction that is too far off leaves out.

    Args:
        ratio: predicted time over measured time.
    """
    if ratio < 1:
        return "it misses that small products are slower than large ones, and what starting each operation takes"
    return "it misses that parts overlap, and that results stay in registers and caches"


def plan(planned: Planned, chip: Chip, count: int) -> Row:
    """What to expect of a number of chips.

    Args:
        planned: the work.
        chip: what does it.
        count: how many.
    """
    work = planned.work
    found = model.predicted(work, chip, count)
    # A search has checkpoints; of other work a call is lost.
    lost = CHECKPOINT_SECONDS / found.seconds if work.exchanged else work.units_per_call * count
    notes = [
        _shares(found),
        f"10^9 in {_duration(1e9 * found.seconds)}, 10^12 in {_duration(1e12 * found.seconds)}",
        f"a restart loses {lost:.2g}",
        *([planned.remark] if count == 1 else []),
    ]
    target = Target("memory_mib", most=chip.memory / 2**20)
    by = f"the model, {count} x {chip.name}"
    return Row(work.unit, by, found.seconds, memory_mib=work.memory / 2**20, target=target, note="; ".join(notes))


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
