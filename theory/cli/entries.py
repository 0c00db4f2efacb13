"""What ``list`` and ``show`` say of claims.

Importing the catalogue takes seconds, since it imports JAX. So what these commands say of it is kept in the user's
cache folder, until a source changes.
"""

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from theory.cli import runtime

if TYPE_CHECKING:
    from theory.claim import Case
    from theory.report.run import Selected

Part = tuple[str, str]
"""A piece of a line, and its style."""


class Entry(NamedTuple):
    """A claim in words.

    Attributes:
        id: of the claim.
        kind: the name of its kind.
        title: one line.
        known_false: whether it is expected to be refuted.
        lines: what ``show`` prints, each line in pieces.
    """

    id: str
    kind: str
    title: str
    known_false: bool
    lines: list[list[Part]]


def entries(selection: Sequence[str]) -> list[Entry]:
    """The claims that a selection names, as :func:`theory.cli.select.select` finds them.

    Args:
        selection: words; an empty selection names the whole catalogue.

    Raises:
        ValueError: as there.
    """
    imported = "theory.catalogue" in sys.modules
    if not imported and (found := _matching(selection, _kept())):
        return found
    from theory.catalogue import CATALOGUE
    from theory.cli.select import select

    if not imported:
        _keep([_entry(item) for item in select((), CATALOGUE)])
    return [_entry(item) for item in select(selection, CATALOGUE)]


def _matching(selection: Sequence[str], known: Sequence[Entry]) -> list[Entry]:
    """The entries that a selection of ids and patterns names; none where it names a file, or something unknown."""
    chosen: dict[str, Entry] = {}
    for word in selection or ("*",):
        found = {entry.id: entry for entry in known if fnmatchcase(entry.id, word)}
        if not found:
            return []
        chosen |= found
    return list(chosen.values())


def _file() -> Path:
    return runtime.cache_folder() / "catalogue.json"


def _kept() -> list[Entry]:
    """The entries of the catalogue; none where a source has changed since they were written."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        if found["sources"] != runtime.source_checksum():
            return []
        return [Entry(**entry) for entry in found["entries"]]
    except (OSError, ValueError, KeyError, TypeError):  # no file, or one that something else has written
        return []


def _keep(found: Iterable[Entry]):
    """Write the entries of the catalogue; nothing where that is not possible: they save time, and no more."""
    from sketchprune._files import write_atomically

    content = {"sources": runtime.source_checksum(), "entries": [entry._asdict() for entry in found]}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), json.dumps(content))
    except OSError:
        return


def _entry(item: "Selected") -> Entry:
    """A claim in words."""
    from theory.verdict import REFUTED

    claim = item.claim
    return Entry(claim.id, claim.kind.words.name, claim.title, claim.expected == REFUTED, _lines(item))


def _lines(item: "Selected") -> list[list[Part]]:
    """A claim, part by part."""
    from theory.report.references import source_line

    claim = item.claim
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
    lines: list[list[Part]] = [[(claim.id, "bold")], [(claim.title, "")], [(f"\n    {claim.statement}\n", "cyan")]]
    for name, texts in parts.items():
        lines += [[(f"{'' if index else name:<12}", "bold"), (text, "")] for index, text in enumerate(texts)]
    return lines


def _case(case: "Case") -> str:
    """The name of a case, with what is special about it."""
    remarks = {
        "all outcomes enumerated": case.enumerable,
        "a control": case.control,
        "at the full tier only": case.long,
    }
    said = ", ".join(remark for remark, holds in remarks.items() if holds)
    return f"{case.name} ({said})" if said else case.name
