"""How benchmarks time functions: compilation apart, and what is compared in turns."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

_MOST_CALLS, _ROUND_S = 20, 1.0
"""The most calls of a fast function in one round, and about how long they take together at most."""
_SLOW_S = 2.0
"""With a function that takes longer, three rounds are enough."""


class Prepared(NamedTuple):
    """A function that is compiled for its arguments.

    Attributes:
        run: runs it once.
        compile_s: seconds of tracing and compilation.
        peak_bytes: memory at the peak: arguments, results, and what XLA sets aside for the rest.
    """

    run: Callable[[], Any]
    compile_s: float
    peak_bytes: int

    @property
    def peak_mib(self) -> float:
        """The peak in MiB."""
        return self.peak_bytes / 2**20


class Timing(NamedTuple):
    """The times of one function.

    Attributes:
        first_s: of its first call, which may compile.
        rounds: one for each round, in seconds.
    """

    first_s: float
    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The median over rounds."""
        return statistics.median(self.rounds)

    @property
    def compile_s(self) -> float:
        """What the first call took beyond a later one."""
        return max(self.first_s - self.seconds, 0.0)

    def over(self, other: "Timing") -> float:
        """How many times as long as another function it takes: the median over rounds.

        Args:
            other: a function that was timed in the same rounds.
        """
        return statistics.median(own / their for own, their in zip(self.rounds, other.rounds, strict=True))


def prepared(function: Callable[..., Any], *arguments: Any) -> Prepared:
    """Compile a function for its arguments.

    Args:
        function: a function of arrays.
        arguments: what it is run on.
    """
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - begin
    sizes = compiled.memory_analysis()
    assert sizes is not None  # XLA knows it on CPUs, GPUs and TPUs
    peak_bytes = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return Prepared(functools.partial(compiled, *arguments), compile_s, peak_bytes)


def in_turns(runs: Mapping[str, Callable[[], Any]], *, rounds: int = 9) -> dict[str, Timing]:
    """The times of functions that are run in turns, so that what else the machine does slows all of them alike.

    In each round each runs for about as long as the slowest, up to a second and 20 calls, and counts with its median.

    Args:
        runs: name -> what is run.
        rounds: how many rounds; at most three where a function takes more than two seconds.
    """
    first = {name: _seconds(run) for name, run in runs.items()}
    second = {name: _seconds(run) for name, run in runs.items()}
    longest = max(second.values())
    share = min(longest, _ROUND_S)
    calls = {name: min(max(round(share / seconds), 1), _MOST_CALLS) for name, seconds in second.items()}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds if longest < _SLOW_S else min(rounds, 3)):
        for name, run in runs.items():
            took[name].append(statistics.median(_seconds(run) for _ in range(calls[name])))
    return {name: Timing(first[name], tuple(took[name])) for name in runs}


def _seconds(run: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin
