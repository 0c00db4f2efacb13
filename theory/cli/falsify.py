"""``sketchprune falsify``: search for counterexamples to a bound, longer than ``verify`` does."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from theory.cli import runtime
from theory.cli.arguments import Data, check_seed
from theory.cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from rich.text import Text

    from theory.falsify import Closest


def falsify(
    claim: Positional[Annotated[str, arg(metavar="CLAIM|PATTERN|FILE.py[::CLAIM]")]],
    *,
    steps: int = 500,
    seed: int = 0,
    data: Data = "digits",
) -> int:
    """Search for counterexamples to a bound, longer than verify does, and show how close they come.

    Gradient ascent on the instances, within the hypotheses. Exit status 0: none was found; 1: one was; 2: wrong usage.

    Args:
        claim: its id, or a pattern; a pattern means the bounds among its claims whose instances can be moved.
        steps: gradient steps from each of 128 instances of a case.
        seed: the seed that all random keys derive from.
        data: the digits images, or the path of a data set.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}; it takes a whole number >= 0")
    check_seed(seed)
    runtime.configure()
    from rich.text import Text

    from theory.catalogue import CATALOGUE
    from theory.cli.console import say, terminal
    from theory.cli.select import dataset, select
    from theory.falsify import falsify as closest_instances
    from theory.falsify import searchable

    chosen = [item for item in select([claim], CATALOGUE) if searchable(item.claim)]
    if not chosen:
        raise ValueError(f"claim is {claim}; it takes a bound that names fields to move, Bound(search=...)")
    samples = dataset(data)
    console = terminal()
    refuted = False
    for item in chosen:
        say(console, [Text(f"{item.argument}: {item.claim.title}", style="bold"), _head()])
        found = []
        try:
            for closest in closest_instances(item.claim, steps=steps, seed=seed, data=samples):
                found.append(closest)
                say(console, [_row(closest)])
        except SystemExit as stop:
            raise ValueError(
                f"claim is {item.argument}, which calls sys.exit({stop.code}); it takes one that returns"
            ) from None
        say(console, _conclusion(found))
        refuted = refuted or any(closest.refutes for closest in found)
    return ExitStatus.UNEXPECTED if refuted else ExitStatus.OK


def _line(case: str, ratio: str, start: str, measured: str, theory: str) -> str:
    return f"  {case:<20}  {ratio:>15}  {start:>12}  {measured:>9}  {theory:>9}"


def _head() -> "Text":
    """The head of the table."""
    from rich.text import Text

    return Text(_line("case", "measured÷theory", "at the start", "measured", "theory"), style="dim")


def _row(closest: "Closest") -> "Text":
    """How close the search came to a counterexample on one case."""
    from rich.text import Text

    from theory.report.formats import number

    if closest.instance is None:
        return Text(f"  {closest.case:<20}  no instance meets the hypotheses")
    numbers = (closest.ratio, closest.start, closest.instance.measured, closest.instance.theory)
    return Text(_line(closest.case, *map(number, numbers)), style="bold red" if closest.refutes else "")


def _conclusion(found: "Sequence[Closest]") -> "Iterable[Text]":
    """The worst counterexample, or that there is none."""
    from rich.text import Text

    from theory.report.remarks import instance_lines

    refuting = [closest for closest in found if closest.refutes]
    if not refuting:
        yield Text("    no counterexample")
        return
    worst = max(refuting, key=lambda closest: math.inf if math.isnan(closest.ratio) else closest.ratio)
    assert worst.instance is not None
    yield Text(f"    counterexample: case {worst.case}, from instance {worst.instance.instance}")
    yield from instance_lines(worst.instance)
