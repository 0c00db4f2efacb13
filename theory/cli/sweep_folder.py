"""The folder of ``sketchprune sweep``: its tables of runs, one for each shard, and the setting that they share."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sketchprune._files import write_atomically
from sketchprune.sweep import Row, Run, read
from theory.cli.shard import Shard

SETTING_FILE = "setting.json"


def table_name(shard: Shard) -> str:
    """The name of a shard's table."""
    return "runs.csv" if shard.of == 1 else f"runs-{shard.number}-of-{shard.of}.csv"


def seeds_of(shard: Shard, seed: int, count: int) -> list[int]:
    """The seeds of a shard, of those from ``seed`` on: every N-th one.

    Args:
        shard: which part of the seeds.
        seed: the first seed of the sweep.
        count: how many seeds the sweep has.

    Raises:
        ValueError: there are fewer seeds than shards.
    """
    if shard.of > count:
        raise ValueError(f"shard is {shard} of {count} seeds; it takes at most as many shards")
    return list(range(seed + shard.number - 1, seed + count, shard.of))


def rows(out: Path) -> list[Row]:
    """The rows of all tables in the folder, by seed; a run that is in two tables is taken from the first.

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
    others = [each for each in out.glob("runs*.csv") if each.name != table_name(shard)]  # perhaps without a row yet
    known = _setting(path) if there or others else {}
    if changed := [name for name in setting if name in known and known[name] != setting[name]]:
        differences = "; ".join(f"{name}: {known[name]} there, {setting[name]} here" for name in changed)
        raise ValueError(
            f"out is {out}, which holds runs of another setting ({differences}); "
            "it takes the setting of those runs, or another --out"
        )
    if not resume and (own := read(out / table_name(shard))):
        raise ValueError(
            f"out is {out}, where {table_name(shard)} holds {len(own):,} runs; it takes --resume to go on with them, "
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
