"""What a claim refuses to be."""

import jax
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
        (dict(id="Toy Claim"), "id is 'Toy Claim'; it takes lower-case words joined by '-' and '/'"),
        (dict(id="toy/"), "id is 'toy/'"),
        (dict(id="toy//claim"), "id is 'toy//claim'"),
        (dict(id="toy/-claim"), "id is 'toy/-claim'"),
        (dict(id="toy/claim\n"), "id is"),
        (dict(id=""), "id is ''"),
        (dict(cases=()), "cases of toy/claim is \\(\\); it takes at least one Case"),
        (dict(cases=(ONE, ONE)), r"cases of toy/claim have the names \['one', 'one'\]; it takes names that differ"),
        (
            dict(kind=Effect(), cases=(Case("all", ONE.make, control=True), Case("more", ONE.make, long=True))),
            "cases of toy/claim are controls or long; it takes at least one that is neither",
        ),
        (
            dict(cases=(ONE, Case("other", ONE.make, control=True))),
            "kind of toy/claim is Bound, with a control among the cases; it takes none",
        ),
        (dict(mutants=("half", "half")), r"mutants of toy/claim is \('half', 'half'\); it takes names that differ"),
        (dict(mutants=("claim",)), "mutants of toy/claim is .*, none of them 'claim'"),
        (
            dict(cases=(Case("all", ONE.make, enumerable=True),)),
            "outcomes of toy/claim is None; an enumerable case takes a function",
        ),
        (
            dict(kind=Probability(), outcomes=len, cases=(Case("all", ONE.make, enumerable=True),)),
            "kind of toy/claim is Probability, with an enumerable case; it takes cases whose outcomes are drawn",
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
    key = jax.random.key(0)
    assert claim().draw(None, key) is key
    assert claim().prepare("instance") == "instance"
    assert (claim().expected, claim().mutants, claim().hypotheses) == ("SUPPORTED", (), {})


def test_names_load_when_they_are_used():
    assert {"CATALOGUE", "Claim", "verify"} <= set(dir(theory))
    for name in dir(theory):
        assert getattr(theory, name) is not None
    with pytest.raises(AttributeError, match="module 'theory' has no attribute 'Theorem'"):
        _ = theory.Theorem
