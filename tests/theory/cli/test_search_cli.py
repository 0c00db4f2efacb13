"""`sketchprune search`: what it writes, resumes and refuses, and the theory beside it."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import signal
import time
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from sketchprune import data, search
from sketchprune.search import problems
from sketchprune.search.problems import Setting
from tests.support import search_process
from theory.cli import main, search_folder
from theory.cli import search as search_cli
from theory.cli.folder import locked

ALONE = search.mesh.over(jax.devices()[:1])
SETTING = Setting("digits", "linear", "multinomial", "optimal", False, "linear-error", 0.2, None, None, 0)
pytestmark = pytest.mark.usefixtures("jax_settings")


@pytest.fixture(autouse=True)
def x64():
    """The command turns it off; what is computed without the command has it."""
    yield
    jax.config.update("jax_enable_x64", True)


def command(*arguments):
    return main(["search", "--masks", "3000", "--best", "4", "--devices", "2", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(jax_settings, tmp_path_factory):
    """The folder of a search that ran to its end, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("finished"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert command("--out", folder) == 0
    jax.config.update("jax_enable_x64", True)
    return folder, printed.getvalue()


def test_the_command_writes_what_it_found(finished, tmp_path, capsys):
    folder, said = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert "linear-error of 3,000 multinomial masks" in said and "masks/s" in said and "100%" in said
    written = json.loads((tmp_path / "result.json").read_text())
    assert f"6 of 64 weights, realised density {written['realised_density']:.4g};" in said
    with np.load(tmp_path / "best.npz") as kept:
        best = dict(kept)
    assert [entry["index"] for entry in written["best"]] == best["indices"].tolist()
    # By hand, in float64 and on the images themselves.
    x = np.asarray(data.standardise(data.load().x), np.float64)
    w = np.asarray(jax.random.normal(jax.random.key(0), (64,), jnp.float32), np.float64)
    errors = np.sum(((best["mask"] - 1) * w @ x.T) ** 2, axis=1)
    np.testing.assert_allclose(errors, best["values"], rtol=1e-4)
    np.testing.assert_allclose(written["zero_mask"], np.sum((x @ w) ** 2), rtol=1e-5)
    assert "no mask found does better" in said  # sketches of so few weights are worse than none
    (direct,) = written["direct_masks"].values()
    assert (
        direct["bound"] <= direct["value"] < written["best"][0]["value"] and "a mask >= 0 of at most 6 weights" in said
    )
    assert written["float32_error"] < 1e-5 and written["num_masks"] == 3000
    deviation = np.sqrt(written["variance"] / 3000)
    assert abs(written["mean"] - written["theory"]["expectation"]) < 5 * deviation
    assert written["quantiles"]["0.99"] < written["theory"]["McDiarmid"]
    assert (tmp_path / "histogram.png").read_bytes().startswith(b"\x89PNG")

    assert command("--out", tmp_path, "--resume", "--devices", 1) == 0
    again = json.loads((tmp_path / "result.json").read_text())
    for name in ("best", "mean", "variance", "quantiles"):
        assert again[name] == written[name]
    assert command("--out", tmp_path, "--resume", "--seed", 1, "--density", 0.2) == 2
    assert "is of another search (density: 0.1 there, 0.2 here; seed: 0 there, 1 here)" in capsys.readouterr().err
    (tmp_path / "checkpoint" / "setting.json").unlink()  # a checkpoint without it says the same in its own words
    assert command("--out", tmp_path, "--resume", "--seed", 1) == 2
    assert "is of another search (key: [0, 0] there, [0, 1] here; law:" in capsys.readouterr().err
    (tmp_path / "checkpoint" / "setting.json").write_text("[]")
    assert command("--out", tmp_path, "--resume") == 2
    assert f"{tmp_path}/checkpoint/setting.json, which is no setting" in capsys.readouterr().err


def test_processes_that_slurm_has_started_join(finished, tmp_path):
    """Two processes of one device find what one process of two devices finds."""
    digits = data.load()
    np.savez(tmp_path / "digits.npz", x=digits.x, y=digits.y)  # scikit-learn, which has them, is slow to import
    port = search_process.free_port()
    joined = [
        search_process.launch(
            *("-m", "theory", "search", "--masks", "3000", "--best", "4", "--out", tmp_path / "two"),
            *("--data", tmp_path / "digits.npz", "--cluster", "--join-timeout", 240),
            devices=1,
            **search_process.slurm(number, port),
        )
        for number in (0, 1)
    ]
    outputs = [process.communicate(timeout=300) for process in joined]
    for process, (_, errors) in zip(joined, outputs, strict=True):
        assert process.returncode == 0, errors
    assert "2 processes" in outputs[0][0]
    assert "masks" not in outputs[1][0]  # only the first one prints
    one, two = (json.loads((folder / "result.json").read_text()) for folder in (finished[0], tmp_path / "two"))
    for name in one.keys() - {"rate", "seconds", "setting"}:
        assert one[name] == two[name], name


def test_a_process_that_is_killed_ends_the_others_with_a_word(tmp_path):
    """Within seconds, where JAX would abort them after a minute."""
    port = search_process.free_port()
    joined = [
        search_process.launch(
            *("-m", "theory", "search", "--masks", "1e12", "--out", tmp_path, "--cluster", "--join-timeout", 240),
            *("--checkpoint-seconds", 0, "--batch", 512),
            devices=1,
            **search_process.slurm(number, port),
        )
        for number in (0, 1)
    ]
    try:
        deadline = time.monotonic() + 240
        while not search_folder.masks_done(epath.Path(tmp_path / "checkpoint")) and time.monotonic() < deadline:
            time.sleep(0.1)
        joined[1].kill()
        _, errors = joined[0].communicate(timeout=60)
    finally:
        for process in joined:
            process.kill()
            process.communicate()
    assert joined[0].returncode == 1
    assert re.search("process 1 is gone before the end of the search; [0-9,]+ masks are kept; the same command", errors)
    assert "--resume" in errors and "***" not in errors


def test_the_options_are_those_of_the_tables():
    options = get_type_hints(search_cli.search)
    models, objectives = get_args(options["model"]), get_args(get_args(options["objective"])[0])
    assert set(models) == set(problems.OBJECTIVES)
    assert set(objectives) == {name for names in problems.OBJECTIVES.values() for name in names}
    assert get_args(options["probabilities"]) == problems.PROBABILITIES
    assert problems.law_names() == ("multinomial", "poisson", "fixed-size")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks", "1.5"], "masks is 1.5; it takes a whole number"),
        (["--masks", "0"], "masks is 0"),
        (["--masks", "inf"], "masks is inf; it takes a whole number"),
        (["--masks", "nan"], "masks is nan; it takes a whole number"),
        (["--best", "5000"], "best is 5000; it takes 1 to masks = 3000"),
        (["--density", "2"], "density is 2; it takes a number in (0, 1]"),
        (["--density", "1e-4"], "density is 0.0001, which keeps none of 64 weights"),
        (["--model", "mlp", "--objective", "linear-error"],
         "objective is linear-error for the model mlp; it takes initial-loss or trained-loss or ntk-error"),
        (["--steps", "-1"], "steps is -1"),
        (["--steps", "100000000000", "--objective", "training-error"], "it takes a whole number from 0 to 2^31 - 1"),
        (["--step-size", "0"], "step-size is 0"),
        (["--step-size", "inf"], "step-size is inf; it takes a finite number > 0"),
        (["--step-size", "nan"], "step-size is nan"),
        (["--checkpoint-seconds", "nan"], "checkpoint-seconds is nan; it takes a finite number >= 0"),
        (["--checkpoint-seconds", "-5"], "checkpoint-seconds is -5"),
        (["--join-timeout", "inf"], "join-timeout is inf"),
        (["--steps", "5"], "steps is 5 with the objective linear-error, which trains nothing; it takes training-error"),
        (["--step-size", "0.5"], "step-size is 0.5 with the objective linear-error"),
        (["--model", "mlp", "--steps", "5"], "steps is 5 with the objective initial-loss"),
        (["--step-size", "0.5", "--objective", "training-error"], "step-size is 0.5 without steps"),
        (["--binary", "--law", "fixed-size"], "binary is True; FixedSize takes False"),
        (["--law", "fixed"], "law is fixed; it takes multinomial or poisson or fixed-size"),
        (["--binary", "--objective", "training-error"], "binary is True with the objective training-error"),
        (["--seed", "-1"], "seed is -1"),
        (["--devices", "9"], "devices is 9; it takes 1 to 8"),
        (["--data", "nothing"], "data is nothing: "),
        (["--coordinator", "127.0.0.1:1"], "it takes all of them, or none"),
        (["--processes", "2", "--process-id", "1", "--coordinator", "127.0.0.1:1", "--join-timeout", "0.1"],
         "process 0 of 2 did not answer at 127.0.0.1:1 within 0.1 s"),
    ],
)  # fmt: skip
def test_wrong_usage(tmp_path, capsys, arguments, message):
    assert command("--out", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command("--out", tmp_path / "file") == 2
    assert f"out is {tmp_path}/file, which cannot be written (" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--best", 1), ("--seed", 1)])
def test_no_start_deletes_what_is_there(tmp_path, capsys, options):
    kept = tmp_path / "checkpoint" / "1536" / "hours"
    kept.parent.mkdir(parents=True)
    kept.write_text("of work")
    (note := tmp_path / "checkpoint" / "note").write_text("not of a search")
    (progress := tmp_path / "progress.jsonl").write_text("of that work")
    assert command("--out", tmp_path, *options) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/checkpoint holds a checkpoint of 1,536 masks; it takes --resume to go on from it" in said
    assert f"another --out, or a start after you delete {tmp_path}/checkpoint" in said
    assert kept.read_text() == "of work" and note.read_text() == "not of a search"
    assert progress.read_text() == "of that work"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_goes_on(finished, tmp_path, capsys, monkeypatch, number):
    reached = []

    def interrupting(*_):
        def report(now):
            reached.append(now.done)
            signal.raise_signal(number)

        return report

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(search_cli, "_reporter", interrupting)
        assert command("--out", out, "--batch", 512, "--checkpoint-seconds", 0) == 130
    assert reached == [512]
    assert "interrupted: 512 masks are kept; the same command with --resume goes on" in capsys.readouterr().err
    assert command("--out", out, "--resume") == 0
    assert "goes on after 512 masks" in capsys.readouterr().out
    found, whole = (json.loads((folder / "result.json").read_text()) for folder in (out, finished[0]))
    assert all(found[name] == whole[name] for name in ("best", "mean", "variance", "quantiles"))


def test_a_folder_takes_one_search_at_a_time(tmp_path, capsys):
    with locked(tmp_path):
        assert command("--out", tmp_path) == 2
    assert f"out is {tmp_path}, into which another run is writing; it takes another --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_refused_checkpoint_is_not_gone_on_after(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoint" / "setting.json").unlink()
    assert command("--out", tmp_path, "--resume", "--seed", 1) == 2
    said = capsys.readouterr()
    assert "is of another search" in said.err and "goes on after" not in said.out


def test_a_full_disk_says_what_is_kept(finished, tmp_path, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(search, "best", full)
    assert command("--out", tmp_path, "--resume") == 1
    said = capsys.readouterr().err
    assert f"error: out is {tmp_path}, which cannot be written (No space left on device); 2,816 masks are kept" in said


def test_images_that_are_too_small_for_the_model(tmp_path, capsys):
    np.savez(tmp_path / "small.npz", x=np.random.default_rng(0).normal(size=(20, 3, 4)), y=np.arange(20) % 3)
    assert command("--data", tmp_path / "small.npz", "--out", tmp_path / "out", "--model", "lenet") == 2
    assert "x has images of 3x4 pixels; LeNet takes 4x4 or more" in capsys.readouterr().err


def test_an_early_interrupt_promises_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "best", interrupted)
    assert command("--out", tmp_path, "--resume") == 130
    said = capsys.readouterr()
    assert "nothing to resume: starts with the first mask" in said.out
    assert "interrupted: no checkpoint was written yet; the same command starts again" in said.err
    assert command("--out", tmp_path) == 130  # and so it does


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (3.0, ()),
        (3.0, ("--law", "poisson", "--probabilities", "uniform")),
        (3.0, ("--law", "fixed-size", "--objective", "training-error")),
        (0.0, ("--model", "mlp", "--law", "fixed-size")),
        (0.0, ("--model", "mlp", "--objective", "ntk-error")),
    ],
)
def test_data_that_say_nothing(tmp_path, capsys, value, options):
    np.savez(tmp_path / "flat.npz", x=np.full((20, 10), value), y=np.arange(20) % 3)
    assert command("--data", tmp_path / "flat.npz", "--out", tmp_path, *options) == 2
    assert "flat.npz, which gives every weight the size 0" in capsys.readouterr().err
