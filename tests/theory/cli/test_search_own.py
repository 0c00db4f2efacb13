"""`sketchprune search FILE.py`: problems of one's own, further masks, checkpoints elsewhere, signals, progress."""

import json
import signal
import time
import zlib

import jax
import numpy as np
import pytest
from etils import epath

from tests.support import search_process
from theory.cli import main, search_folder

pytestmark = pytest.mark.usefixtures("jax_settings")

FILE = """
import jax, jax.numpy as jnp
from sketchprune import laws
from sketchprune.search.problems import Problem

scale = jnp.arange(1.0, 7.0)  # a float32 array, as the search has them

def cost(mask):
    return jnp.sum(scale * mask)

plain = Problem(laws.Poisson(jnp.full(6, 0.5), binary=True), cost)

def network(mask):
    return jnp.mean(jnp.tanh(jnp.ones((3, 4)) @ mask["w"]) ** 2)

def draw(key):
    return {"w": jax.random.bernoulli(key, shape=(4, 2))}

deep = Problem(draw, network, keep=4, weights=8, density=0.5, zero_mask={"w": jnp.zeros((4, 2))})
"""


@pytest.fixture(autouse=True)
def x64():
    """The command turns it off; what is computed without the command has it."""
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def own(tmp_path):
    (file := tmp_path / "mine.py").write_text(FILE)
    return file


def command(*words):
    return main(["search", "--best", "3", "--devices", "1", *map(str, words)])


def result(out):
    return {
        name: value
        for name, value in json.loads((out / "result.json").read_text()).items()
        if name not in ("rate", "seconds")
    }


def test_a_problem_of_ones_own(own, tmp_path, capsys):
    assert command(f"{own}::plain", "--masks", 500, "--seed", 3, "--out", tmp_path / "plain") == 0
    said = capsys.readouterr().out
    assert "cost of 500 Poisson masks, mine.py::plain: 1 x" in said
    assert "zero mask" not in said and "float32" not in said
    written = result(tmp_path / "plain")
    with np.load(tmp_path / "plain" / "best.npz") as kept:
        masks = kept["mask"]
    for mask, entry in zip(masks, written["best"], strict=True):
        assert entry["value"] == np.sum(np.arange(1, 7) * mask)
    named = {"problem": "mine.py::plain", "checksum of the file": zlib.crc32(FILE.encode()), "seed": 3}
    assert written["setting"] == named and written["zero_mask"] is None
    assert abs(written["mean"] - 10.5) < 5 * np.sqrt(written["variance"] / 500)

    assert command(f"{own}::deep", "--masks", 300, "--out", tmp_path / "deep") == 0
    said = capsys.readouterr().out
    assert "network of 300 draw masks, mine.py::deep: 4 of 8 weights, realised density 0.5; 1 x" in said
    assert "zero mask  0: no mask found does better" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{file}"], "it takes {file}::NAME with one of the problems at the top level of that file: plain, deep"),
        (["{file}::cost"], "problem is {file}::cost; it takes {file}::NAME"),
        (["{file}::plain", "--model", "mlp"], "model is mlp with {file}::plain, which says what is searched"),
        (["{file}::plain", "--density", "0.5"], "density is 0.5 with {file}::plain"),
        (["nothing.py"], "problem is nothing.py, which cannot be read"),
        (["mine"], "problem is mine; it takes FILE.py or FILE.py::NAME"),
    ],
)
def test_wrong_usage_of_files(own, tmp_path, capsys, words, message):
    assert command(*(word.format(file=own) for word in words), "--out", tmp_path / "out") == 2
    assert message.format(file=own) in capsys.readouterr().err


def test_a_file_of_one_problem_needs_no_name(tmp_path, capsys):
    (file := tmp_path / "one.py").write_text(FILE.split("def network")[0])
    assert command(file, "--masks", 300, "--out", tmp_path / "out") == 0
    assert "one.py::plain" in capsys.readouterr().out
    (file := tmp_path / "none.py").write_text("")
    assert command(file, "--masks", 300, "--out", tmp_path / "out") == 2
    assert "there are none" in capsys.readouterr().err


def test_further_masks_give_the_result_of_one_search(own, tmp_path, capsys):
    """With the checkpoint in a folder of its own, as in a cloud's storage."""
    word, place = f"{own}::plain", tmp_path / "kept"
    first = ("--masks", 1000, "--out", tmp_path / "grown", "--checkpoint", place)
    assert command(word, *first) == 0 and not (tmp_path / "grown" / "checkpoint").exists()
    assert search_folder.masks_done(epath.Path(place)) == 768
    assert command(word, *first) == 2
    assert f"{place} holds a checkpoint of 768 masks; it takes --resume" in capsys.readouterr().err
    assert command(word, *first, "--resume", "--masks", 2500) == 0
    assert "goes on after 768 masks" in capsys.readouterr().out
    assert command(word, "--masks", 2500, "--out", tmp_path / "whole") == 0
    assert result(tmp_path / "grown") == result(tmp_path / "whole")
    assert command(word, *first, "--resume", "--masks", 500) == 2
    assert "num_masks is 500 with the checkpoint" in capsys.readouterr().err
    assert command(f"{own}::deep", *first, "--resume") == 2
    assert "of another search (problem: mine.py::plain there, mine.py::deep here)" in capsys.readouterr().err
    own.write_text(FILE + "# changed\n")
    assert command(word, *first, "--resume", "--masks", 2500) == 2
    before, after = (zlib.crc32(text.encode()) for text in (FILE, FILE + "# changed\n"))
    assert f"of another search (checksum of the file: {before} there, {after} here)" in capsys.readouterr().err


def test_progress_is_written_as_lines(own, tmp_path):
    out = tmp_path / "out"
    words = (f"{own}::plain", "--out", out, "--batch", 256)
    assert command(*words, "--masks", 1000) == 0
    lines = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    assert lines[0]["done"] == 256 and lines[-1]["done"] == 1000
    assert {"time", "done", "num_masks", "rate", "seconds_left", "best"} == lines[-1].keys()
    assert lines[-1]["seconds_left"] == 0 and lines[-1]["best"] == result(out)["best"][0]["value"]
    assert command(*words, "--masks", 2000, "--resume") == 0
    more = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    assert more[: len(lines)] == lines and more[-1]["done"] == 2000


def test_sigterm_saves_before_it_ends(own, tmp_path):
    """As a cluster sends it, long before a checkpoint is due."""
    out = tmp_path / "out"
    words = ("-m", "theory", "search", f"{own}::plain", "--masks", "1e12", "--out", out, "--checkpoint-seconds", 3600)
    process = search_process.launch(*words, devices=1)
    try:
        deadline = time.monotonic() + 240
        while not (out / "progress.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    kept = search_folder.masks_done(epath.Path(out / "checkpoint"))
    assert kept > 0 and f"interrupted: {kept:,} masks are kept; the same command with --resume goes on" in errors
