"""The pytest plugin: claims are tests, what fails says why and how to replay it, and nobody else pays for it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import sklearn.datasets  # noqa: F401

# pytester forgets the modules that a run inside it is the first to import; their classes would exist twice.
import theory.catalogue
import theory.cli.select
import theory.report.remarks
import theory.verdict
import theory.verification  # noqa: F401
from sketchprune_entry.pytest_plugin import TIERS
from tests.support.command import FILE, set_up, stand_in, verdict_on
from theory.verdict import INCONCLUSIVE, SUPPORTED

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("jax_settings")
EXAMPLES = Path(__file__).parents[1] / "examples"
OPTIONS = [
    word
    for name in ("cacheprovider", "xdist", "hypothesispytest", "jaxtyping", "typeguard")
    for word in ("-p", f"no:{name}")
]
"""Plugins that every run inside a test would load anew, some of which import JAX."""
PLAIN = """
import sys

def test_nothing_of_jax_is_there():
    assert "jax" not in sys.modules and "theory" not in sys.modules
"""
MODES = """
import pytest

@pytest.mark.parametrize("mode", ["full", "plain"])
def test_mode(mode):
    pass
"""


@pytest.fixture(autouse=True)
def here(pytester, monkeypatch):
    set_up(pytester.path, monkeypatch)


def pytest_run(pytester, *words):
    return pytester.runpytest_inprocess(*OPTIONS, *words)


def test_a_claim_of_ones_own_is_verified(pytester, monkeypatch):
    monkeypatch.undo()  # the real verifier
    monkeypatch.chdir(pytester.path)
    (pytester.path / "claims_mine.py").write_text((EXAMPLES / "my_bounds.py").read_text())
    result = pytest_run(pytester, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["claims_mine.py::my/mean-error[[]quick] PASSED*"])


def test_a_failing_claim_shows_the_counterexample_and_the_replay_line_alone(pytester):
    (pytester.path / "claims_mine.py").write_text(FILE)
    result = pytest_run(pytester, "claims_mine.py", "--claim-seed", "7")
    result.assert_outcomes(passed=1, failed=1)
    shown = result.stdout.str()
    shown = shown[shown.index("= FAILURES =") : shown.index("= short test summary")]
    assert [line for line in shown.splitlines() if not line.startswith(("=", "_"))] == [
        "REFUTED, expected SUPPORTED",
        "expected SUPPORTED",
        "  case digits: measured 8, theory 2",
        "counterexample: case digits, instance 5, found by search, component 0",
        "measured 1.5, theory 1.25",
        "w = [1., 2.]",
        "replay: sketchprune verify claims_mine.py::my/false --tier quick --seed 7 --out replay",
    ]
    assert re.search(r"^_+ claim my/false\[quick\] _+$", shown, re.MULTILINE)
    result.stdout.fnmatch_lines(["FAILED claims_mine.py::my/false[[]quick]*"])


def test_surviving_mutants_and_undecided_claims_fail(pytester, monkeypatch):
    def verify(claim, **settings):
        fields = {"verdict": INCONCLUSIVE} if claim.id == "my/false" else {"mutants": {"half": SUPPORTED}}
        return replace(verdict_on(claim, **settings), **fields)

    stand_in(monkeypatch, verify)
    (pytester.path / "claims_mine.py").write_text(FILE)
    result = pytest_run(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["SUPPORTED; mutant half is SUPPORTED, expected REFUTED", "INCONCLUSIVE, expected *"])


def test_an_error_in_a_trial_keeps_its_traceback(pytester, monkeypatch):
    def verify(claim, **settings):
        raise TypeError("no such side")

    stand_in(monkeypatch, verify)
    (pytester.path / "claims_mine.py").write_text(FILE)
    result = pytest_run(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*TypeError: no such side"])


def test_settings_reach_the_verifier(pytester, monkeypatch):
    asked = []

    def verify(claim, *, tier, seed, data):
        asked.append((claim.id, tier, seed, data.name))
        return verdict_on(claim)

    stand_in(monkeypatch, verify)
    (pytester.path / "claims_mine.py").write_text(FILE)
    pytest_run(pytester, "--claim-tier", "full", "--claim-seed", "3")
    pytest_run(pytester, "claims_mine.py::my/good")
    pytest_run(pytester, "-m", "not claim")
    pytest_run(pytester, "-m", "standard", "-k", "false", "--strict-markers")
    assert asked == [
        ("my/good", "full", 3, "digits"),
        ("my/false", "full", 3, "digits"),
        ("my/good", "quick", 0, "digits"),
        ("my/false", "standard", 0, "digits"),
    ]


@pytest.mark.parametrize(
    ("words", "tiers"),
    [
        ([], ["quick"]),
        (["-m", "claim"], ["quick"]),
        (["-m", "not skipif"], ["quick"]),
        (["-m", "quick"], ["quick"]),
        (["-m", "standard"], ["standard"]),
        (["-m", "claim and (quick or full)"], ["quick", "full"]),
        (["-m", "not full"], ["quick"]),
        (["-m", "standard or not claim"], ["standard"]),
        (["-m", "claim and not quick"], []),
        (["-m", "full and skipif"], []),
        (["--claim-tier", "standard"], ["standard"]),
        (["--claim-tier", "standard", "-m", "quick"], []),
        (["claims_mine.py::my/good[full]"], ["full"]),
        (["claims_mine.py::my/good"], ["quick"]),
        (["./claims_mine.py::my/good[full]", "claims_mine.py::my/false"], ["full"]),
        (["claims_mine.py", "claims_other.py::my/good[full]"], ["quick"]),
        (["claims_mine.py", "test_modes.py::test_mode[full]"], ["quick"]),
        (["claims_mine.py::my/good", "claims_mine.py::my/false[full]"], ["quick"]),
    ],
)
def test_tiers_are_markers(pytester, words, tiers):
    """Of which only the cheapest is collected where none is asked for."""
    for name in ("claims_mine.py", "claims_other.py"):
        (pytester.path / name).write_text(FILE)
    (pytester.path / "test_modes.py").write_text(MODES)
    result = pytest_run(pytester, "--collect-only", "-q", "--strict-markers", *words)
    assert re.findall(r"^claims_mine.py::my/good\[(\w+)\]$", result.stdout.str(), re.MULTILINE) == tiers
    assert result.ret == (pytest.ExitCode.OK if tiers else pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_wrong_expression_of_markers_is_a_wrong_usage(pytester):
    (pytester.path / "claims_mine.py").write_text(FILE)
    result = pytest_run(pytester, "--collect-only", "-m", "full and (")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Wrong expression passed to '-m'*"])
    assert "SyntaxError" not in result.stdout.str()


def test_tiers_are_those_of_the_verifier(pytester):
    assert TIERS == tuple(theory.verdict.TIERS)
    shown = pytest_run(pytester, "--markers").stdout.str()
    assert all(f"@pytest.mark.{name}: a theorem that sketchprune verifies" in shown for name in ("claim", *TIERS))


def test_wrong_settings_are_named(pytester):
    (pytester.path / "claims_mine.py").write_text(FILE)
    result = pytest_run(pytester, "--claim-data", "absent.npz", "claims_mine.py::my/good")
    result.stdout.fnmatch_lines(["data is absent.npz: *"])
    result = pytest_run(pytester, "--claim-seed", "-1")
    result.stdout.fnmatch_lines(["seed is -1; it takes a whole number from 0 to 2^63 - 1"])
    assert pytest_run(pytester, "--claim-tier", "slow").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("name", "text", "named", "collected"),
    [
        ("claims_mine.py", FILE, False, True),
        ("mine.py", FILE, False, False),
        ("mine.py", FILE, True, True),
        ("test_mine.py", FILE, True, False),  # a file of tests, which may import claims
        ("claims_of_customers.py", "raise SystemExit('not for pytest')", False, False),
        ("mine.py", "CLAIMS = 3", True, False),
        ("claims_helpers.py", "from theory import Claim", False, False),
        ("claims_mine.txt", FILE, False, False),
    ],
)
def test_which_files_are_collected(pytester, name, text, named, collected):
    (pytester.path / name).write_text(text)
    result = pytest_run(pytester, "--collect-only", "-q", *[name] * named)
    assert ("::my/good" in result.stdout.str()) == collected
    assert result.ret == (pytest.ExitCode.OK if collected else pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_file_that_cannot_be_imported_is_named_in_one_line(pytester):
    (pytester.path / "claims_mine.py").write_text("from theory import Claim\nimport absent_module\n")
    result = pytest_run(pytester)
    result.assert_outcomes(errors=1)
    line = (
        "selection is claims_mine.py, which fails to import with ModuleNotFoundError: No module named 'absent_module'"
    )
    result.stdout.fnmatch_lines([f"{line} (claims_mine.py, line 2)*"])
    assert "Traceback" not in result.stdout.str()


def test_files_in_other_folders_are_named_as_the_command_line_takes_them(pytester):
    folder = pytester.path / "deep"
    folder.mkdir()
    (folder / "claims_mine.py").write_text(FILE)
    result = pytest_run(pytester)
    result.stdout.fnmatch_lines(["replay: sketchprune verify deep/claims_mine.py::my/false *"])


def test_who_has_no_claims_pays_nothing(pytester):
    (pytester.path / "test_plain.py").write_text(PLAIN)
    (pytester.path / "theory.py").write_text("'''About music.'''\n")
    for words in ([], ["test_plain.py"]):
        pytester.runpytest_subprocess(*OPTIONS, *words).assert_outcomes(passed=1)


def test_a_file_that_hides_the_package_is_named(pytester):
    (pytester.path / "theory.py").write_text("'''About music.'''\n")
    (pytester.path / "claims_mine.py").write_text(FILE)
    result = pytester.runpython_c(f"import pytest; pytest.main({OPTIONS})")
    result.stdout.fnmatch_lines(
        [f"theory is {pytester.path}/theory.py, which hides the package theory of sketchprune*"]
    )
