"""The folder of ``sketchprune sweep``: its tables of runs, one for each shard, and the setting that they share."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sketchprune._files import write_atomically
from sketchprune.sweep import Row, Run, read

SETTING_FILE = "setting.json"


class Shard(NamedTuple):
    """A part of the seeds of a sweep.

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

    @property
    def file(self) -> str:
        """The name of its table."""
        return "runs.csv" if self.of == 1 else f"runs-{self.number}-of-{self.of}.csv"

    def seeds(self, seed: int, count: int) -> list[int]:
        """Its seeds, of those from ``seed`` on: every ``of``-th one.

        Args:
            seed: the first seed of the sweep.
            count: how many seeds the sweep has.

        Raises:
            ValueError: there are fewer seeds than shards.
        """
        if self.of > count:
            raise ValueError(f"shard is {self.number}/{self.of} of {count} seeds; it takes at most as many shards")
        return list(range(seed + self.number - 1, seed + count, self.of))


def rows(out: Path) -> list[Row]:
    """The rows of all tables in the folder, by seed; of a run that is in two tables the first one found.

    Args:
        out: the folder.

    Raises:
        ValueError: a table is malformed.
    """
    found: dict[Run, Row] = {}
    for path in sorted(out.glob("runs*.csv")):
        for row in read(path):
            found.setdefault(row.run, row)
    return sorted(found.values(), key=lambda row: row.seed)


def open_folder(out: Path, shard: Shard, setting: Mapping[str, Any], *, resume: bool) -> list[Row]:
    """Open the folder for the runs of a setting; returns the rows that are there.

    Args:
        out: the folder, which exists.
        shard: whose table will be written.
        setting: what all runs of the folder share; entries that are new are added.
        resume: whether a table that is there is to be gone on with.

    Raises:
        ValueError: the folder holds runs of another setting, or runs of the shard without ``resume``; or a table in it
            is malformed, or the folder cannot be written.
    """
    there = rows(out)
    path = out / SETTING_FILE
    others = [each for each in out.glob("runs*.csv") if each.name != shard.file]  # perhaps without a row yet
    known = _setting(path) if there or others else {}
    if changed := [name for name in setting if name in known and known[name] != setting[name]]:
        differences = "; ".join(f"{name}: {known[name]} there, {setting[name]} here" for name in changed)
        raise ValueError(
            f"out is {out}, which holds runs of another setting ({differences}); "
            "it takes the setting of those runs, or another --out"
        )
    if not resume and (own := read(out / shard.file)):
        raise ValueError(
            f"out is {out}, where {shard.file} holds {len(own):,} runs; it takes --resume to go on with them, "
            "another --out, or a start after you delete that file"
        )
    try:
        write_atomically(path, json.dumps({**known, **setting}, indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"out is {out}: {error.strerror}; it takes a folder that can be written") from None
    return there


def _setting(path: Path) -> dict[str, Any]:
    """The setting that a file holds; nothing where there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except FileNotFoundError:
        return {}
    except (ValueError, OSError):
        pass
    raise ValueError(
        f"out is {path}, which is no setting; it takes another --out, or a start after you delete the folder"
    )
