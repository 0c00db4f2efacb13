"""The papers behind the claims, read from ``references.bib``."""

import re
from functools import cache
from importlib import resources

_ENTRY = re.compile(r"^@\w+\{(?P<key>[^,\s]+),\n(?P<fields>.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(?P<name>\w+) = \{(?P<value>.*)\},$", re.MULTILINE)


@cache
def references() -> dict[str, dict[str, str]]:
    """Key -> field -> text, braces removed."""
    text = resources.files("theory.report").joinpath("references.bib").read_text(encoding="utf-8")
    return {
        entry["key"]: {
            field["name"]: re.sub(r"[{}]", "", field["value"]).replace("--", "–")
            for field in _FIELD.finditer(entry["fields"])
        }
        for entry in _ENTRY.finditer(text)
    }


def citation(key: str) -> str:
    """The reference in one line: authors, year, title, where it appeared; a key that the file has not as it stands.

    >>> citation("lueker1998subsetsum")[:43]
    'George S. Lueker (1998). Exponentially Smal'
    >>> citation("A manuscript of mine")
    'A manuscript of mine'
    """
    if key not in references():
        return key
    fields = references()[key]
    title = fields["title"] if fields["title"].endswith("?") else fields["title"] + "."
    return f"{_authors(fields['author'])} ({fields['year']}). {title} {_venue(fields)}."


def _authors(field: str) -> str:
    names = [" ".join(reversed(name.split(", "))) for name in field.split(" and ")]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _venue(fields: dict[str, str]) -> str:
    volume = fields.get("volume", "") + (f"({fields['number']})" if "number" in fields else "")
    where = fields.get("journal") or fields.get("booktitle", "")
    if "series" in fields:
        where += f", {fields['series']}"
    where = f"{where} {volume}".strip() + (f":{fields['pages']}" if "pages" in fields and volume else "")
    if "pages" in fields and not volume:
        where += f", pages {fields['pages']}"
    arxiv = f"arXiv:{fields['eprint']}" if "eprint" in fields else ""
    doi = f"doi:{fields['doi']}" if "doi" in fields else ""
    return ", ".join(part for part in (where, doi or arxiv) if part)
