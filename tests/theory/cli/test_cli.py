"""The command, with a stand-in for the verifier: what it prints, writes and returns."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import jax
import pytest

from tests.support.command import CATALOGUE, FILE, run, set_up, stand_in, timeless, verdict_on, verdicts
from theory.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, UNMET

pytestmark = pytest.mark.usefixtures("jax_settings")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    return set_up(tmp_path, monkeypatch)


def test_everything_as_expected(here, capsys):
    code, out, err = run(capsys, "verify")
    assert code == 0 and err == ""
    assert "\x1b" not in out and "3 claims, tier standard, seed 0, data digits" in out
    lines = out.splitlines()
    assert re.search(r"✓ SUPPORTED +sketch/one +1 +2 +2 +– +8192 +2/2 ", lines[3])
    assert re.search(r"✓ REFUTED +paths/false +1.5 +1.25 ", out) and "known to be false" in out
    assert "counterexample: case digits, instance 5, found by search, component 0" in out
    assert "measured 1.5, theory 1.25" in out and "w = [1., 2.]" in out
    assert "replay: sketchprune verify paths/false --tier standard --seed 0" in out
    assert "3 of 3 as expected, 4 of 4 mutants refuted" in out
    assert lines[-1] == "report: report/index.html"
    assert [entry["id"] for entry in verdicts(here)["claims"]] == [item.id for item in CATALOGUE]
    assert {path.name for path in (here / "report").iterdir()} == {
        "index.html", "verdicts.csv", "verdicts.json", "verdicts.jsonl",
    }  # fmt: skip


def test_settings_reach_the_verifier_and_the_report(here, capsys):
    code, out, _ = run(capsys, "verify", "sketch/*", "--tier", "quick", "--seed", "7", "--out", "deep/er")
    assert code == 0 and out.endswith("report: deep/er/index.html\n")
    report = json.loads((here / "deep" / "er" / "verdicts.json").read_text())
    assert (report["seed"], report["tier"], report["data"]) == (7, "quick", "digits")
    assert report["claims"][0]["cases"]["digits"]["measured"] == 8.0
    assert jax.config.jax_enable_x64  # as it was
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1


def test_a_false_claim_in_a_file_is_refuted_with_a_command_that_replays_it(here, capsys):
    (here / "my bounds.py").write_text(FILE)
    code, out, _ = run(capsys, "verify", "my bounds.py", "--tier", "quick", "--seed", "2")
    assert code == 1
    assert "not as expected: my/false" in out and "expected SUPPORTED" in out
    first = verdicts(here)["claims"][1]
    assert first["command"] == "sketchprune verify 'my bounds.py::my/false' --tier quick --seed 2"
    assert f"replay: {first['command']}" in out
    assert run(capsys, *shlex.split(first["command"])[1:])[0] == 1
    (again,) = verdicts(here)["claims"]
    assert again | {"elapsed_s": 0} == first | {"elapsed_s": 0}


def test_a_surviving_mutant(here, capsys, monkeypatch):
    def verify(claim, **settings):
        return replace(verdict_on(claim, **settings), mutants={"half": SUPPORTED, "twice": REFUTED})

    stand_in(monkeypatch, verify)
    code, out, _ = run(capsys, "verify", "sketch/one")
    assert code == 1
    assert "✗ SUPPORTED" in out and "1/2" in out and "mutant half survives (SUPPORTED)" in out


def test_an_unmet_case_names_the_hypothesis(here, capsys, monkeypatch):
    def verify(claim, **settings):
        found = verdict_on(claim, **settings)
        case = replace(found.cases["small"], verdict=UNMET, reason="no instance meets: x is not zero")
        return replace(found, cases=found.cases | {"small": case})

    stand_in(monkeypatch, verify)
    code, out, _ = run(capsys, "verify", "sketch/one")
    assert code == 0 and "  case small is UNMET: no instance meets: x is not zero" in out
    assert "no instance meets: x is not zero" in (here / "report" / "index.html").read_text()
    assert verdicts(here)["claims"][0]["cases"]["small"]["reason"] == "no instance meets: x is not zero"


def test_undecided(here, capsys, monkeypatch):
    stand_in(monkeypatch, lambda claim, **settings: replace(verdict_on(claim), verdict=INCONCLUSIVE))
    code, out, _ = run(capsys, "verify", "sketch/one")
    assert code == 1 and "? INCONCLUSIVE" in out
    assert run(capsys, "verify", "sketch/one", "--strict")[0] == 3


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["verify", "sketch/onne"],
            "'sketch/onne', an unknown claim; it takes an id or a pattern (nearest: sketch/one",
        ),
        (["verify", "lottery/*"], "selection is 'lottery/*', which matches nothing"),
        (["verify", "absent.py"], "selection is absent.py, which cannot be read (No such file or directory)"),
        (["verify", "--seed", "-1"], "seed is -1; it takes a whole number from 0 to 2^63 - 1"),
        (["falsify", "sketch/one", "--seed", "-1"], "seed is -1; it takes a whole number from 0 to 2^63 - 1"),
        (["falsify", "sketch/one", "--steps", "-1"], "steps is -1; it takes a whole number >= 0"),
        (["falsify", "sketch/one"], "claim is sketch/one; it takes a bound that names fields to move"),
        (["verify", "--seed", "half"], "--seed"),
        (["verify", "--tier", "slow"], "--tier"),
        (["verify", "--data", "absent.npz"], "error: data is absent.npz: "),
        (
            ["verify", "--out", "file"],
            "out is file, which cannot be written (File exists); it takes a folder that can be written",
        ),
        (["verify", "--nonsense"], "--nonsense"),
        (["search", "--law", "best"], "law is best; it takes multinomial or poisson or fixed-size"),
        (["search", "--probabilities", "synflo"], "'synflo'"),
        (["show", "sketch/onne"], "an unknown claim; it takes an id or a pattern (nearest: sketch/one"),
        (["vrify"], "vrify"),
        ([], "verify"),
    ],
)
def test_wrong_usage(here, capsys, words, message):
    (here / "file").write_text("")
    code, out, err = run(capsys, *words)
    assert code == 2 and message in re.sub(r"\s+", " ", err + out)
    assert not (here / "report").exists()


def test_a_claim_that_fails_keeps_what_is_finished(here, capsys, monkeypatch):
    def verify(claim, **settings):
        if claim.id == "my/false":
            claim.trial()  # wrong number of arguments
        return verdict_on(claim, **settings)

    stand_in(monkeypatch, verify)
    (here / "mine.py").write_text(FILE)
    code, out, err = run(capsys, "verify", "mine.py")
    assert code == 1
    assert "mine.py::my/false: verification failed with TypeError" in err
    assert "TypeError" in verdicts(here)["failed"]["mine.py::my/false"]
    assert "could not be verified: mine.py::my/false" in out
    assert "verification failed with TypeError" in (here / "report" / "index.html").read_text()
    assert "TypeError" in (here / "report" / "traceback-1.txt").read_text()
    left = [entry["id"] for entry in verdicts(here)["claims"]]
    assert left and "my/false" not in left and "report: report/index.html" in out
    asked = []
    stand_in(monkeypatch, lambda claim, **settings: asked.append(claim.id) or verdict_on(claim, **settings))
    assert run(capsys, "verify", "mine.py", "--resume")[0] == 1
    assert asked == ["my/false"]


def test_an_interrupted_run_resumes_to_the_same_report(here, capsys, monkeypatch):
    assert run(capsys, "verify", "--seed", "4")[0] == 0
    whole, table = timeless(here), (here / "report" / "verdicts.csv").read_text()
    asked = []

    def verify(claim, **settings):
        asked.append(claim.id)
        if claim.id == "sketch/two" and asked.count("sketch/two") == 1:
            raise KeyboardInterrupt
        return verdict_on(claim, **settings)

    stand_in(monkeypatch, verify)
    code, _, err = run(capsys, "verify", "--seed", "4")
    assert code == 130
    assert "1 of 3 verdicts are kept; go on with sketchprune verify --tier standard --seed 4" in err
    again = shlex.split(err.split("go on with sketchprune ")[1])
    assert again[-1] == "--resume"
    code, out, _ = run(capsys, *again)
    assert code == 0 and "3 of 3 as expected" in out
    assert asked.count("sketch/one") == 1 and asked.count("sketch/two") == 2
    assert timeless(here) == whole and (here / "report" / "verdicts.csv").read_text() == table


def test_resume_refuses_another_run(here, capsys):
    assert run(capsys, "verify", "sketch/one")[0] == 0
    code, _, err = run(capsys, "verify", "sketch/one", "--seed", "1", "--tier", "quick", "--resume")
    assert code == 2 and "(seed 0, not 1; tier standard, not quick)" in err
    assert len(verdicts(here)["claims"]) == 1


def test_resume_verifies_a_file_that_changed_again(here, capsys, monkeypatch):
    asked = []
    stand_in(monkeypatch, lambda claim, **settings: asked.append(claim.id) or verdict_on(claim, **settings))
    (here / "mine.py").write_text(FILE)
    run(capsys, "verify", "mine.py::my/good", "sketch/one")
    (here / "mine.py").write_text(FILE + "# better\n")
    run(capsys, "verify", "mine.py::my/good", "sketch/one", "--resume")
    assert sorted(asked[:2]) == ["my/good", "sketch/one"] and asked[2:] == ["my/good"]


def test_list_names_every_claim(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and len(out.splitlines()) == 3
    assert re.search(r"^paths/false +bound +About paths/false  \(known to be false\)$", out, re.MULTILINE)


def test_show_says_all_about_a_claim(here, capsys):
    code, out, _ = run(capsys, "show", "sketch/one")
    assert code == 0
    for words in (
        r"\lVert x\rVert \le 1", "bound: measured ≤ theory", "x is not zero", "twice", "Petros Drineas",
        "small (all outcomes enumerated)", "[drineas2006matmul: Lemma 4, stated there]",
        "sketchprune verify sketch/one",
    ):  # fmt: skip
        assert words in out
    (here / "mine.py").write_text(FILE)
    assert "sketchprune verify mine.py::my/good" in run(capsys, "show", "mine.py::my/good")[1]


def test_devices(capsys):
    code, out, _ = run(capsys, "devices")
    assert code == 0 and "cpu" in out and f"jax {jax.__version__}" in out


def test_help_is_light_and_list_runs_nothing_on_a_device():
    light = "import sys, theory.cli; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light]).returncode == 0
    nowhere = os.environ | {"JAX_PLATFORMS": "nowhere"}
    listing = [sys.executable, "-m", "theory", "list"]
    assert subprocess.run(listing, env=nowhere, capture_output=True).returncode == 0
