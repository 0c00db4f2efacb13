"""The counterexamples of a report: in ``replay/`` for people, in ``counterexamples/`` for the next run.

``replay/`` holds, for each refuted claim, the shrunk counterexample as an .npz file and as a Python file that prints
both sides. ``counterexamples/`` holds an .npz file for each claim that was ever refuted: the next run tries it first.
"""

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sketchprune._files import write_atomically
from sketchprune.data import Dataset
from theory.claim import Claim
from theory.counterexamples.shrink import Remembered
from theory.instances import field_names
from theory.report.run import Report, Selected
from theory.verdict import Replay, Verdict

REPLAY, COUNTEREXAMPLES = "replay", "counterexamples"
"""The folders, in that of the report."""
_CASE, _KEY = "_case", "_key"
"""What an .npz file says besides the instance's fields."""


def file_stem(claim_id: str) -> str:
    """The name of a claim's files.

    >>> file_stem("paths/eigen-elementwise")
    'paths-eigen-elementwise'
    """
    return claim_id.replace("/", "-")


def write_replays(folder: Path, report: Report):
    """Write the folder ``replay/`` of a report, without files of claims that are no longer refuted.

    Args:
        folder: of the report.
        report: its verdicts.
    """
    target = folder / REPLAY
    contents: dict[str, str | bytes] = {}
    for _, verdict in report.verdicts:
        found = _shrunk(verdict)
        if found is not None:
            contents[f"{file_stem(verdict.id)}.npz"] = _npz(found)
            contents[f"{file_stem(verdict.id)}.py"] = found.program
    for old in [*target.glob("*.npz"), *target.glob("*.py")]:
        if old.name not in contents:
            old.unlink()
    if contents:
        target.mkdir(exist_ok=True)
    for name, content in contents.items():
        write_atomically(target / name, content)


def remember(folder: Path, verdict: Verdict):
    """Keep the counterexample of a verdict, if it has one that was shrunk, for later runs into the folder.

    Args:
        folder: of the report.
        verdict: on one claim.
    """
    found = _shrunk(verdict)
    if found is not None:
        (folder / COUNTEREXAMPLES).mkdir(exist_ok=True)
        write_atomically(folder / COUNTEREXAMPLES / f"{file_stem(verdict.id)}.npz", _npz(found))


def recall(folder: Path, item: Selected, dataset: Dataset) -> tuple[Remembered | None, str]:
    """The counterexample that an earlier run found to a claim, and why it is ignored, if there is one that is.

    Args:
        folder: of the report.
        item: the claim.
        dataset: of this run.
    """
    path = folder / COUNTEREXAMPLES / f"{file_stem(item.claim.id)}.npz"
    if not path.exists():
        return None, ""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _matching(item.claim, dict(arrays), dataset), ""
    except Exception as error:  # whatever a file that somebody else wrote may hold
        return None, f"{path} is ignored: {error}"


def _matching(claim: Claim, arrays: dict[str, np.ndarray], dataset: Dataset) -> Remembered:
    """The counterexample, if the claim's instances still look like it.

    Raises:
        ValueError: they do not.
    """
    name = str(arrays.pop(_CASE, ""))
    key = np.asarray(arrays.pop(_KEY, ()), np.uint32)
    case = next((case for case in claim.cases if case.name.format(data=dataset.name) == name), None)
    if case is None:
        raise ValueError(f"the claim has no case {name!r}")
    like = case.make(np.random.default_rng(0), dataset)
    names, leaves = field_names(like), [np.asarray(leaf) for leaf in jax.tree.leaves(like)]
    if sorted(names) != sorted(arrays):
        raise ValueError(f"instances of case {name!r} have other fields")
    for field, leaf in zip(names, leaves, strict=True):
        if arrays[field].ndim != leaf.ndim or arrays[field].dtype.kind != leaf.dtype.kind:
            raise ValueError(f"{field} of case {name!r} has another shape or dtype")
    fields = [arrays[field].astype(leaf.dtype) for field, leaf in zip(names, leaves, strict=True)]
    return Remembered(jax.tree.unflatten(jax.tree.structure(like), fields), key, name, case.enumerable)


def _shrunk(verdict: Verdict) -> Replay | None:
    """The shrunk counterexample of a verdict, if all of its arrays are written down."""
    found = verdict.counterexample and verdict.counterexample.smaller
    return None if found is None or any(isinstance(each, str) for each in found.values.values()) else found


def _npz(found: Replay) -> bytes:
    """The fields of a counterexample as an .npz file."""
    fields = {name: _array(values) for name, values in found.values.items()}
    file = io.BytesIO()
    np.savez(file, **fields, **{_CASE: np.asarray(found.case), _KEY: np.asarray(found.key, np.uint32)})
    return file.getvalue()


def _array(values: Any) -> np.ndarray:
    """The array of a replay's lists; numbers that are not finite are None once the replay was in JSON."""
    array = np.asarray(values)
    return array.astype(float) if array.dtype == object else array
