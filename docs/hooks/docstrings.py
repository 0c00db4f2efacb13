"""Docstrings as Markdown: cross-references and doctests as this project writes them."""

import re

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`~?([^`]+)`")
_DOCTEST = re.compile(r"^( *)>>> (?:.*\n)+?(?=\s*\n|\Z)", re.MULTILINE)
_LABEL = re.compile(r"^(Cost|Source): ", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrite each docstring as it is collected."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """``:func:`f``` becomes code, a doctest a block of code, and cost and source get bold labels."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring, without its indentation, as Markdown."""
    text = _ROLE.sub(lambda role: f"`{role[1]}`", text)
    text = _DOCTEST.sub(lambda test: f"{test[1]}```pycon\n{test[0].rstrip()}\n{test[1]}```\n", text.rstrip() + "\n")
    return _LABEL.sub(r"\n**\1:** ", text)
