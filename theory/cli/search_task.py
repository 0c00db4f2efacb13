"""What ``sketchprune search`` searches: a named problem, or a ``Problem`` of a file of the user's own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sketchprune.search.problems import OBJECTIVES, Problem, Setting, completed
from sketchprune.search.problems import problem as named_problem
from theory.cli.select import dataset, imported

if TYPE_CHECKING:
    from etils import epath


@dataclass(frozen=True)
class Task:
    """What is searched, what it is called, and where its files go.

    Attributes:
        problem: law and objective.
        objective: what the objective is called.
        law: what the law is called.
        subject: what the masks are of, such as "linear on digits".
        setting: what names the search, for its files.
        seed: what the masks derive from.
        out: the folder of the results.
        checkpoint: the folder of the checkpoints.
    """

    problem: Problem
    objective: str
    law: str
    subject: str
    setting: Mapping[str, Any]
    seed: int
    out: Path
    checkpoint: "epath.Path"


def named_task(options: Mapping[str, Any], out: Path, checkpoint: "epath.Path") -> Task:
    """The task that the command's options name.

    Args:
        options: the fields of a :class:`sketchprune.search.problems.Setting`; the objective may be None.
        out: the folder of the results.
        checkpoint: the folder of the checkpoints.

    Raises:
        ValueError: for what does not go together, and data that cannot be read.
    """
    chosen = options["objective"] or OBJECTIVES[options["model"]][0]
    setting = completed(Setting(**{**options, "objective": chosen}))
    return Task(
        problem=named_problem(setting, dataset(setting.data)),
        objective=setting.objective,
        law=("0/1 " if setting.binary else "") + setting.law,
        subject=f"{setting.model} on {setting.data}",
        setting=asdict(setting),
        seed=setting.seed,
        out=out,
        checkpoint=checkpoint,
    )


def own_task(word: str, seed: int, out: Path, checkpoint: "epath.Path") -> Task:
    """The task of a ``Problem`` in a user's file.

    Args:
        word: ``FILE.py``, or ``FILE.py::NAME`` where the file has several problems at its top level.
        seed: what the masks derive from.
        out: the folder of the results.
        checkpoint: the folder of the checkpoints.

    Raises:
        ValueError: the file cannot be imported, or has no such problem.
    """
    path, _, name = word.partition("::")
    if not path.endswith(".py"):
        raise ValueError(f"problem is {word}; it takes FILE.py or FILE.py::NAME")
    module, crc32 = imported(path, "problem", x64=False)
    found = {key: value for key, value in vars(module).items() if isinstance(value, Problem)}
    if name not in found:
        if name or len(found) != 1:
            raise ValueError(
                f"problem is {word}; it takes {path}::NAME with one of the problems at the top level of that file: "
                f"{', '.join(found) or 'there are none'}"
            )
        (name,) = found
    problem = found[name]
    return Task(
        problem=problem,
        objective=_name(problem.objective),
        law=_name(problem.law),
        subject=f"{Path(path).name}::{name}",
        setting={"problem": f"{Path(path).name}::{name}", "checksum of the file": crc32, "seed": seed},
        seed=seed,
        out=out,
        checkpoint=checkpoint,
    )


def _name(value: Any) -> str:
    """What a function or a record of a law is called."""
    return getattr(value, "__name__", type(value).__name__)
