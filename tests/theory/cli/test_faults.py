"""What goes wrong while the command runs: a folder in use, a full disk, signals, claims that end the process."""

import errno
import fcntl
import gc
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.support.command import CATALOGUE, FILE, run, set_up, stand_in, verdict_on, verdicts
from theory.cli.folder import locked
from theory.cli.interrupts import heeded

pytestmark = pytest.mark.usefixtures("jax_settings")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    return set_up(tmp_path, monkeypatch)


# --- One run at a time

HOLDER = """
import sys
from pathlib import Path
from theory.cli.folder import locked
with locked(Path("report")):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_takes_one_run_at_a_time(here, capsys):
    with locked(here / "report"):
        for options in ((), ("--resume",), ("--seed", "1")):
            code, _, err = run(capsys, "verify", *options)
            assert code == 2 and "out is report, into which another run is writing; it takes another --out, or" in err
        assert list((here / "report").iterdir()) == []
        assert run(capsys, "verify", "--out", "other")[0] == 0
    assert run(capsys, "verify")[0] == 0
    assert run(capsys, "verify", "--resume")[0] == 0


def test_the_lock_of_a_dead_process_is_taken_over(here, capsys):
    command, environment = [sys.executable, "-c", HOLDER], os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    assert run(capsys, "verify")[0] == 2
    holder.kill()
    holder.communicate()
    assert run(capsys, "verify")[0] == 0


def test_without_locks_of_the_file_system_a_run_goes_on(here, capsys, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run(capsys, "verify")[0] == 0


# --- The folder cannot be written any more


def failing(monkeypatch, name, number):
    """Stand-in for the verifier during whose work on the claim of this name ``os.fsync`` begins to fail."""

    def fail(_):
        raise OSError(number, os.strerror(number))

    def verify(claim, **settings):
        if claim.id == name:
            monkeypatch.setattr(os, "fsync", fail)
        return verdict_on(claim, **settings)

    return verify


def test_a_full_disk(here, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("theory.cli.runtime.THREADS", 1)
        stand_in(patch, failing(patch, "sketch/two", errno.ENOSPC))
        code, _, err = run(capsys, "verify", "--tier", "quick")
    assert code == 1
    assert "error: out is report, which cannot be written (No space left on device); " in err
    assert "of 3 verdicts are kept; go on with sketchprune verify --tier quick --seed 0 --out report --resume" in err
    asked = []
    stand_in(monkeypatch, lambda claim, **settings: asked.append(claim.id) or verdict_on(claim, **settings))
    code, out, _ = run(capsys, *shlex.split(err.split("go on with sketchprune ")[1]))
    assert code == 0 and "3 of 3 as expected" in out and "sketch/one" not in asked[1:]


def test_a_folder_that_is_deleted_during_the_run(here, capsys, monkeypatch):
    def verify(claim, **settings):
        if claim.id == "sketch/two":
            deadline = time.monotonic() + 60
            while (here / "report" / "verdicts.jsonl").read_text().count("\n") < 2:
                assert time.monotonic() < deadline, "the first verdict is never written"
                time.sleep(0.01)
            for path in (here / "report").iterdir():
                path.unlink()
            (here / "report").rmdir()
        return verdict_on(claim, **settings)

    stand_in(monkeypatch, verify)
    code, _, err = run(capsys, "verify")
    assert code == 1
    assert "error: out is report, which cannot be written (No such file or directory); nothing is kept, since" in err
    assert not (here / "report").exists()


# --- A report keeps what its folder holds


def test_a_subset_resumed_keeps_the_larger_report(here, capsys, monkeypatch):
    (here / "mine.py").write_text(FILE)
    assert run(capsys, "verify", "mine.py::my/good", "sketch/*", "paths/false")[0] == 0
    asked = []
    stand_in(monkeypatch, lambda claim, **settings: asked.append(claim.id) or verdict_on(claim, **settings))
    code, out, _ = run(capsys, "verify", "sketch/two", "--resume")
    assert code == 0 and not asked and "4 of 4 as expected" in out
    ids = [entry["id"] for entry in verdicts(here)["claims"]]
    assert ids == [*(claim.id for claim in CATALOGUE), "my/good"]
    (here / "mine.py").write_text(FILE + "# changed\n")
    code, out, _ = run(capsys, "verify", "sketch/two", "--resume")
    assert code == 0 and "3 of 3 as expected" in out


# --- Claims that end the process, and signals


@pytest.mark.parametrize("status", [0, 3, "stop"])
def test_a_claim_that_ends_the_process_is_reported(here, capsys, monkeypatch, status):
    def verify(claim, **settings):
        if claim.id == "sketch/two":
            sys.exit(status)
        return verdict_on(claim, **settings)

    stand_in(monkeypatch, verify)
    code, out, err = run(capsys, "verify")
    assert code == 1 and f"sketch/two: verification failed with SystemExit: {status}" in err
    assert "could not be verified: sketch/two" in out and len(verdicts(here)["claims"]) == 2


def test_a_claim_that_ends_the_process_of_falsify_is_refused(here, capsys, monkeypatch):
    monkeypatch.setattr("theory.falsify.falsify", lambda *_, **options: sys.exit(0))
    monkeypatch.setattr("theory.falsify.searchable", lambda claim: True)
    code, _, err = run(capsys, "falsify", "sketch/one")
    assert code == 2 and "claim is sketch/one, which calls sys.exit(0); it takes one that returns" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_what_is_kept(here, capsys, monkeypatch, number):
    sent = []

    def verify(claim, **settings):
        if claim.id == "sketch/two" and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
            time.sleep(1)
        return verdict_on(claim, **settings)

    before = signal.getsignal(signal.SIGTERM)
    stand_in(monkeypatch, verify)
    code, _, err = run(capsys, "verify")
    assert code == 130
    assert re.search("interrupted: [01] of 3 verdicts are kept; go on with sketchprune verify", err)
    assert signal.getsignal(signal.SIGTERM) is before
    stand_in(monkeypatch, verdict_on)
    assert run(capsys, "verify", "--resume")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_a_callback_of_the_garbage_collector_is_not_lost(number):
    """Python drops what is raised there."""
    calls = []

    def interrupted(phase, info):
        if not calls:
            calls.append(phase)
            os.kill(os.getpid(), number)
            for _ in range(1000):  # the handler runs between two instructions
                pass

    with pytest.raises(KeyboardInterrupt), heeded():
        gc.callbacks.append(interrupted)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(interrupted)
        time.sleep(5)
    assert calls == ["start"]


def test_what_else_is_dropped_is_reported_as_ever(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: seen.append(lost.exc_type))

    class Broken:
        def __del__(self):
            raise ZeroDivisionError

    with heeded():
        broken = Broken()
        del broken
        gc.collect()
    assert seen == [ZeroDivisionError]
