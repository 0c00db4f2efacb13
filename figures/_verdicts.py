"""Verdicts of claims, from a report or from verifying them."""

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sketchprune._files import strict_json
from sketchprune.data import Dataset

if TYPE_CHECKING:
    from theory.verdict import Verdict

TIER = "quick"
"""The tier at which a claim is verified that no report holds."""


def verified(claim: str, seed: int, data: Dataset) -> dict[str, np.ndarray]:
    """The verdict on a claim, as JSON in an array, from verifying it.

    Args:
        claim: its id in the catalogue.
        seed: the seed of the run.
        data: the data set.
    """
    from theory import CATALOGUE, verify  # slow to import, and a report needs no catalogue

    by_id = {claim.id: claim for claim in CATALOGUE}
    if claim not in by_id:
        raise ValueError(f"CLAIMS holds {claim!r}; it takes ids of the catalogue")
    fields = asdict(verify(by_id[claim], tier=TIER, seed=seed, data=data)) | {"elapsed_s": 0.0}
    return {"json": np.array(json.dumps(strict_json(fields)))}


def parsed(text: str) -> "Verdict":
    """The verdict that :func:`verified` wrote."""
    from theory.verdict import Verdict

    return Verdict.from_json(json.loads(text))


def reported(path: Path, data: Dataset) -> "dict[str, Verdict]":
    """The verdicts of a report, by claim.

    Args:
        path: its verdicts.json.
        data: the data set that the report has to be of.
    """
    found, named = _read(path)
    if named not in (data.name, ""):
        raise ValueError(f"report is {path}, of the data {named}; it takes one of {data.name}")
    return found


@functools.cache
def _read(path: Path) -> "tuple[dict[str, Verdict], str]":
    """The verdicts of a report, and the name of its data set."""
    from theory.report.run import SCHEMA
    from theory.verdict import Verdict

    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if (schema := report["schema"]) == SCHEMA:
            fields = [{name: value for name, value in claim.items() if name != "command"} for claim in report["claims"]]
            found = {claim["id"]: Verdict.from_json(claim) for claim in fields}
            return found, Path(report["data"]).name.removesuffix(".npz")
    except OSError as error:
        raise ValueError(
            f"report is {path}, which cannot be read ({error.strerror}); it takes a verdicts.json"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"report is {path}, which is malformed; it takes a verdicts.json") from None
    raise ValueError(f"report is {path}, whose schema is {schema}; it takes schema {SCHEMA}")
