"""Figures at the smallest scale, and a report that spares them the verification of their claims."""

import functools

import numpy as np
import pytest

from figures.__main__ import main
from tests.support.figure_reports import write_report
from theory import CATALOGUE


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where this process makes figures."""
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report") / "verdicts.json", CATALOGUE)


@pytest.fixture(scope="module")
def made(folder, report, jax_settings):
    """Name of a figure -> the numbers that it was drawn from; its files are in ``folder``. Each is made when asked for.

    Numbers are kept between modules, as they are between runs of the command.
    """

    @functools.cache
    def make(name):
        assert main([name, "--scale", "tiny", "--out", str(folder), "--report", str(report)]) == 0
        (path,) = (folder / ".parts").glob(f"figures.{name}.numbers.*.npz")
        with np.load(path) as kept:
            return dict(kept)

    return make
