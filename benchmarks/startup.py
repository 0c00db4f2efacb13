"""How long the command takes to answer, and what of that are imports that it cannot do without."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._record import OURS, Row, Target
from benchmarks._timing import in_turns

ROUNDS = 7
COMMANDS: dict[str, tuple[Sequence[str], Target | None]] = {
    "sketchprune --help": (("-m", "theory", "--help"), Target("seconds", most=0.4)),
    "sketchprune list": (("-m", "theory", "list"), Target("seconds", most=0.8)),
    "sketchprune show sketch/top-k": (("-m", "theory", "show", "sketch/top-k"), None),
    "import sketchprune": (("-c", "import sketchprune"), None),
    "import the catalogue": (("-c", "import theory.catalogue"), None),
}
"""What is typed -> what Python is given, and the target."""
FLOORS = {"python alone": ("-c", "pass"), "import jax": ("-c", "import jax")}
"""What no such command, and no computation, can do without."""


def rows() -> Iterator[Row]:
    """Seconds of each command, in turns."""
    runs = {name: words for name, (words, _) in COMMANDS.items()} | FLOORS
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CACHE_HOME": folder}
        root = Path(__file__).parents[1]

        def start(words: Sequence[str]) -> None:
            subprocess.run([sys.executable, *words], env=environment, cwd=root, stdout=subprocess.DEVNULL, check=True)

        timings = in_turns({name: lambda words=words: start(words) for name, words in runs.items()}, rounds=ROUNDS)
    for name, timing in timings.items():
        target = COMMANDS[name][1] if name in COMMANDS else None
        # The first of the two makes what both of them keep.
        first = f"the first time after a change {timing.first_s:.1f} s" if name == "sketchprune list" else ""
        yield Row(name, OURS if name in COMMANDS else "floor", timing.seconds, target=target, note=first)
