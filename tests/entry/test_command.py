"""The command as pip installs it, beside files of a user that are called as the project's own package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sketchprune
from theory.cli import main

SCRIPT = Path(sys.executable).with_name("sketchprune")


def started(*words, **environment):
    command = [sys.executable, SCRIPT, *words]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sketchprune {sketchprune.__version__}\n"


@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_that_hides_the_package_is_named(tmp_path, monkeypatch, hidden):
    monkeypatch.chdir(tmp_path)
    Path("theory.py").write_text("'''About music.'''\n")
    done = started("--version", **{"PYTHONPATH": "."} if hidden else {})
    if hidden:
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: theory is {tmp_path}/theory.py, which hides the package theory of")
        assert done.stderr.count("\n") == 1
    else:
        assert (done.returncode, done.stdout) == (0, f"sketchprune {sketchprune.__version__}\n")


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete "), ("zsh", "#compdef sketchprune")])
def test_completion(shell, words):
    done = started("--tyro-print-completion", shell)
    assert done.returncode == 0 and words in done.stdout and "verify" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_completion_is_a_script_that_bash_takes():
    text = started("--tyro-print-completion", "bash").stdout
    check = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
