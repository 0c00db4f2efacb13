"""Malformed words and files of claims: status 2, one line that says what is wrong, and no verdict."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import few, without_type_checks
from tests.support.command import claim, run, set_up
from theory.cli.app import COMMANDS
from theory.kinds import Bound

pytestmark = pytest.mark.usefixtures("jax_settings")

NO_COUNT = ("", "x", "1.5", "1e3", "-", "0x10", "½", "1,2", "nan", "-1")
NO_NUMBER = ("", "x", "-", "1,2", "0.5.1", "½", "--")
NOT_POSITIVE = (*NO_NUMBER, "0", "-1", "nan")
NO_DATA = ("", "nowhere.npz", "a-file.npz", "a-folder", "/dev/null", "digits/", "DIGITS")
NO_FOLDER = ("a-file.npz", "a-file.npz/below")
NO_WORD = ("", "x", "QUICK", "quick ", "0")
SEEDS = (*NO_COUNT, str(2**63))
BAD_OPTIONS = {
    "verify": {"--tier": NO_WORD, "--seed": SEEDS, "--data": NO_DATA, "--out": NO_FOLDER},
    "falsify": {"--steps": NO_COUNT, "--seed": SEEDS, "--data": NO_DATA},
    "search": {
        "--data": NO_DATA,
        "--model": NO_WORD,
        "--law": NO_WORD,
        "--probabilities": NO_WORD,
        "--objective": NO_WORD,
        "--steps": (*NO_COUNT, "1"),  # linear-error takes no steps
        "--step-size": (*NOT_POSITIVE, "1"),
        "--density": (*NOT_POSITIVE, "1.5", "inf"),
        "--masks": (*NOT_POSITIVE, "inf", "1.5"),
        "--best": (*NO_COUNT, "0"),
        "--batch": (*NO_COUNT, "0"),
        "--seed": SEEDS,
        "--checkpoint-seconds": (*NO_NUMBER, "-1", "nan"),
        "--devices": (*NO_COUNT, "0", "99999"),
        "--processes": NO_COUNT,
        "--process-id": NO_COUNT,
        "--join-timeout": (*NO_NUMBER, "-1", "nan"),
    },
    "sweep": {
        "--data": NO_DATA,
        "--network": NO_WORD,
        "--scores": NO_WORD,
        "--samplers": NO_WORD,
        "--rounds": (*NO_COUNT, "0"),
        "--densities": NO_NUMBER,
        "--seeds": (*NO_COUNT, "0"),
        "--seed": SEEDS,
        "--samples": (*NO_COUNT, "0", "99999"),
        "--steps": NO_COUNT,
        "--learning-rate": NOT_POSITIVE,
        "--batch-size": (*NO_COUNT, "0"),
        "--shard": (*NO_WORD, "0/2", "3/2", "1/6", "-1/2"),
    },
}  # fmt: skip
"""Command -> option -> values that are refused."""
CHOICES = [(command, option) for command, options in BAD_OPTIONS.items() for option in options]
CLAIM = claim("sketch/one", kind=Bound(search=("x",)))
NEEDED = {"falsify": (CLAIM.id,)}
"""Words that a command cannot do without."""
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
"""Any text that a shell can pass on."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-file.npz").write_bytes(b"no data")
    folder = set_up(tmp_path, monkeypatch)
    monkeypatch.setattr("theory.catalogue.CATALOGUE", (CLAIM,))
    return folder


def assert_refused(capsys, *words):
    code, out, err = run(capsys, *words)
    assert code == 2 and err.strip() and not out.strip(), (words, code, out, err)
    return err


def test_malformed_options(here, capsys):
    @given(st.sampled_from(CHOICES), st.data())
    @few(200)
    def attempt(choice, data):
        command, option = choice
        value = data.draw(st.sampled_from(BAD_OPTIONS[command][option]))
        said = assert_refused(capsys, command, *NEEDED.get(command, ()), f"{option}={value}")
        assert re.search(option.strip("-").replace("-", "[-_ ]"), said), (option, value, said)
        assert not [*here.glob("report/verdicts*"), *here.glob("search/*"), *here.glob("sweep/*")]

    attempt()


def test_unknown_words(here, capsys):
    """As commands, as options and as claims."""

    @given(WORDS, st.sampled_from(["command", "option", *COMMANDS]), WORDS)
    @few(100)
    def attempt(word, place, other):
        if place == "command":
            said = assert_refused(capsys, f"{word}?", other)
        elif place == "option":
            said = assert_refused(capsys, "verify", f"--no-such-{word}", other)
        else:
            said = assert_refused(capsys, place, f"no-such/{word.replace('*', '')}", f"no-such/{other}")
        assert len(said) < 3000

    attempt()


HEAD = """
from theory import Bound, Case, Claim, Expectation, Identity, Probability, Sides, Source
from theory.claim import Axis

def make(rng, dataset):
    return {}

def trial(instance, key):
    return {"claim": Sides(0.0, 1.0)}

fields = dict(id="my/claim", title="mine", statement="a = b", sources=(Source("bar2023sketching"),), kind=Bound(),
              cases=(Case("digits", make),), trial=trial)
"""
VALUES = ("None", "3", "'text'", "b'x'", "[]", "object()", "1j", "(3,)", "('text',)", "{'a': 3}", "Bound", "fields")
FIELDS = {
    "id": {"'text'"}, "title": {"'text'"}, "statement": {"'text'"}, "sources": set(), "kind": set(), "cases": set(),
    "trial": {"Bound"}, "mutants": {"('text',)"}, "draw": {"Bound"}, "outcomes": {"None", "Bound"},
    "prepare": {"Bound"}, "hypotheses": set(), "free": {"('text',)"}, "axes": set(), "expected": {"None"},
    "batch": {"3"}, "note": {"'text'"},
}  # fmt: skip
"""Field of a claim -> the values above that it takes."""


def test_claims_with_a_malformed_field(here, capsys):
    """They are refused when they are built; the message names the field and the file."""

    @given(st.sampled_from(sorted(FIELDS)), st.sampled_from(VALUES))
    @few(150)
    def attempt(field, value):
        (here / "mine.py").write_text(f"{HEAD}CLAIM = Claim(**fields | {{{field!r}: {value}}})\n")
        if value in FIELDS[field]:
            return
        with without_type_checks():
            said = assert_refused(capsys, "verify", "mine.py")
        assert said.startswith("error: selection is mine.py, which fails to import with ValueError: ")
        assert field.rstrip("s") in said and "takes" in said and len(said.splitlines()) == 1

    attempt()


def test_files_that_are_no_claims(here, capsys):
    """Any bytes, and any Python that stops early or defines nothing."""
    stops = (
        "raise SystemExit(0)",
        "import sys; sys.exit()",
        "1/0",
        "x = Claim",
        "raise StopIteration",
        "import nowhere",
    )

    @given(st.one_of(st.binary(max_size=40), st.sampled_from(stops).map(lambda line: (HEAD + line).encode())))
    @few(60)
    def attempt(content):
        (here / "mine.py").write_bytes(content)
        said = assert_refused(capsys, "verify", "mine.py::my/claim")
        assert said.startswith("error: selection is mine.py, which ") and "; it takes a " in said

    attempt()
