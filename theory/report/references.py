"""The papers behind the claims, read from ``references.bib``."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

from pybtex.database import Entry, parse_string
from pybtex.richtext import Text

from theory.claim import Source

_RELATIONS = {
    "stated": "stated there",
    "derived": "derived from it",
    "known-false": "a false strengthening of it",
}
"""Status of a source -> what the statement has to do with it."""


@cache
def references() -> Mapping[str, Entry]:
    """The entries of the bibliography by key.

    >>> references()["lueker1998subsetsum"].fields["year"]
    '1998'
    """
    text = resources.files("theory.report").joinpath("references.bib").read_text(encoding="utf-8")
    return parse_string(text, "bibtex").entries


def citation(key: str) -> str:
    """One line for a reference: authors, year, title, and where it appeared.

    A key that the bibliography does not have is the name of a paper, and is returned as it is.

    >>> citation("lueker1998subsetsum")[:43]
    'George S. Lueker (1998). Exponentially Smal'
    >>> citation("A manuscript of mine")
    'A manuscript of mine'
    """
    entry = references().get(key)
    if entry is None:
        return key
    fields = _plain_fields(entry)
    title = fields["title"]
    stop = "" if title.endswith("?") else "."
    return f"{_authors(entry)} ({fields['year']}). {title}{stop} {_venue(fields)}."


def title(key: str) -> str:
    """The title of a paper of the bibliography.

    >>> title("tanaka2020synflow")[:22]
    'Pruning Neural Network'
    """
    return _plain_fields(references()[key])["title"]


def source_line(source: Source) -> str:
    """The citation of a source, with the place in it and what it has to do with the statement."""
    details = []
    if source.key in references():
        details.append(f"{source.key}:")
    if source.locus:
        details.append(f"{source.locus},")
    details.append(_RELATIONS[source.status])
    return f"{citation(source.key)} [{' '.join(details)}]"


def _plain_fields(entry: Entry) -> Mapping[str, str]:
    """The fields of an entry, without LaTeX."""
    assert entry.fields is not None  # an entry that was read from a file has fields
    return {name: str(Text.from_latex(value)) for name, value in entry.fields.items()}


def _authors(entry: Entry) -> str:
    """The authors' names, first names first."""
    assert entry.persons is not None  # as with the fields
    names = [
        " ".join([*person.first_names, *person.middle_names, *person.prelast_names, *person.last_names])
        for person in entry.persons["author"]
    ]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _venue(fields: Mapping[str, str]) -> str:
    """Journal or proceedings with volume and pages, then the DOI or the arXiv number."""
    where = fields.get("journal") or fields.get("booktitle", "")
    if "series" in fields:
        where += f", {fields['series']}"
    if "volume" in fields:
        number = f"({fields['number']})" if "number" in fields else ""
        pages = f":{fields['pages']}" if "pages" in fields else ""
        where = f"{where} {fields['volume']}{number}{pages}"
    elif "pages" in fields:
        where += f", pages {fields['pages']}"
    link = f"arXiv:{fields['eprint']}" if "eprint" in fields else ""
    if "doi" in fields:
        link = f"doi:{fields['doi']}"
    return ", ".join(part for part in (where, link) if part)
