"""From the scores that a user names on the command line, some of them in files of her own, to functions."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from sketchprune.scores import SCORES
from sketchprune.types import ScoreFn
from theory.cli.select import imported


class NamedScore(NamedTuple):
    """A score with its name.

    Attributes:
        name: its name in :data:`sketchprune.scores.SCORES`, or that of the function in its file.
        score: the function.
        file_crc32: a checksum of its file; None for one of the library's.
    """

    name: str
    score: ScoreFn
    file_crc32: int | None = None


def named_scores(words: Sequence[str]) -> tuple[NamedScore, ...]:
    """The scores that words name, in their order.

    Args:
        words: names of the library's scores, and ``FILE.py::score`` for a function with their signature in a file.

    Raises:
        ValueError: a score is unknown (the message offers the nearest names), a file cannot be imported or has no such
            function, or two scores have one name.

    >>> [found.name for found in named_scores(["snip", "synflow"])]
    ['snip', 'synflow']
    """
    found = tuple(map(_named_score, words))
    if not found:
        raise ValueError(f"scores is empty; it takes some of {', '.join(SCORES)}, or FILE.py::score")
    names = [each.name for each in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"scores has {name!r} twice; it takes names that differ")
    return found


def _named_score(word: str) -> NamedScore:
    """The score that a word names."""
    path, separator, name = word.partition("::")
    if not path.endswith(".py"):
        if word not in SCORES:
            near = difflib.get_close_matches(word, SCORES, cutoff=0.5) or list(SCORES)
            raise ValueError(f"scores has {word!r}; it takes {', '.join(near)}, or FILE.py::score")
        return NamedScore(word, SCORES[word])
    module, crc32 = imported(path, "scores")
    functions = {key: value for key, value in vars(module).items() if callable(value) and key[0] != "_"}
    if not separator or name not in functions:
        own = [key for key, value in functions.items() if getattr(value, "__module__", "") == module.__name__]
        raise ValueError(
            f"scores has {word!r}; it takes {path}::NAME with one of the functions of that file: "
            f"{', '.join(own) or 'there are none'}"
        )
    if name in SCORES or name == "dense":
        raise ValueError(f"scores has {word!r}; it takes a function whose name is not that of another score")
    return NamedScore(name, functions[name], crc32)
