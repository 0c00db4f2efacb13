"""What a benchmark measures, as rows, and the run that they were measured in: one JSON line each."""

import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

OURS = "sketchprune"
"""What rows of the library itself are measured by."""
Quantity = Literal["seconds", "ratio", "roofline", "error", "memory_mib", "value"]
"""A number of a row, by the name of its field."""
_PEERS = ("torch", "neural-tangents", "scikit-learn")


@dataclass(frozen=True)
class Target:
    """What was asked of one number of a row.

    Attributes:
        of: which number.
        least: the least that is asked for; None where nothing is too little.
        most: the most that is allowed; None where nothing is too much.
    """

    of: Quantity
    least: float | None = None
    most: float | None = None

    def met(self, number: float | None) -> bool | None:
        """Whether a number is within the target; None where it was not measured.

        Args:
            number: that of the row.
        """
        if number is None:
            return None
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)


@dataclass(frozen=True)
class Row:
    """One way of doing one thing, measured.

    Attributes:
        what: the thing that is done, with its sizes. Times are for one of it.
        by: who does it: the library, a peer, or another way of the library.
        seconds: time of one, in the steady state: the median over rounds in which all ways take turns.
        compile_s: seconds of tracing and compilation, or of a first call beyond a later one.
        ratio: time of the peer over ours, above 1 where ours is faster: the median over rounds.
        roofline: the fraction of what the machine can do at most, measured in the same run.
        roof: what that is, such as "matrix products".
        error: the largest relative error against a reference in float64.
        memory_mib: peak of memory, arguments and results included.
        value: another number, which ``what`` names.
        target: what was asked of one of these numbers.
        note: what a reader of the numbers should know.
    """

    what: str
    by: str = OURS
    seconds: float | None = None
    compile_s: float | None = None
    ratio: float | None = None
    roofline: float | None = None
    roof: str = ""
    error: float | None = None
    memory_mib: float | None = None
    value: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one, and where its number was not measured."""
        return None if self.target is None else self.target.met(getattr(self, self.target.of))


@dataclass(frozen=True)
class Run:
    """One run of one subject on one machine.

    Attributes:
        subject: the name of the benchmark.
        at: when it ended, in UTC.
        commit: of the sources; "+" at its end says that they were changed since.
        hardware: processors or accelerators.
        versions: of Python and of the packages that the numbers depend on.
        load: the machine's load in the last minute.
        seconds: time of the whole run.
        memory_mib: peak of the process.
        rows: what was measured.
        failed: the error that ended the run before its last row; empty where all were measured.
    """

    subject: str
    at: str
    commit: str
    hardware: str
    versions: dict[str, str]
    load: float
    seconds: float
    memory_mib: float
    rows: tuple[Row, ...]
    failed: str = ""

    def line(self) -> str:
        """The run as one line of JSON. What was not measured is left out; NaN and infinities are texts."""
        return json.dumps(_known(dataclasses.asdict(self)), ensure_ascii=False, sort_keys=True, allow_nan=False)

    @classmethod
    def parse(cls, line: str) -> "Run":
        """The run that a line holds.

        Args:
            line: what :meth:`line` returned.

        Raises:
            ValueError: it holds no run.
        """
        try:
            fields = json.loads(line)
            rows = tuple(_row(**row) for row in fields.pop("rows"))
            return cls(rows=rows, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"line is {line[:60]!r}; it takes a run as one line of JSON ({error})") from None


def measured(subject: str, rows: Iterable[Row]) -> Run:
    """The run of a subject: its rows, which are measured now, and where they were.

    Where a row fails, the run has those before it, and says what failed.

    Args:
        subject: the name of the benchmark.
        rows: measured one by one as they are asked for.
    """
    started = time.perf_counter()
    found: list[Row] = []
    failed = ""
    try:
        for row in rows:
            found.append(row)
            print(f"{subject}: {row.what}, {row.by}", file=sys.stderr)
    except Exception as error:  # rows may fail in any way, and those before are worth keeping
        traceback.print_exc()
        failed = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - started
    from theory.cli import runtime

    return Run(
        subject=subject,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        hardware=runtime.hardware(),
        versions=runtime.versions() | _peer_versions(),
        load=round(os.getloadavg()[0], 2),
        seconds=round(seconds, 1),
        memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        rows=tuple(found),
        failed=failed,
    )


def keep(run: Run, folder: Path):
    """Append the run to the file of its subject.

    Args:
        run: the run.
        folder: where NAME.jsonl of each subject lies.
    """
    folder.mkdir(exist_ok=True)
    with (folder / f"{run.subject}.jsonl").open("a", encoding="utf-8") as file:
        file.write(run.line() + "\n")


def kept(folder: Path, subjects: Sequence[str] = ()) -> list[Run]:
    """The runs that were kept, by subject, the oldest first.

    Args:
        folder: where they were kept.
        subjects: whose; all by default.

    Raises:
        ValueError: a line of a file holds no run.
    """
    files = sorted(folder.glob("*.jsonl"))
    chosen = [file for file in files if not subjects or file.stem in subjects]
    return [Run.parse(line) for file in chosen for line in file.read_text(encoding="utf-8").splitlines()]


def _row(target: dict[str, Any] | None = None, **fields: Any) -> Row:
    """A row of its fields, in which NaN and infinities are texts."""
    for name in (*get_args(Quantity), "compile_s"):
        if name in fields:
            fields[name] = float(fields[name])
    return Row(target=None if target is None else Target(**target), **fields)


def _known(value: Any) -> Any:
    """The same without entries that are None or empty texts, and with texts for numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, dict):
        return {name: _known(entry) for name, entry in value.items() if entry is not None and entry != ""}
    return [_known(entry) for entry in value] if isinstance(value, list | tuple) else value


def _commit() -> str:
    """The commit of the sources, with "+" where files differ from it or modules are new; else "unknown"."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Results are written by the runs themselves.
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)benchmarks/results")
        new = git("ls-files", "--others", "--exclude-standard", "--", ":(top)*.py")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed or new else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _peer_versions() -> dict[str, str]:
    """The version of each peer that is installed."""
    found = {}
    for name in _PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
