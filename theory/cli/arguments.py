"""Arguments that several commands take, and the check of a seed."""

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


def check_seed(seed: int):
    """Refuse a seed that JAX's random keys cannot be made from."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; it takes a whole number from 0 to 2^63 - 1")
