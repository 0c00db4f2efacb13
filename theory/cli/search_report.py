"""What ``sketchprune search`` prints and writes of a result."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax

from sketchprune.search import SearchResult, problems, report
from sketchprune.search.problems import DirectMask
from theory.cli import runtime
from theory.cli.search_task import Task

if TYPE_CHECKING:
    from rich.console import Console


def report_result(console: "Console", task: Task, result: SearchResult) -> None:
    """Write the files, and print what was found.

    Args:
        console: where it is printed.
        task: what was searched.
        result: what was found.

    Raises:
        ValueError: the files cannot be written.
    """
    problem = task.problem
    rounding = problems.rounding_error(problem, result.masks, result.values)
    direct = problem.direct_masks()
    zero = None if problem.zero_mask is None else float(jax.jit(problem.objective)(problem.zero_mask))
    facts = {
        "setting": dict(task.setting),
        "keep": problem.keep,
        "weights": problem.weights,
        "realised_density": problem.density,
        "float32_error": rounding,
        "versions": runtime.versions(),
    }
    known = {"theory": problem.theory, "zero_mask": zero, "direct_masks": direct}
    try:
        report.write(task.out, result, **known, label=_label(task), facts=facts)
    except OSError as error:
        raise ValueError(f"out is {task.out}: {error.strerror}; it takes a folder that can be written") from None
    lines = [*_found(result, problem.theory), *_without_chance(result, direct, zero), *_run(result, rounding)]
    for name, said in [*lines, ("files", f"{task.out}/best.npz, result.json, histogram.png, progress.jsonl")]:
        console.print(f"{name:>20}  {said}", soft_wrap=True)


def _label(task: Task) -> str:
    """What the picture shows."""
    density = "" if task.problem.density is None else f", realised density {task.problem.density:.3g}"
    return f"{task.objective}, {task.subject}\n{task.law} masks{density}, seed {task.seed}"


def _found(result: SearchResult, theory: dict[str, float]) -> Iterator[tuple[str, str]]:
    """The random masks, by name, and what theory says of them."""
    found = len(result.values) > 0
    yield "best", f"{result.values[0]:.6g}, mask {result.indices[0]}" if found else "none"
    deviation = math.sqrt(result.variance)
    yield "mean", f"{result.mean:.6g} ± {report.standard_error(result):.2g}, deviation {deviation:.4g}"
    for name, value in theory.items():
        yield name, f"{value:.6g}"


def _without_chance(
    result: SearchResult, direct: tuple[DirectMask, ...], zero: float | None
) -> Iterator[tuple[str, str]]:
    """The masks that were found without random ones, and the zero mask."""
    for mask in direct:
        said = f"{mask.value:.6g}, {mask.kind}"
        if mask.bound is not None:
            said += ", proved to be the best" if mask.proved else f"; none is below {mask.bound:.6g}"
        yield mask.name, said
    if zero is not None:
        better = len(result.values) > 0 and result.values[0] < zero
        yield "zero mask", f"{zero:.6g}{'' if better else ': no mask found does better'}"


def _run(result: SearchResult, rounding: float) -> Iterator[tuple[str, str]]:
    """The values in all, how exact they are, and how fast they came."""
    yield "median", f"{result.quantile(0.5):.4g} to 1.1 %"
    for name, count in (("NaN", result.undefined), ("infinite", result.infinite)):
        if count:
            yield name, f"{count:,}"
    if not math.isnan(rounding):
        yield "float32", f"within {rounding:.1e} of float64 on the best masks"
    yield "rate", f"{result.rate:,.0f} masks/s, {result.seconds:.1f} s"
