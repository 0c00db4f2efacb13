"""Shards: work in N parts, each of which a process of its own does.

Claims are shared out by the seconds that they took at the quick tier, which ``seconds.json`` holds and
``python -m benchmarks seconds`` measures.
"""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import arg

if TYPE_CHECKING:
    from theory.report.run import Selected

SECONDS_FILE = Path(__file__).with_name("seconds.json")
ShardText = Annotated[str, arg(metavar="i/N")]


class Shard(NamedTuple):
    """One of several parts of some work.

    Attributes:
        number: which part, from 1 on.
        of: how many parts there are.
    """

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that ``i/N`` names.

        Args:
            text: such as "2/4".

        Raises:
            ValueError: it is no such text.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"shard is {text}; it takes i/N with i from 1 to N")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def balanced(
    claims: "Sequence[Selected]", shard: Shard, seconds: Mapping[str, float] | None = None
) -> "tuple[Selected, ...]":
    """The claims of one shard, chosen so that all shards take about as long.

    The claims go to the shards one after another, the longest first, each to the shard that has least to do. Which
    claims are a shard's depends on the claims and the seconds alone, not on their order.

    Args:
        claims: all that were selected.
        shard: which part.
        seconds: argument of a claim -> the seconds that it takes; the table by default. Claims that are not in it,
            such as those of a file, are taken to last as long as the median of it.

    Returns:
        The claims of the shard, in the order in which they were selected.

    Raises:
        ValueError: there are fewer claims than shards.
    """
    if shard.of > len(claims):
        raise ValueError(f"shard is {shard} of {len(claims)} claims; it takes at most as many shards as claims")
    known = _measured() if seconds is None else seconds
    usual = statistics.median(known.values()) if known else 1.0
    lasting = {item.argument: known.get(item.argument, usual) for item in claims}
    loads = [(0.0, 0, number) for number in range(1, shard.of + 1)]  # seconds, claims, number of the shard
    own = set()
    for argument in sorted(lasting, key=lambda argument: (-lasting[argument], argument)):
        load, count, number = min(loads)
        loads[number - 1] = (load + lasting[argument], count + 1, number)
        if number == shard.number:
            own.add(argument)
    return tuple(item for item in claims if item.argument in own)


@cache
def _measured() -> dict[str, float]:
    """Claim of the catalogue -> seconds of processor time at the quick tier."""
    return json.loads(SECONDS_FILE.read_text(encoding="utf-8"))
