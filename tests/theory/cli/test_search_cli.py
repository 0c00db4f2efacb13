"""`sketchprune search`: what it writes, resumes and refuses, and the theory beside it."""

import contextlib
import errno
import functools
import io
import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, search
from sketchprune.search import problems, report
from sketchprune.search.problems import Setting, problem
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
        while not search_folder.masks_done(tmp_path) and time.monotonic() < deadline:
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
    assert command("--out", tmp_path, *options) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/checkpoint holds a checkpoint of 1,536 masks; it takes --resume to go on from it" in said
    assert f"another --out, or a start after you delete {tmp_path}/checkpoint" in said
    assert kept.read_text() == "of work" and note.read_text() == "not of a search"


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
    assert f"error: out is {tmp_path}, which cannot be written (No space left on device); 3,000 masks are kept" in said


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


@pytest.mark.parametrize(("law", "kept"), [("fixed-size", 3), ("poisson", 3), ("multinomial", 8)])
def test_no_law_keeps_more_weights_than_have_a_size(law, kept):
    """A multinomial law draws, and may draw one weight again and again."""
    three = replace(few(), x=np.where(np.arange(12) < 3, np.random.default_rng(0).standard_normal((200, 12)), 1.0))
    with jax.enable_x64(False):
        posed = problem(replace(SETTING, law=law, density=2 / 3), three)
        mask = np.asarray(posed.law(jax.random.key(0)))
    assert posed.keep == kept and posed.weights == 12
    assert mask[:3].any() and not mask[3:].any()


def test_settings_are_completed_once():
    for change, steps, step_size in (
        ({"objective": "training-error"}, None, None),
        ({"objective": "training-error", "steps": 7}, 7, 1.0),
        ({"model": "mlp", "objective": "trained-loss"}, 50, 0.01),
        ({"model": "mlp", "objective": "trained-loss", "steps": 0, "step_size": 0.5}, 0, 0.5),
    ):
        found = problems.completed(replace(SETTING, **change))
        assert (found.steps, found.step_size) == (steps, step_size)
        assert problems.completed(found) == found


@functools.cache
def few():
    """Twelve pixels of some images: small enough for every formula."""
    digits = data.load()
    return replace(digits, x=digits.x[:200, 18:30], y=digits.y[:200], image_shape=())


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": "data-free"},
        {"law": "multinomial", "binary": True},
        {"law": "poisson"},
        {"law": "poisson", "binary": True, "probabilities": "uniform"},
        {"law": "fixed-size"},
        {"objective": "training-error"},
        {"objective": "training-error", "law": "poisson"},
        {"model": "mlp", "objective": "ntk-error"},
        {"model": "mlp", "objective": "ntk-error", "law": "poisson", "probabilities": "data-free"},
    ],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_theory_is_what_the_masks_do(change):
    setting = replace(SETTING, density=0.4, **change)
    count = 512 if setting.model == "mlp" else 2048
    with jax.enable_x64(False):
        posed = problem(setting, few())
        found = search.best(posed.objective, posed.law, count, key=jax.random.key(1), num_best=1, mesh=ALONE)
        mask = jax.tree.map(lambda leaf: leaf[0], found.masks)
    deviation = np.sqrt(found.variance / count)
    if "expectation" in posed.theory:
        assert abs(found.mean - posed.theory["expectation"]) < 5 * deviation
    else:
        assert found.mean < posed.theory["expectation at most"] + 5 * deviation
    tail = [value for name, value in posed.theory.items() if not name.startswith("expectation")]
    assert len(tail) == 1 and found.quantile(1 - problems.DELTA) <= tail[0]
    np.testing.assert_allclose(float(posed.objective_float64(mask)), found.values[0], rtol=1e-4)


@pytest.mark.parametrize("objective", ["initial-loss", "trained-loss"])
def test_network_masks_keep_biases_and_count_weights(objective):
    setting = replace(SETTING, model="lenet", objective=objective, law="fixed-size", steps=2, step_size=0.01)
    setting = replace(setting, probabilities="data-free")  # column norms of a tangent kernel take long to compile
    with jax.enable_x64(False):
        posed = problem(setting, data.load())
        mask = posed.law(jax.random.key(0))
        assert np.isfinite(posed.objective(mask))
    kept = [np.asarray(leaf).sum() for leaf in jax.tree.leaves(mask) if leaf.ndim > 1]
    assert sum(kept) == posed.keep == round(0.2 * posed.weights)
    assert all(np.asarray(leaf).all() for leaf in jax.tree.leaves(mask) if leaf.ndim == 1)
    assert not posed.theory
    assert [bool(leaf.all()) for leaf in jax.tree.leaves(posed.zero_mask)] == [
        leaf.ndim == 1 for leaf in jax.tree.leaves(mask)
    ]


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_what_may_be_pruned_can_be_chosen(model):
    """The density and the law are over the layer that is chosen, and other layers stay dense."""
    setting = replace(SETTING, model=model, law="poisson", probabilities="uniform", binary=True)
    setting = replace(setting, objective=problems.OBJECTIVES[model][0])
    with jax.enable_x64(False):
        if model == "linear":
            with pytest.raises(ValueError, match="prunable chooses none of the leaves"):
                problem(setting, few(), prunable=lambda path: "Dense" in path)
            return
        posed = problem(setting, few(), prunable=lambda path: path == "['Dense_1']['kernel']")
        mask = posed.law(jax.random.key(0))
    assert posed.weights == 64 * 64 and posed.keep == round(0.2 * 64 * 64)
    whole = {jax.tree_util.keystr(path): leaf.all() for path, leaf in jax.tree_util.tree_leaves_with_path(mask)}
    assert not whole.pop("['Dense_1']['kernel']") and all(whole.values())


@pytest.mark.parametrize("law", ["fixed-size", "poisson", "multinomial"])
def test_the_realised_density_is_what_masks_keep(law):
    """Multinomial masks keep fewer weights than are drawn."""
    with jax.enable_x64(False):
        posed = problem(replace(SETTING, law=law, density=0.5), few())
        kept = np.asarray(jax.vmap(posed.law)(jax.random.split(jax.random.key(0), 4096))) != 0
    counts = kept.sum(axis=1)
    assert abs(counts.mean() / 12 - posed.density) <= 5 * counts.std() / 12 / 64 + 1e-6
    assert (posed.density < 0.45) == (law == "multinomial")


def test_figures_of_any_values():
    law = functools.partial(jax.random.normal, shape=())
    signed = search.best(lambda mask: mask, law, 512, key=jax.random.key(0), num_best=2, mesh=ALONE)
    figure = report.histogram(signed, theory={}, zero_mask=0.5, label="values")
    assert figure.axes[0].get_xscale() == "linear"
    counts, edges = report._bars(signed)
    assert counts.sum() == 512 and len(edges) == len(counts) + 1 <= 82
    infinite = search.best(lambda mask: jnp.inf + 0 * mask, law, 512, key=jax.random.key(0), num_best=2, mesh=ALONE)
    assert infinite.infinite == 512 and np.isnan(infinite.mean)
    assert np.isnan(report.standard_error(infinite))
    report.histogram(infinite, theory={"expectation": 1.0}, zero_mask=float("nan"), label="values")
    assert report.numbers(infinite, {})["quantiles"]["0.5"] == np.inf


def test_the_error_of_the_mean_is_that_of_finite_values():
    def mostly_undefined(value):
        return jnp.where(value < 0.8, jnp.nan, jnp.where(value < 0.9, jnp.inf, value))

    law = functools.partial(jax.random.uniform, shape=())
    found = search.best(mostly_undefined, law, 512, key=jax.random.key(0), num_best=1, mesh=ALONE)
    values = np.array([mostly_undefined(law(search.mask_key(jax.random.key(0), i))) for i in range(512)], np.float64)
    finite = values[np.isfinite(values)]
    assert 20 < len(finite) < 100 and found.infinite and found.undefined
    expected = finite.std() / np.sqrt(len(finite))
    assert report.standard_error(found) == pytest.approx(expected, rel=1e-6)
    assert report.numbers(found, {})["standard_error"] == report.standard_error(found)
