"""Reports with made-up verdicts, which spare figures the verification of their claims."""

import json
from dataclasses import asdict

from sketchprune._files import strict_json
from theory import Rate
from theory.report.run import SCHEMA
from theory.verdict import REFUTED, SUPPORTED, CaseVerdict, Decision, Verdict

REFUTED_CLAIM = "sketch/data-free"
"""A true claim that the report says is refuted."""


def reported(claim):
    """A verdict such as a report holds, with numbers that tell its cases apart."""
    expected = None if claim.expected is None else Decision(claim.expected)
    word = REFUTED if claim.id == REFUTED_CLAIM else SUPPORTED
    points = tuple((float(size), size**-0.5) for size in claim.kind.sizes) if isinstance(claim.kind, Rate) else ()
    cases = {
        case.name.format(data="digits"): CaseVerdict(
            word,
            *(1, 1, 1),
            measured=-0.5,
            theory=-0.5,
            looseness=2.0 + place,
            interval=(-0.6, -0.4) if points else None,
            method="rounding",
            resolution=1 / (2 + place),
            points=points,
        )
        for place, case in enumerate(claim.cases)
    }
    return Verdict(claim.id, claim.kind.words.name, word, expected, 0.1, cases, {}, None, 0.0)


def write_report(path, claims, data="digits", schema=SCHEMA):
    """A verdicts.json."""
    entries = [strict_json(asdict(reported(claim))) | {"command": ""} for claim in claims]
    path.write_text(json.dumps({"schema": schema, "claims": entries, "data": data}))
    return path
