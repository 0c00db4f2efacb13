"""What a claim refuses to be."""

import pytest

import theory
from theory import Bound, Case, Claim, Effect, Probability


def claim(**fields):
    def make(rng, dataset):
        return rng

    defaults = dict(
        id="toy/claim", title="", statement="", sources=(), kind=Bound(), cases=(Case("one", make),),
        trial=lambda instance, outcome: {},
    )  # fmt: skip
    return Claim(**(defaults | fields))


ONE = claim().cases[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(id="Toy Claim"), "id: got 'Toy Claim'; takes lower-case words joined by '-' and '/'"),
        (dict(id="toy/"), "id: got 'toy/'"),
        (dict(id="toy//claim"), "id: got 'toy//claim'"),
        (dict(id="toy/-claim"), "id: got 'toy/-claim'"),
        (dict(id="toy/claim\n"), "id: got"),
        (dict(id=""), "id: got ''"),
        (dict(cases=()), "cases of toy/claim: got none; takes at least one Case"),
        (dict(cases=(ONE, ONE)), r"cases of toy/claim: got the names \['one', 'one'\]; takes names that differ"),
        (
            dict(kind=Effect(), cases=(Case("all", ONE.make, control=True), Case("more", ONE.make, long=True))),
            "cases of toy/claim: got controls and long ones; takes at least one that is neither",
        ),
        (
            dict(cases=(ONE, Case("other", ONE.make, control=True))),
            "cases of toy/claim: got a control; a Bound takes none",
        ),
        (dict(mutants=("half", "half")), r"mutants of toy/claim: got \('half', 'half'\); takes names that differ"),
        (dict(mutants=("claim",)), "mutants of toy/claim: got .*, none of them 'claim'"),
        (
            dict(cases=(Case("all", ONE.make, enumerable=True),)),
            "outcomes of toy/claim: got None; an enumerable case takes a function",
        ),
        (
            dict(kind=Probability(), outcomes=len, cases=(Case("all", ONE.make, enumerable=True),)),
            "cases of toy/claim: got an enumerable one; a Probability takes cases whose outcomes are drawn",
        ),
    ],
)
def test_bad_claims(fields, message):
    with pytest.raises(ValueError, match=message):
        claim(**fields)


@pytest.mark.parametrize("id", ["toy", "toy/claim", "toy/claim-2", "a/b/c", "my-own/2nd-bound"])
def test_good_ids(id):
    assert claim(id=id).id == id
    assert claim(id=id).family == id.split("/")[0]


def test_claims_are_told_apart_by_identity():
    """Their functions cannot be compared, and programs are kept by claim."""
    one, other = claim(), claim()
    assert one == one and one != other and len({one, other}) == 2


def test_defaults():
    assert claim().draw(None, "key") == "key"
    assert claim().prepare("instance") == "instance"
    assert (claim().expected, claim().mutants, claim().hypotheses) == ("SUPPORTED", (), {})


def test_names_load_when_they_are_used():
    assert {"CATALOGUE", "Claim", "verify"} <= set(dir(theory))
    for name in dir(theory):
        assert getattr(theory, name) is not None
    with pytest.raises(AttributeError, match="module 'theory' has no attribute 'Theorem'"):
        _ = theory.Theorem
