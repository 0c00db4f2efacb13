"""The tables of planted defects fit the code: each text is where it is said to be, and the tests exist."""

import ast
from collections import Counter

import pytest

from benchmarks.defects import DEFECTS
from benchmarks.defects.defect import ROOT, Defect
from theory.catalogue import CATALOGUE


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_can_be_planted(defect):
    source = (ROOT / defect.file).read_text()
    planted = defect.planted_in(source)
    assert planted != source
    ast.parse(planted)


def test_names_are_unique():
    assert max(Counter(defect.name for defect in DEFECTS).values()) == 1


def test_no_defect_is_planted_twice():
    assert max(Counter((defect.file, defect.text, defect.replacement) for defect in DEFECTS).values()) == 1


def test_something_should_catch_each_defect():
    ids = {claim.id for claim in CATALOGUE if claim.expected is not None}
    for defect in DEFECTS:
        assert defect.claims or defect.tests, defect.name
        assert set(defect.claims) <= ids, defect.name
        for test in defect.tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(), test


def test_a_text_that_is_not_there_once_is_named():
    defect = Defect("two", file="a.py", text="1", replacement="2")
    with pytest.raises(ValueError, match="text of the defect 'two' occurs 0 times in a.py; it takes one place"):
        defect.planted_in("")
    with pytest.raises(ValueError, match="occurs 2 times"):
        defect.planted_in("1, 1")
    assert defect.planted_in("1") == "2"


def test_a_defect_that_changes_is_another_one():
    first = Defect("one", file="README.md", text="a", replacement="b")
    second = Defect("one", file="README.md", text="a", replacement="c")
    other_file = Defect("one", file="CHANGELOG.md", text="a", replacement="b")
    assert len({first.fingerprint, second.fingerprint, other_file.fingerprint}) == 3
