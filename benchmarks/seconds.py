"""How long each claim takes at the quick tier, by which ``sketchprune verify --shard`` shares claims out.

Measured are seconds of processor time, compilation included, of one claim after another. Claims that the table has
already are left alone: delete their lines, or the file, to measure them again.
"""

import time

import jax
from rich.console import Console

from benchmarks import _results
from sketchprune.data import load
from theory import CATALOGUE, verify
from theory.cli import runtime
from theory.cli.shard import SECONDS_FILE


def main():
    """Measure the claims that the table lacks, and drop those that the catalogue has no more."""
    runtime.configure()
    jax.config.update("jax_enable_compilation_cache", False)
    console, data = Console(), load()
    ids = {claim.id for claim in CATALOGUE}
    found = {id: seconds for id, seconds in _results.load(SECONDS_FILE).items() if id in ids}
    for claim in CATALOGUE:
        if claim.id not in found:
            started = time.process_time()
            verify(claim, data=data)
            found[claim.id] = round(time.process_time() - started, 1)
            _results.keep(SECONDS_FILE, found)
            console.print(f"{claim.id}: {found[claim.id]} s")
    _results.keep(SECONDS_FILE, found)
