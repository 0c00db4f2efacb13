"""A planted defect: one text of one file that is replaced by another, and what should catch it."""

import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder of the project."""


@dataclass(frozen=True)
class Defect:
    """A mistake in one file, such as a person might make it.

    Attributes:
        name: the mistake, in plain words.
        file: where it is made, relative to the folder of the project.
        text: what stands there without it, exactly once.
        replacement: what stands there with it.
        claims: claims of the catalogue that should see it, which are verified first.
        tests: test files, or ids of tests, that should fail, which run where no claim sees it.
    """

    name: str
    file: str
    text: str
    replacement: str
    claims: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    def planted_in(self, source: str) -> str:
        """The content of the file with the mistake.

        Args:
            source: the content without it.

        Raises:
            ValueError: the text does not occur exactly once.
        """
        count = source.count(self.text)
        if count != 1:
            raise ValueError(
                f"text of the defect {self.name!r} occurs {count} times in {self.file}; it takes one place"
            )
        return source.replace(self.text, self.replacement)

    @property
    def fingerprint(self) -> str:
        """A checksum of the defect, its file and the files of its tests: where one of them changes, it runs again."""
        files = (self.file, *(test.partition("::")[0] for test in self.tests))
        contents = [(ROOT / file).read_text() for file in files]
        return hashlib.sha256(json.dumps([astuple(self), contents]).encode()).hexdigest()[:16]
