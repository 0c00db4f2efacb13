"""What a claim refuses to be."""

import jax
import pytest

import theory
from tests.support import without_type_checks
from theory import Bound, Case, Claim, Effect, Source


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
            dict(kind=Effect(), outcomes=len, cases=(Case("all", ONE.make, enumerable=True),)),
            "kind of toy/claim is Effect, with an enumerable case; it takes cases whose outcomes are drawn",
        ),
    ],
)
def test_bad_claims(fields, message):
    with pytest.raises(ValueError, match=message):
        claim(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(id=3), "id is 3; it takes lower-case words"),
        (dict(title=None), "title of toy/claim is None; it takes a text"),
        (dict(statement=3), "statement of toy/claim is 3; it takes a text"),
        (dict(note=b"a"), "note of toy/claim is b'a'; it takes a text"),
        (dict(sources="bar2023sketching"), "sources of toy/claim is 'bar2023sketching'; it takes a tuple of Source"),
        (
            dict(sources=("bar2023sketching",)),
            r"sources of toy/claim is \('bar2023sketching',\); it takes a tuple of So",
        ),
        (
            dict(kind=Bound),
            r"kind of toy/claim is the class Bound; it takes an object of a kind of claim, such as Bound",
        ),
        (dict(kind="bound"), "kind of toy/claim is 'bound'; it takes an object"),
        (dict(cases=[ONE]), r"cases of toy/claim is \[Case\(.*; it takes a tuple of Case"),
        (dict(cases=ONE), r"cases of toy/claim is Case\(.*; it takes a tuple of Case"),
        (dict(trial={}), r"trial of toy/claim is \{\}; it takes a function"),
        (dict(mutants="half"), r"mutants of toy/claim is 'half'; it takes a tuple of names, such as \('half',\)"),
        (dict(mutants=["half"]), r"mutants of toy/claim is \['half'\]; it takes a tuple of names"),
        (dict(mutants=(1,)), r"mutants of toy/claim is \(1,\); it takes a tuple of names"),
        (dict(draw=None), r"draw of toy/claim is None; it takes a function \(instance, key\) -> outcome"),
        (dict(outcomes=3), "outcomes of toy/claim is 3; it takes a function, or None"),
        (dict(prepare="x"), "prepare of toy/claim is 'x'; it takes a function"),
        (dict(hypotheses=[len]), "hypotheses of toy/claim is .*; it takes a dictionary of predicates by name"),
        (
            dict(hypotheses={"x": True}),
            r"hypotheses of toy/claim is \{'x': True\}; it takes a dictionary of predicates",
        ),
        (dict(expected="TRUE"), "expected of toy/claim is 'TRUE'; it takes None, 'SUPPORTED' or 'REFUTED'"),
        (dict(batch=0), "batch of toy/claim is 0; it takes a whole number >= 1"),
        (dict(batch=2.5), "batch of toy/claim is 2.5; it takes a whole number >= 1"),
    ],
)
def test_fields_of_another_type(fields, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        claim(**fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Source(None), "key of a source is None; it takes a key of references.bib"),
        (
            lambda: Source("a", "sated"),
            "status of the source 'a' is 'sated'; it takes 'stated' or 'derived' or 'known-f",
        ),
        (lambda: Source("a", locus=3), "locus of the source 'a' is 3; it takes a text"),
        (lambda: Case("", ONE.make), "name of a case is ''; it takes a text"),
        (lambda: Case("{dat}", ONE.make), "name of a case is '{dat}'; it takes a text in which braces stand in {data}"),
        (lambda: Case("{", ONE.make), "name of a case is '{'; it takes a text in which braces"),
        (lambda: Case("one", 3), r"make of the case 'one' is 3; it takes a function \(rng, dataset\) -> instance"),
        (lambda: Case("one", ONE.make, "yes"), "enumerable of the case 'one' is 'yes'; it takes True or False"),
        (lambda: Case("one", ONE.make, long=1), "long of the case 'one' is 1; it takes True or False"),
        (lambda: Case("one", ONE.make, stream=None), "stream of the case 'one' is None; it takes a text"),
    ],
)
def test_bad_sources_and_cases(make, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        make()


def test_a_misspelt_field_is_named():
    with pytest.raises(TypeError, match="mutant"):
        claim(mutant=("half",))


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
