"""``sketchprune show``: a claim in words."""

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from theory.cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from rich.text import Text

    from theory.claim import Case
    from theory.report.run import Selected


def show(claim: Positional[Annotated[str, arg(metavar="CLAIM|FILE.py::CLAIM")]]) -> int:
    """Show a claim: its statement, sources, cases and mutants.

    Args:
        claim: its id, or a pattern.
    """
    from theory.catalogue import CATALOGUE
    from theory.cli.console import say, terminal
    from theory.cli.select import select

    console = terminal()
    for index, item in enumerate(select([claim], CATALOGUE)):
        if index:
            console.print()
        say(console, _description(item))
    return ExitStatus.OK


def _description(item: "Selected") -> "Iterable[Text]":
    """A claim, part by part."""
    from rich.text import Text

    from theory.report.references import source_line

    claim = item.claim
    yield Text(claim.id, style="bold")
    yield Text(claim.title)
    yield Text(f"\n    {claim.statement}\n", style="cyan")
    parts = {
        "kind": [f"{claim.kind.words.name}: {claim.kind.meaning}"],
        "expected": [claim.expected or "nothing: an observation"],
        "hypotheses": claim.hypotheses,
        "cases": map(_case, claim.cases),
        "mutants": claim.mutants,
        "sources": map(source_line, claim.sources),
        "note": [claim.note] if claim.note else [],
        "run": [shlex.join(["sketchprune", "verify", item.argument])],
    }
    for name, lines in parts.items():
        for index, line in enumerate(lines):
            yield Text.assemble((f"{'' if index else name:<12}", "bold"), line)


def _case(case: "Case") -> str:
    """The name of a case, with what is special about it."""
    remarks = {
        "all outcomes enumerated": case.enumerable,
        "a control": case.control,
        "at the full tier only": case.long,
    }
    said = ", ".join(remark for remark, holds in remarks.items() if holds)
    return f"{case.name} ({said})" if said else case.name
