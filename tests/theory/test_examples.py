"""Claims in files of a user's own, as they would be run."""

import json
import shlex
from pathlib import Path

import pytest

from theory.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"


pytestmark = pytest.mark.usefixtures("jax_settings")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of one's own."""
    monkeypatch.chdir(tmp_path)


def verdicts():
    (claim,) = json.loads(Path("report/verdicts.json").read_text())["claims"]
    return claim


def test_a_bound_of_ones_own_is_supported(capsys):
    assert main(["verify", str(EXAMPLES / "my_bounds.py"), "--tier", "quick"]) == 0
    assert "SUPPORTED" in capsys.readouterr().out
    claim = verdicts()
    assert list(claim["cases"]) == ["gaussian", "digits"]
    assert claim["mutants"] == {"half": "REFUTED"} and claim["counterexample"] is None


def test_a_false_claim_is_refuted_and_its_replay_command_works(capsys):
    assert main(["verify", str(EXAMPLES / "false_claim.py"), "--tier", "quick"]) == 1
    printed, first = capsys.readouterr().out, verdicts()
    assert first["verdict"] == "REFUTED" and first["counterexample"]["found_by"] == "trials"
    assert f"measured {first['counterexample']['measured']}" in printed

    program, *words = shlex.split(printed.split("replay: ")[1].splitlines()[0])
    assert program == "sketchprune" and words == [*shlex.split(first["command"])[1:], "--out", "replay"]
    assert main(words) == 1
    (again,) = json.loads(Path("replay/verdicts.json").read_text())["claims"]
    assert again | {"elapsed_s": first["elapsed_s"]} == first
