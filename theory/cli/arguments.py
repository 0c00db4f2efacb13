"""Arguments that several commands take, and their checks."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

Selection = Positional[
    Annotated[
        tuple[str, ...],
        arg(
            metavar="[CLAIM|PATTERN|FILE.py[::CLAIM] ...]",
            help_behavior_hint="(default: the whole catalogue)",
        ),
    ]
]
Data = Annotated[str, arg(metavar="digits|PATH")]
JUnit = Annotated[Path | None, arg(metavar="FILE")]


def check_seed(seed: int):
    """Refuse a seed that JAX's random keys cannot be made from."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; it takes a whole number from 0 to 2^63 - 1")


def check_junit(file: Path | None):
    """Refuse a file for a JUnit report that cannot be made, before any work is done."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ValueError(f"junit is {file}; it takes a file in a folder that exists")
