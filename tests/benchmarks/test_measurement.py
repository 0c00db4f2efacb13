"""Defects are planted in a copy, one at a time; what catches them is kept, and the rest goes on from there."""

import io
import json
from contextlib import contextmanager

import pytest
from rich.console import Console

from benchmarks.defects import defect as records
from benchmarks.defects import measurement, planting
from benchmarks.defects.defect import Defect

DOUBLED = Defect("doubled", file="code.py", text="return x", replacement="return 2 * x", tests=("test_code.py",))
HIDDEN = Defect("hidden", file="code.py", text="1", replacement="2", tests=("test_code.py",))
SOURCE = "CONSTANT = 1\n\n\ndef identity(x):\n    return x\n"
TEST = "from code_under_test import identity\n\n\ndef test_identity():\n    assert identity(3) == 3\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one function and one test, whose defects are measured; the folder of its copy."""
    root, copied = tmp_path / "project", tmp_path / "copy"
    root.mkdir()
    copied.mkdir()
    (root / "code.py").write_text(SOURCE)
    (root / "test_code.py").write_text(TEST.replace("code_under_test", "code"))
    monkeypatch.setattr(planting, "_COPIED", ("code.py", "test_code.py"))
    monkeypatch.setattr(planting, "_CACHE", tmp_path / "cache")
    for module in (planting, records):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(measurement, "RESULTS", tmp_path / "results" / "defects.json")
    monkeypatch.setattr(measurement, "DEFECTS", (DOUBLED, HIDDEN))
    monkeypatch.setattr(measurement, "TABLES", {"identity": (DOUBLED, HIDDEN)})
    return copied


def silent():
    return Console(file=io.StringIO())


def test_a_defect_is_in_the_copy_only_while_it_is_planted(project):
    copy = planting.Copy(project)
    with copy.planted(DOUBLED):
        assert "2 * x" in (project / "code.py").read_text()
        first = (project / "code.py").stat().st_mtime
    assert (project / "code.py").read_text() == SOURCE
    with pytest.raises(ZeroDivisionError), copy.planted(DOUBLED):
        assert (project / "code.py").stat().st_mtime != first
        raise ZeroDivisionError
    assert (project / "code.py").read_text() == SOURCE


def test_a_failing_test_is_named_and_what_does_not_run_is_no_catch(project):
    copy = planting.Copy(project)
    with copy.planted(DOUBLED):
        assert copy.failing_test(DOUBLED.tests) == "test_code.py::test_identity"
    assert copy.failing_test(DOUBLED.tests) is None  # though the size of the file and the second may be the same
    with pytest.raises(RuntimeError, match=r"pytest test_nothing.py did not run \(status 4\)"):
        copy.failing_test(["test_nothing.py"])


class Planted(planting.Copy):
    """A copy whose claims and tests fail where they are told to, without being run."""

    def __init__(self, folder):
        self.asked, self.now = [], None

    def claim_fails(self):
        return False

    def test_fails(self):
        return False

    @contextmanager
    def planted(self, defect):
        self.now = defect.name
        yield
        self.now = None

    def failing_claim(self, claims):
        self.asked.append("claim")
        return "a claim" if self.claim_fails() else None

    def failing_test(self, tests):
        self.asked.append("test")
        return "a test" if self.test_fails() else None


class CatchesDoubled(Planted):
    def test_fails(self):
        return self.now == "doubled"


class FailsAlways(Planted):
    def test_fails(self):
        return True


class ClaimCatches(FailsAlways):
    def claim_fails(self):
        return True


def test_results_are_kept_and_what_changed_runs_again(project, monkeypatch):
    monkeypatch.setattr(measurement, "Copy", CatchesDoubled)
    found = measurement.measured(silent())
    assert {name: result["caught_by"] for name, result in found.items()} == {"doubled": "test", "hidden": None}
    assert json.loads(measurement.RESULTS.read_text()) == found
    # Nothing is pending: what is in the file is believed.
    measurement.RESULTS.write_text(json.dumps(found | {"hidden": found["hidden"] | {"caught_by": "claim"}}))
    assert measurement.measured(silent())["hidden"]["caught_by"] == "claim"
    # The file of the defects changes, so that both run again.
    (records.ROOT / "code.py").write_text(SOURCE + "\n")
    assert measurement.measured(silent())["hidden"]["caught_by"] is None


def test_what_fails_without_a_defect_catches_nothing(project, monkeypatch):
    monkeypatch.setattr(measurement, "Copy", FailsAlways)
    with pytest.raises(RuntimeError, match="a test, without a defect"):
        measurement.measured(silent())
    assert not measurement.RESULTS.exists()


@pytest.mark.parametrize(
    ("copy", "caught_by", "by", "asked"),
    [
        (ClaimCatches, "claim", "a claim", ["claim"]),
        (FailsAlways, "test", "a test", ["claim", "test"]),
        (Planted, None, None, ["claim", "test"]),
    ],
)
def test_a_claim_is_verified_before_tests_run(project, copy, caught_by, by, asked):
    planted = copy(project)
    result = measurement._caught(planted, DOUBLED)
    assert (result["caught_by"], result["by"], planted.asked) == (caught_by, by, asked)


def test_the_table_counts_each_subject(project):
    found = {"doubled": {"caught_by": "test"}, "hidden": {"caught_by": None}}
    console = silent()
    console.print(measurement.table(found))
    (line,) = (line for line in console.file.getvalue().splitlines() if "identity" in line)
    assert [word for word in line if word.isdigit()] == ["2", "0", "1", "1"]
