"""What the command line's words select, and what it says when they select nothing."""

import os
import sys

import pytest

from tests.support.claims import claim
from theory.cli.select import claims_of, imported, reason, select

CATALOGUE = tuple(map(claim, ("sketch/unbiased", "sketch/second-moment", "tangent/poisson", "sketch/poisson")))

FILE = """
from theory.claim import Case, Claim, Source
from theory.kinds import Bound
from neighbour import MAKE

def claim(id):
    return Claim(id=id, title="t", statement="a", sources=(Source("bar2023sketching"),), kind=Bound(),
                 cases=(Case("digits", MAKE),), trial=lambda instance, outcome: {})

ONE = claim("my/one")
SAME = ONE
MORE = [claim("my/two"), claim("your/three")]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # put back what select appends
    (tmp_path / "neighbour.py").write_text("MAKE = lambda key, data: key\n")
    (tmp_path / "my_bounds.py").write_text(FILE)
    return tmp_path / "my_bounds.py"


def names(*words):
    return [item.argument for item in select(words, CATALOGUE)]


def test_nothing_selects_everything_in_order():
    assert names() == [item.id for item in CATALOGUE]


def test_ids_and_patterns_in_the_order_given_each_once():
    assert names("tangent/*", "sketch/unbiased", "*/poisson") == [
        "tangent/poisson",
        "sketch/unbiased",
        "sketch/poisson",
    ]


def test_the_checksum_of_a_file_covers_what_it_imports_from_its_folder(file):
    file.write_text("import beside\n")
    checksums = []
    for text in ("A = 1\n", "A = 2\n"):
        file.with_name("beside.py").write_text(text)
        checksums.append(imported(str(file))[1])
    del sys.modules["beside"]
    assert checksums[0] != checksums[1]


def test_a_file_gives_its_claims_each_once(file):
    assert names("my_bounds.py") == [f"my_bounds.py::{id}" for id in ("my/one", "my/two", "your/three")]
    assert names("my_bounds.py::my/*") == ["my_bounds.py::my/one", "my_bounds.py::my/two"]
    assert names("my_bounds.py::your/three", "sketch/unbiased") == [
        "my_bounds.py::your/three",
        "sketch/unbiased",
    ]
    assert names(str(file) + "::my/one") == [f"{file}::my/one"]


def test_claims_that_a_file_imports_are_not_its_own(file, monkeypatch):
    monkeypatch.setattr("theory.catalogue.CATALOGUE", CATALOGUE)
    file.write_text(FILE + "\nfrom theory.catalogue import CATALOGUE\nFIRST = CATALOGUE[0]\n")
    assert len(names("my_bounds.py")) == 3


def test_a_file_that_changed_is_another_selection(file):
    (before,) = select(["my_bounds.py::my/one"], CATALOGUE)
    file.write_text(FILE + "# changed\n")
    (after,) = select(["my_bounds.py::my/one"], CATALOGUE)
    assert before.argument == after.argument and before.file_crc32 != after.file_crc32


@pytest.mark.parametrize(
    "word, message",
    [
        ("sketch/unbaised", r"selection is 'sketch/unbaised', an unknown claim; .* \(nearest: sketch/unbiased"),
        ("sketch", r"an unknown claim; it takes an id or a pattern \(nearest: sketch/\*"),
        ("zzz", r"an unknown claim; .*; `sketchprune list` shows"),
        ("my_bounds.py::TOP", r"an unknown claim; it takes an id or a pattern, of my/one, my/two, your/three"),
        (
            "paths/*",
            r"'paths/\*', which matches nothing; it takes a pattern of the ids in the catalogue: sketch/\*, tangent/\*",
        ),
        ("my_bounds.py::my/onne", r"nearest: my/one"),
        ("my_bounds.py::x*", r"matches nothing; it takes a pattern of the ids in my_bounds.py: my/\*, your/\*"),
        (
            "absent.py",
            r"selection is absent.py, which cannot be read \(No such file or directory\); it takes a Python file",
        ),
        (
            "neighbour.py",
            r"selection is neighbour.py, which defines no claim; it takes a file with a Claim at its top level",
        ),
    ],
)
def test_what_is_not_there_is_said(file, word, message):
    with pytest.raises(ValueError, match=message):
        names(word)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "x = 1\n1 / 0\n",
            r"broken.py, which fails to import with ZeroDivisionError: division by zero \(broken.py, line 2\); it",
        ),
        ("def f(:\n", r"broken.py, which fails to import with SyntaxError: .* \(broken.py, line 1\)"),
        (
            "import absent_module\n",
            r"ModuleNotFoundError: No module named 'absent_module' \(broken.py, line 1\)",
        ),
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(broken.py, line 1\)"),
        (FILE + "claim('no id')\n", r"ValueError: id is 'no id'"),
        (FILE + "AGAIN = claim('my/two')\n", r"id is 'my/two' twice in broken.py; it takes ids that differ"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(file, text, message):
    (file.parent / "broken.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        names("broken.py")


def test_one_id_in_two_places(file):
    file.write_text(FILE + "ALSO = claim('sketch/unbiased')\n")
    assert "my_bounds.py::sketch/unbiased" in names("my_bounds.py")
    with pytest.raises(
        ValueError, match=r"'sketch/unbiased' twice in the selection \(sketch/unbiased and my_bounds.py"
    ):
        names("sketch/*", "my_bounds.py")
    with pytest.raises(ValueError, match="twice in the catalogue"):
        select([], (*CATALOGUE, claim("sketch/poisson")))


def test_an_empty_catalogue():
    with pytest.raises(ValueError, match="matches nothing; .*: there are none"):
        select([], ())


def test_the_reason_of_an_error_is_one_line():
    assert reason(ValueError("first\nsecond")) == "ValueError: first"
    assert reason(AssertionError()) == "AssertionError"


def test_a_file_that_has_changed_is_read_again(file):
    """Also within the second in which Python wrote its bytecode, and with as many characters."""
    for name in ("my/one", "my/two"):
        text = FILE.replace("my/one", name).replace('claim("my/two"), ', "")
        file.write_text(text)
        os.utime(file, (1e9, 1e9))
        assert name in [item.claim.id for item in claims_of("my_bounds.py", ())]
