"""A claim in words: what its kind says, and where it comes from."""

import inspect

from theory.claim import Claim, Source
from theory.report.references import citation, references

_PLACES = {
    "stated": "stated there",
    "derived": "derived from it",
    "known-false": "a false strengthening of it",
}
"""What a source has to do with a statement, by the status of the source."""


def kind_name(claim: Claim) -> str:
    """The kind of a claim: identity, bound, expectation, probability, rate or effect."""
    return type(claim.kind).__name__.lower()


def kind_meaning(claim: Claim) -> str:
    """What a claim of this kind says of its two sides, in one line."""
    meaning = (inspect.getdoc(type(claim.kind)) or "").splitlines()[0].replace("<=", "≤").replace(">=", "≥")
    relation = getattr(claim.kind, "relation", None)
    return meaning if relation is None else f"{meaning} Here: {relation}."


def source_line(source: Source) -> str:
    """The citation of a source, with the place in it and what it has to do with the statement."""
    details = []
    if source.key in references():
        details.append(f"{source.key}:")
    if source.locus:
        details.append(f"{source.locus},")
    details.append(_PLACES[source.status])
    return f"{citation(source.key)} [{' '.join(details)}]"
