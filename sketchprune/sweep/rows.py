"""The table of a sweep: one row for each run, appended to a CSV file as runs end."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sketchprune.sweep.methods import label


class Run(NamedTuple):
    """What identifies a run among those of one setting.

    Attributes:
        network: The network.
        score: The method's score.
        sampler: Its sampler.
        rounds: Its rounds.
        density: The density that was asked for.
        seed: The seed.
    """

    network: str
    score: str
    sampler: str
    rounds: int
    density: float
    seed: int

    @property
    def method(self) -> str:
        """The label of its method: the score, the sampler, and the rounds where there are several."""
        return label(self.score, self.sampler, self.rounds)


@dataclass(frozen=True)
class Row:
    """A run: a network that was pruned, trained and tested.

    Attributes:
        network: The network.
        score: The score, or what else decides.
        sampler: How the mask follows from it.
        rounds: In how many rounds; 0 for the dense network.
        density: The density that was asked for.
        realised_density: The part of the prunable weights that the mask keeps; NaN where no mask could be drawn.
        seed: What the initial weights, the batches and the chance of the mask derive from.
        train_loss: The mean cross-entropy of the trained network on the training set.
        test_accuracy: The part of the test set that it classifies right.
        steps: How many steps it was trained for.
        seconds: The time that its mask took, and its share of the time of the runs that were trained along with it.
        empty_layer: Whether the mask keeps nothing of a layer.
        failure: Why no mask could be drawn; empty otherwise.
    """

    network: str
    score: str
    sampler: str
    rounds: int
    density: float
    realised_density: float
    seed: int
    train_loss: float
    test_accuracy: float
    steps: int
    seconds: float
    empty_layer: bool
    failure: str = ""

    @property
    def run(self) -> Run:
        """What identifies it."""
        return Run(self.network, self.score, self.sampler, self.rounds, self.density, self.seed)


_TYPES: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Row)}


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a CSV file, which has a header in its first line.

    A last line that a kill has cut short is dropped first.

    Args:
        path: The file; it need not exist.
        rows: What is appended, in one write.

    Raises:
        OSError: The file cannot be written.
    """
    with open(path, "a+b") as file:
        file.seek(0)
        whole = file.read()
        kept = whole.rfind(b"\n") + 1
        file.truncate(kept)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not kept:
            writer.writerow(_TYPES)
        writer.writerows([_written(getattr(row, name)) for name in _TYPES] for row in rows)
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Row]:
    """The rows of a CSV file, without a last line that a kill has cut short; none where there is no file.

    Args:
        path: The file.

    Raises:
        ValueError: The file is no table of a sweep; the message names the file and the line.
    """
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); it takes a table of a sweep") from None
    lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    if not lines:
        return []
    if lines[0] != list(_TYPES):
        raise ValueError(f"{path} has the header {','.join(lines[0])}; it takes {','.join(_TYPES)}")
    return [_row(path, number, line) for number, line in enumerate(lines[1:], 2)]


def _row(path: Path, number: int, line: Sequence[str]) -> Row:
    """The row in a line."""
    try:
        return Row(*(_read(kind, value) for kind, value in zip(_TYPES.values(), line, strict=True)))
    except (ValueError, KeyError):
        raise ValueError(f"{path} has {','.join(line)!r} in line {number}; it takes {','.join(_TYPES)}") from None


def _written(value: Any) -> str:
    """A value as a field: numbers in as many digits as they have, text in one line."""
    return " ".join(value.split()) if isinstance(value, str) else repr(value)


def _read(kind: type, value: str) -> Any:
    """A field as a value of its type."""
    return {"True": True, "False": False}[value] if kind is bool else kind(value)
