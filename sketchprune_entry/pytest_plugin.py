"""The pytest plugin: ``pytest claims_mine.py`` verifies each claim of the file as a test.

A claim is a test at each tier, with the tier as a marker. Where no tier is asked for, that at the quick tier alone is
collected. ``-m standard`` asks for one, and so do ``--claim-tier`` and the name of the test,
``claims_mine.py::my/claim[standard]``. ``-m "not full"`` asks for none.

pytest loads this module in every run where sketchprune is installed, so it imports nothing of the project before there
is a file of claims to collect.
"""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.mark.expression import Expression

if TYPE_CHECKING:
    from sketchprune.data import Dataset
    from theory.report.run import Selected

PATTERN = "claims_*.py"
"""Files of this name are collected from folders; any other file of claims where the command line names it."""
TIERS = ("quick", "standard", "full")
"""The tiers of :data:`theory.TIERS`, from the least work on."""
_CATALOGUE = Path(__file__).resolve().parents[1] / "theory"
"""The claims of the project, which `sketchprune verify` verifies."""
_IMPORTS_THEORY = re.compile(rb"^\s*(from|import)\s+theory\b", re.MULTILINE)
_DATA = pytest.StashKey["Dataset"]()


class UnexpectedVerdict(Exception):
    """A claim has another verdict than the expected one, or a mutant of it is not refuted."""


def pytest_addoption(parser: pytest.Parser):
    """Add the settings of the verification."""
    group = parser.getgroup("sketchprune", "claims that sketchprune verifies")
    group.addoption(
        "--claim-tier", choices=TIERS, help="how much work is done for a claim: quick unless -m or a name asks for more"
    )
    group.addoption("--claim-seed", type=int, default=0, help="the seed that all random keys of claims derive from")
    group.addoption("--claim-data", default="digits", metavar="digits|PATH", help="the data set of claims")


def pytest_configure(config: pytest.Config):
    """Make the markers of claims known."""
    config.addinivalue_line("markers", "claim: a theorem that sketchprune verifies")
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: a theorem that sketchprune verifies at the tier {tier}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ClaimFile | None":
    """Collect a file of claims: one that matches the pattern, or that the command line names and is no test."""
    if file_path.suffix != ".py" or _CATALOGUE in file_path.parents:
        return None
    named = parent.session.isinitpath(file_path) and not any(
        fnmatch(file_path.name, pattern) for pattern in parent.config.getini("python_files")
    )
    if not (named or fnmatch(file_path.name, PATTERN)):
        return None
    if not _IMPORTS_THEORY.search(file_path.read_bytes()):
        return None
    return ClaimFile.from_parent(parent, path=file_path)


class ClaimFile(pytest.File):
    """A file that defines claims."""

    def collect(self) -> Iterator["ClaimItem"]:
        """A test for each claim of the file and each tier at which it is asked for."""
        from sketchprune_entry import require_theory

        try:
            require_theory()
            from theory.catalogue import CATALOGUE
            from theory.cli.arguments import check_seed
            from theory.cli.select import defined_claims

            check_seed(self.config.option.claim_seed)
            found = defined_claims(self._argument(), CATALOGUE)
        except (ImportError, ValueError) as error:
            raise self.CollectError(str(error)) from None
        for selected in found:
            for tier in self._tiers(selected.claim.id):
                yield ClaimItem.from_parent(self, name=f"{selected.claim.id}[{tier}]", selected=selected, tier=tier)

    def _argument(self) -> str:
        """The file, as one names it in the folder that pytest was started in."""
        relative = os.path.relpath(self.path, self.config.invocation_params.dir)
        return str(self.path) if relative.startswith(os.pardir) else relative

    def _tiers(self, claim: str) -> Sequence[str]:
        """The tiers at which a claim is collected: those that are asked for, else the first."""
        if self.config.option.claim_tier is not None:
            return (self.config.option.claim_tier,)
        named = self._named()
        asked = [tier for tier in TIERS if f"{claim}[{tier}]" in named or _selects(self.config.option.markexpr, tier)]
        return asked or TIERS[:1]

    def _named(self) -> set[str]:
        """The names of the tests of this file that the command line names."""
        folder = self.config.invocation_params.dir
        arguments = (argument.partition("::") for argument in self.config.args)
        return {name for file, _, name in arguments if os.path.abspath(folder / file) == str(self.path)}


def _selects(markers: str, tier: str) -> bool:
    """Whether an expression of ``-m`` selects claims for this tier, and not those that have no tier."""
    try:
        expression = Expression.compile(markers)
    except Exception:  # of a class that depends on pytest's version; pytest says itself what is wrong
        return False

    def selects(*names: str) -> bool:
        return expression.evaluate(lambda name, /, **_: name in names)

    return selects("claim", tier) and not selects("claim")


class ClaimItem(pytest.Item):
    """A claim at one tier as a test: it passes if its verdict is the expected one and every mutant is refuted."""

    def __init__(self, *, selected: "Selected", tier: str, **options: Any):
        super().__init__(**options)
        self.selected = selected
        self.tier = tier
        self.add_marker("claim")
        self.add_marker(tier)

    def runtest(self):
        """Verify the claim.

        Raises:
            UnexpectedVerdict: what was not as expected, with the counterexample and the command that replays it.
        """
        from theory import verify
        from theory.report.remarks import explanation, summary
        from theory.report.run import verify_command

        options = self.config.option
        seed = options.claim_seed
        verdict = verify(self.selected.claim, tier=self.tier, seed=seed, data=self._data())
        if not verdict.as_expected:
            command = verify_command(self.selected.argument, tier=self.tier, seed=seed, data=options.claim_data)
            raise UnexpectedVerdict(f"{summary(verdict)}\n{explanation(self.selected, verdict, command)}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What is shown of a failure: no traceback where the claim was verified."""
        if isinstance(excinfo.value, UnexpectedVerdict):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The file, and the headline of a failure."""
        return self.path, None, f"claim {self.name}"

    def _data(self) -> "Dataset":
        """The data set, which is read once for all claims."""
        from theory.cli.select import dataset

        if _DATA not in self.config.stash:
            try:
                self.config.stash[_DATA] = dataset(self.config.option.claim_data)
            except ValueError as error:
                pytest.fail(str(error), pytrace=False)
        return self.config.stash[_DATA]
