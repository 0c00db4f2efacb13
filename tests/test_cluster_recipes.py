"""docs/guides/cluster.md: what it shows runs, as far as one machine can tell."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from theory.cli.app import COMMANDS

TEXT = (Path(__file__).parents[1] / "docs" / "guides" / "cluster.md").read_text(encoding="utf-8")
SBATCH = re.search(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[1]
SUBMITIT, KERNEL, TPU = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_commands_and_options_exist():
    commands = set(re.findall(r"^(?:srun )?sketchprune (\w+)", TEXT, re.MULTILINE))
    assert commands == {"verify", "merge", "compare", "search"} <= set(COMMANDS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_task_of_the_array_verifies_its_shard(tmp_path):
    (tmp_path / "verify.sbatch").write_text(SBATCH)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "2", "TMPDIR": str(tmp_path), "PATH": path}
    words = ["bash", "verify.sbatch", "sketch/data-free", "sketch/optimal-probabilities", "--tier", "quick"]
    done = subprocess.run(words, cwd=tmp_path, env=os.environ | task, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    header, verdict = map(json.loads, (tmp_path / "run" / "shard-2" / "verdicts.jsonl").read_text().splitlines())
    assert header["shard"] == "2/2" and header["selection"] == "sketch/data-free sketch/optimal-probabilities"
    assert verdict["argument"] == "sketch/data-free"  # the shorter of the two


def test_a_search_lowers_for_tpu():
    with jax.enable_x64(False):
        names = {}
        exec(TPU, names)
    assert "stablehlo" in names["lowered"].as_text()


def test_a_kernel_is_written_to_its_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        exec(KERNEL, {})
    assert np.load("kernel.npy", mmap_mode="r").shape == (200, 200, 10, 10)
    done, total = re.search(r"(\d+) of (\d+) blocks\n$", capsys.readouterr().out).groups()
    assert done == total


def test_the_recipe_for_submitit_compiles():
    compile(SUBMITIT, "cluster.md", "exec")
