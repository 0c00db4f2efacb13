"""How a command sets JAX up: devices, and a compilation cache that a kill does not spoil."""

import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from theory.cli import runtime
from theory.cli.runtime import discard_cut_entries

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def run_python(script, **environment):
    """What a script prints in a process of its own, where a warning is an error."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=ENVIRONMENT | environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    "told", [{}, {"JAX_NUM_CPU_DEVICES": "5"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}]
)
def test_each_core_is_a_device_unless_jax_is_told(told, tmp_path):
    script = (
        "from theory.cli import runtime; runtime.configure(device_per_core=True); import jax; print(jax.device_count())"
    )
    assert int(run_python(script, XDG_CACHE_HOME=str(tmp_path), **told)) == (5 if told else os.cpu_count())


THREADS_OF_BLAS = """
import numpy, scipy.linalg
from theory.cli import runtime
runtime.configure()
import threadpoolctl
print(*(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"))
"""


def test_a_call_of_lapack_runs_in_one_thread(tmp_path):
    """Even where the library was loaded before the command sets up, with more threads."""
    found = run_python(THREADS_OF_BLAS, XDG_CACHE_HOME=str(tmp_path), OPENBLAS_NUM_THREADS="2")
    assert set(found.split()) == {"1"}


@pytest.mark.parametrize("name", ["kinds/axes.py", "cli/seconds.json", "report/references.bib"])
def test_every_source_counts_for_the_checksum(tmp_path, monkeypatch, name):
    """In a copy of one of them, which changes and comes back."""
    theory = Path(runtime.__file__).parents[1]
    copy = tmp_path / "theory" / name
    copy.parent.mkdir(parents=True)
    shutil.copy(theory / name, copy)
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "theory" / "cli" / "runtime.py"))
    before = runtime.source_checksum()
    content = copy.read_bytes()
    copy.write_bytes(content + b" ")
    assert runtime.source_checksum() != before
    copy.write_bytes(content)
    assert runtime.source_checksum() == before


def test_entries_that_a_kill_cut_short_are_discarded(tmp_path):
    whole = zlib.compress(b"program" * 1000)
    entries = {
        "whole": whole,
        "cut": whole[:-5],
        "empty": b"",
        "damaged": whole[:10] + b"\0" * 10 + whole[20:],
        "zstandard": b"\x28\xb5\x2f\xfd...",
    }
    for name, content in entries.items():
        (tmp_path / f"{name}-cache").write_bytes(content)
    discard_cut_entries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"whole-cache", "zstandard-cache"}


def test_only_the_newest_entries_are_looked_at(tmp_path):
    for age, name in enumerate(("new", "old")):
        (tmp_path / f"{name}-cache").write_bytes(b"")
        os.utime(tmp_path / f"{name}-cache", (1e9 - age, 1e9 - age))
    discard_cut_entries(tmp_path, newest=1)
    assert [path.name for path in tmp_path.iterdir()] == ["old-cache"]


CUT = """
from pathlib import Path
from theory.cli import runtime
runtime.configure()
import jax, jax.numpy as jnp
double = jax.jit(lambda x: 2 * x)
print(double(jnp.ones(3)).sum())
(entry,) = Path("{cache}/sketchprune/xla").glob("jit__lambda*-cache")
content = entry.read_bytes()
entry.write_bytes(content[:-9])
jax.clear_caches()
print(double(jnp.ones(3)).sum())
"""


def test_a_damaged_entry_of_the_cache_is_silently_compiled_again(tmp_path):
    out = run_python(CUT.format(cache=tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert out.split() == ["6.0", "6.0"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process to cores")
def test_cores_are_those_of_the_process():
    pinned = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{pinned}; from theory.cli import runtime; print(runtime.CORES, runtime.THREADS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1 3\n", done.stderr
