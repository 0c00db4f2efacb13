"""Runs of ``verify`` that are killed at random moments and resumed: ``python tests/support/kills.py 50``.

Says how many kills came before the first verdict, between two, and after the last; the verdicts must be those of a run
that nothing kills.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLAIMS = ("sketch/near-optimal", "sketch/top-k", "sketch/data-free-minimax", "lottery/*")


def verify(folder, *options, claims=CLAIMS):
    """The process of a run into the folder."""
    command = [sys.executable, "-m", "theory", "verify", *claims, "--tier", "quick", "--out", str(folder), *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ, start_new_session=True
    )


def finished(folder, *options, claims=CLAIMS):
    """The claims that a run into the folder reports, without its times."""
    process = verify(folder, *options, claims=claims)
    output, _ = process.communicate()
    assert process.returncode in (0, 1), output.decode()
    claims = json.loads((folder / "verdicts.json").read_text())["claims"]
    return [{name: value for name, value in claim.items() if name != "elapsed_s"} for claim in claims]


def journalled(folder):
    """How many verdicts the journal holds."""
    path = folder / "verdicts.jsonl"
    return max(path.read_text().count("\n") - 1, 0) if path.exists() else 0


def killed(folder, kills, *, seed=0, claims=CLAIMS, longest_s=20.0):
    """The report of a run that is killed this often, and how many verdicts were kept at each kill.

    Every second kill comes within a second after a verdict is written, when the next ones are near; the others come
    within ``longest_s`` of the start.
    """
    rng, kept, options = random.Random(seed), [], ()
    for number in range(kills):
        before = journalled(folder)
        process = verify(folder, *options, claims=claims)
        if number % 2:
            while process.poll() is None and journalled(folder) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1))
        else:
            time.sleep(rng.uniform(0, longest_s))
        with contextlib.suppress(ProcessLookupError):  # it came to its end
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kept.append(journalled(folder))
        options = ("--resume",)
    return finished(folder, *options, claims=claims), kept


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as parent:
        whole = finished(Path(parent) / "whole")
        found, kept = killed(Path(parent) / "killed", int(sys.argv[1]))
        print(f"verdicts kept at each kill: {kept}")
        print(f"{len(whole)} verdicts, {'identical' if found == whole else 'DIFFERENT'}")
        sys.exit(found != whole)
