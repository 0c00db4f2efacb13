"""`sketchprune sweep`: what it writes, resumes, shares out among shards and refuses."""

import contextlib
import dataclasses
import inspect
import io
import json
import shutil
import signal
from typing import get_args

import jax
import numpy as np
import pytest

from sketchprune import sweep as library
from sketchprune.sweep import engine
from tests.support.command import run
from tests.support.sweeps import features, timeless
from theory.cli import main, sweep_folder
from theory.cli.folder import locked
from theory.cli.sweep import sweep
from theory.cli.sweep_table import lines

pytestmark = pytest.mark.usefixtures("jax_settings")
WORDS = (
    *("sweep", "--data", "tiny.npz", "--steps", "3", "--batch-size", "8", "--scores", "magnitude", "--seeds", "3"),
    *("--densities", "0.5", "0.1"),
)
SCORE = """
import jax
from sketchprune import scores

@scores.score(uses="params")
def smallest(net):
    return jax.tree.map(lambda w: -abs(w), net.params)

def broken(apply, loss, params, batch, *, mask=None, key=None, **options):
    return {}["nothing"]
"""


POSE, POSED = library.problem, {}


def compiled_once(network, train, test, training):
    """The problem of these settings, always the same one, so that its programs are compiled once; data are equal."""
    if (network, training) not in POSED:
        POSED[network, training] = POSE(network, train, test, training)
    return POSED[network, training]


def write_data(folder):
    samples, tests = features(30, 0), features(20, 1)
    np.savez(folder / "tiny.npz", x=samples.x, y=samples.y, x_test=tests.x, y_test=tests.y)


@pytest.fixture(autouse=True)
def x64():
    """The command turns it off."""
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True)
def groups_of_three(monkeypatch):
    monkeypatch.setattr(engine, "_LARGEST_GROUP", 3)
    monkeypatch.setattr(library, "problem", compiled_once)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    write_data(tmp_path)
    (tmp_path / "mine.py").write_text(SCORE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(jax_settings, tmp_path_factory):
    """The folder of a sweep that ran to its end in one process, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("finished"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(engine, "_LARGEST_GROUP", 3)
        patch.setattr(library, "problem", compiled_once)
        write_data(folder)
        assert main([*WORDS, "--out", "deep/er"]) == 0
    return folder / "deep" / "er", printed.getvalue()


def test_a_sweep_from_its_first_to_its_last_line(finished):
    folder, printed = finished
    said = printed.splitlines()
    assert said[0].startswith("9 runs: mlp on tiny.npz, 30 samples to train and 20 to test on, 3 steps; jax on cpu")
    assert "9 of 9 runs" in printed and "\x1b" not in printed
    assert said[-1] == "files: deep/er/runs.csv, accuracy.pdf, accuracy.png"
    rows = library.read(folder / "runs.csv")
    assert [row.density for row in rows] == 3 * [1.0, 0.5, 0.1]
    assert [row.seed for row in rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    weights = 4 * 100 + 100 * 100 + 100 * 3
    assert {row.realised_density * weights for row in rows} == {weights, weights // 2, weights // 10}
    table = lines(library.summarise(rows))
    assert said[-1 - len(table) : -1] == table
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "accuracy.pdf").read_bytes().startswith(b"%PDF")


def test_shards_of_which_one_is_interrupted_do_what_one_process_does(here, capsys, monkeypatch, finished):
    append = library.append

    def interrupted(path, rows):
        append(path, rows)
        with path.open("a") as file:
            file.write("mlp,magnitude,top,1,0.5,")  # a line that the kill cuts short
        signal.raise_signal(signal.SIGTERM)

    first = (*WORDS, "--out", "shards", "--shard", "1/2")
    with monkeypatch.context() as patched:
        patched.setattr(library, "append", interrupted)
        code, _, err = run(capsys, *first)
    assert code == 130 and "interrupted: 3 of 6 runs are kept; the same command with --resume goes on after" in err
    whole = timeless(library.read(finished[0] / "runs.csv"))
    assert timeless(sweep_folder.rows(here / "shards")) == whole[:3]
    code, out, _ = run(capsys, *WORDS, "--out", "shards", "--shard", "2/2")  # while the first one is down
    assert code == 0 and "3 runs, shard 2 of 2: " in out
    code, out, _ = run(capsys, *first, "--resume")
    assert code == 0 and "6 runs, 3 of them done, shard 1 of 2: " in out and "over 3 seeds" in out
    assert {row.seed for row in library.read(here / "shards/runs-1-of-2.csv")} == {0, 2}
    assert {row.seed for row in library.read(here / "shards/runs-2-of-2.csv")} == {1}
    assert timeless(sweep_folder.rows(here / "shards")) == whole
    code, out, _ = run(capsys, *WORDS, "--out", "shards", "--resume")  # nothing is left to do
    assert code == 0 and "9 runs, 9 of them done: " in out and not library.read(here / "shards/runs.csv")


def test_an_early_interrupt_promises_nothing(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "run", interrupted)
    code, _, err = run(capsys, *WORDS, "--out", "early")
    assert code == 130 and "no run is kept; the same command starts again" in err
    code, _, err = run(capsys, *WORDS, "--out", "early")  # and so it does
    assert code == 130


def test_a_folder_with_runs_is_gone_on_with_or_left_alone(here, capsys, finished):
    shutil.copytree(finished[0], here / "done")
    before = (here / "done/runs.csv").read_bytes()
    code, out, err = run(capsys, *WORDS, "--out", "done")
    assert code == 2 and out == "" and "where runs.csv holds 9 runs; it takes --resume to go on with them" in err
    setting = json.loads((here / "done/setting.json").read_text())
    (here / "done/setting.json").write_text(json.dumps(setting | {"network": "lenet", "batch size": 9}))
    code, _, err = run(capsys, *WORDS, "--out", "done", "--resume")
    assert code == 2
    assert "holds runs of another setting (network: lenet there, mlp here; batch size: 9 there, 8 here)" in err
    for content in ("[]", "{"):
        (here / "done/setting.json").write_text(content)
        code, _, err = run(capsys, *WORDS, "--out", "done", "--resume")
        assert code == 2 and "done/setting.json, which is no setting; it takes another --out" in err
    with locked(here / "done", "runs.csv"):
        code, _, err = run(capsys, *WORDS, "--out", "done", "--resume")
        assert code == 2 and "out is done, into which another run is writing" in err
    assert (here / "done/runs.csv").read_bytes() == before
    (here / "done/runs.csv").write_text("no,table\n")
    code, _, err = run(capsys, *WORDS, "--out", "done", "--resume")
    assert code == 2 and "done/runs.csv has the header no,table; it takes network,score" in err


def test_scores_of_ones_own_are_swept(here, capsys, finished):
    shutil.copytree(finished[0], here / "done")
    words = [*WORDS[:-3], "--densities", "0.1", "--out", "done", "--resume", "--seeds", "1", "--scores"]
    code, out, _ = run(capsys, *words, "mine.py::smallest", "magnitude")
    assert code == 0 and "3 runs, 2 of them done" in out
    rows = library.read(here / "done/runs.csv")
    assert len(rows) == 10 and rows[-1].score == "smallest" and rows[-1].test_accuracy < 1
    (here / "mine.py").write_text(SCORE + "\n# changed")
    code, _, err = run(capsys, *words, "mine.py::smallest")
    assert code == 2 and "another setting (file of the score smallest: " in err


def test_a_score_that_fails_says_why_and_keeps_what_is_done(here, capsys):
    code, _, err = run(capsys, *WORDS, "--scores", "mine.py::broken")
    assert code == 1
    assert (
        "error: a run failed with KeyError: 'nothing'; the traceback is in sweep/traceback.txt; no run is kept" in err
    )
    assert "mine.py" in (here / "sweep/traceback.txt").read_text()


def test_a_full_disk_says_what_is_kept(capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "run", lambda *arguments, **options: [[]])
    monkeypatch.setattr(library, "append", full)
    code, _, err = run(capsys, *WORDS)
    assert code == 1 and "error: out is sweep, which cannot be written (No space left on device); no run is kept" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "seeds is 0; it takes a whole number >= 1"),
        (["--seed", "-1"], "seed is -1; it takes a whole number from 0"),
        (["--seed", str(2**63)], "seed is 9223372036854775808"),
        (["--samples", "0"], "samples is 0; it takes a whole number >= 1"),
        (["--samples", "31"], "samples is 31; it takes at most 30, the training samples of tiny.npz"),
        (["--rounds", "0"], "rounds is 0; it takes a whole number >= 1"),
        (["--rounds", "2", "2"], "rounds is 2 2; it takes some values that differ"),
        (["--samplers", "top", "top"], "samplers is top top"),
        (["--steps", "-1"], "steps is -1; it takes a whole number >= 0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--learning-rate", "nan"], "learning_rate is nan; it takes a finite number > 0"),
        (["--densities", "0"], "density is 0.0; it takes a number in (0, 1]"),
        (["--densities", "0.5", "0.5"], "densities has 0.5 twice"),
        (["--densities", "1e-9"], "density is 1e-09, none of 10700 weights"),
        (["--shard", "3/2"], "shard is 3/2; it takes i/N with i from 1 to N"),
        (["--shard", "0/2"], "shard is 0/2"),
        (["--shard", "first"], "shard is first"),
        (["--shard", "1/4"], "shard is 1/4 of 3 seeds; it takes at most as many shards"),
        (["--scores", "snap"], "scores has 'snap'; it takes snip, "),
        (["--scores", "snip", "snip"], "scores has 'snip' twice; it takes names that differ"),
        (["--scores", "mine.py"], "scores has 'mine.py'; it takes mine.py::NAME with one of the functions"),
        (["--scores", "mine.py::largest"], "functions of that file: smallest, broken"),
        (["--scores", "yours.py::score"], "scores is yours.py, which cannot be read (No such file"),
        (["--network", "lenet"], "network is lenet, and tiny holds plain features; it takes mlp, or data of images"),
        (["--data", "nothing"], "data is nothing: source is 'nothing'"),
        (["--out", "tiny.npz"], "out is tiny.npz, which cannot be written ("),
    ],
)  # fmt: skip
def test_wrong_usage(here, capsys, words, message):
    code, out, err = run(capsys, *WORDS, *words)
    assert code == 2 and out == "" and message in err
    assert not (here / "sweep").exists()


def test_the_options_are_those_of_the_tables():
    options = inspect.signature(sweep).parameters
    assert get_args(options["network"].annotation) == tuple(library.NETWORKS)
    assert get_args(get_args(options["samplers"].annotation)[0]) == tuple(library.SAMPLERS)
    defaults = dataclasses.asdict(library.Training())
    assert {name: options[name].default for name in defaults} == defaults


def test_the_table():
    def summary(score, density, **fields):
        sampler = "top" if score == "snip" else ""
        made = library.Summary("mlp", score, sampler, 1, density, density, 3, 0, 0, 0.5, 0.01, 0.4, 0.6)
        return made._replace(**fields)

    found = lines([
        summary("dense", 1.0), summary("snip", 0.5, empty_layers=2),
        summary("snip", 0.1, runs=1, failures=2, standard_error=float("nan")),
        summary("flow", 0.1, runs=0, failures=3),
    ])  # fmt: skip
    assert found == [
        "test accuracy in %, mean ± standard error over 3 seeds, by density",
        "                      1           0.5           0.1",
        "dense        50.0 ± 1.0",
        "snip, top                 50.0 ± 1.0*         50.0!",
        "flow                                          none!",
        "* most of these networks have a layer without weights",
        "! no mask could be drawn for some seeds, which the mean leaves out: snip, top at 0.1 (2); flow at 0.1 (3)",
    ]
