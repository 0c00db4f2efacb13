"""A copy of the project in which defects are planted, and the claims and tests that run on it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.defects.defect import ROOT, Defect
from theory.cli.runtime import discard_cut_entries

_COPIED = ("sketchprune", "theory", "tests", "conftest.py", "pyproject.toml")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sketchprune" / "defects"
"""Compiled programs, which all runs share: a defect changes few of them."""
_TIME_LIMIT_S = 1200
_PASSED, _FAILED = 0, 1
"""Exit statuses of the verifier and of pytest; any other one means that they did not get so far."""


class Copy:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path):
        """Copy what claims and tests need.

        Args:
            folder: an empty folder that exists.
        """
        self._folder = folder
        self._changes = 0
        for name in _COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / name)
        _CACHE.mkdir(parents=True, exist_ok=True)
        discard_cut_entries(_CACHE)

    @contextmanager
    def planted(self, defect: Defect) -> Iterator[None]:
        """The defect is in the copy while this context lasts.

        Args:
            defect: what is planted.

        Raises:
            ValueError: the text of the defect does not occur exactly once in its file.
        """
        file = self._folder / defect.file
        source = file.read_text()
        self._write(file, defect.planted_in(source))
        try:
            yield
        finally:
            self._write(file, source)

    def failing_claim(self, claims: Sequence[str]) -> str | None:
        """What the first claim says whose verdict, or whose mutant, is not as expected; None where all are.

        Args:
            claims: ids of the catalogue; all are verified at the quick tier on the digits.
        """
        if not claims:
            return None
        out = self._folder / "report"
        shutil.rmtree(out, ignore_errors=True)
        status, output = self._python("-m", "theory", "verify", *claims, "--tier", "quick", "--out", str(out))
        if status == _PASSED:
            return None
        if status != _FAILED or not (out / "verdicts.json").exists():
            raise RuntimeError(f"verify {' '.join(claims)} did not come to verdicts (status {status}):\n{output}")
        report = json.loads((out / "verdicts.json").read_text())
        for claim, reason in report["failed"].items():
            return f"{claim} fails: {reason.partition(';')[0]}"
        for claim in report["claims"]:
            if claim["verdict"] != claim["expected"]:
                return f"{claim['id']} is {claim['verdict']}"
            for mutant, verdict in claim["mutants"].items():
                if verdict != "REFUTED":
                    return f"{claim['id']}: its mutant {mutant!r} is {verdict}"
        raise RuntimeError(f"verify {' '.join(claims)} has status {status}, and all is as expected:\n{output}")

    def failing_test(self, tests: Sequence[str]) -> str | None:
        """The id of the first test that fails; None where all pass.

        Args:
            tests: files, or ids of tests.
        """
        if not tests:
            return None
        options = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--tb", "short")
        status, output = self._python("-m", "pytest", *options, *tests)
        if status == _PASSED:
            return None
        failed = [line for line in output.splitlines() if line.startswith("FAILED ")]
        if status != _FAILED or not failed:
            raise RuntimeError(f"pytest {' '.join(tests)} did not run (status {status}):\n{output}")
        return failed[0].removeprefix("FAILED ").partition(" - ")[0]

    def _write(self, file: Path, source: str):
        """Replace a source, at a time of its own."""
        file.write_text(source)
        # Python takes a source for unchanged, and its bytecode for good, if the size and the second of the last change
        # are the same.
        self._changes += 1
        os.utime(file, (self._changes, self._changes))

    def _python(self, *arguments: str) -> tuple[int, str]:
        """The exit status and the output of Python on the copy."""
        environment = os.environ | {
            "PYTHONPATH": str(self._folder),
            "PYTHONDONTWRITEBYTECODE": "",  # without bytecode each start would take twice as long
            "JAX_COMPILATION_CACHE_DIR": str(_CACHE),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIME_LIMIT_S,
        )
        return run.returncode, run.stdout
