"""``sketchprune search``: random masks of a model by the million, beside what theory says of them.

Whatever imports JAX loads inside the functions, so that help and typing errors come at once.
"""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from theory.cli import runtime
from theory.cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from rich.console import Console

    from sketchprune.search import Progress, SearchResult
    from sketchprune.search.problems import DirectMask, Problem, Setting

_COUNT = arg(metavar="COUNT")
_NOTICE_S = 5.0
"""Time in which it is noticed that another process is gone."""


def search(
    *,
    data: Annotated[str, arg(metavar="digits|PATH")] = "digits",
    model: Literal["linear", "mlp", "lenet"] = "linear",
    law: Annotated[str, arg(metavar="LAW")] = "multinomial",
    probabilities: Literal["optimal", "data-free", "uniform"] = "optimal",
    binary: bool = False,
    objective: Literal["linear-error", "training-error", "ntk-error", "initial-loss", "trained-loss"] | None = None,
    steps: Annotated[int | None, _COUNT] = None,
    step_size: float | None = None,
    density: float = 0.1,
    masks: Annotated[float, _COUNT] = 1e6,
    best: int = 16,
    batch: int | None = None,
    seed: int = 0,
    out: Annotated[Path, arg(metavar="DIR")] = Path("search"),
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    devices: int | None = None,
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None,
    processes: int | None = None,
    process_id: int | None = None,
    cluster: bool = False,
    join_timeout: float = 60.0,
) -> int:
    """Search random masks: the best few, a histogram of all, and what theory says of them.

    Writes best.npz, result.json and histogram.png. Results do not depend on batch, devices, processes, or kills.

    Args:
        data: the digits images, or a file with data of one's own.
        model: linear: a vector of Gaussian weights on standardised features; mlp and lenet: networks.
        law: how masks are drawn: multinomial or poisson masks, which are reweighted, or fixed-size masks, which are
            0/1.
        probabilities: optimal for the sketch (the norms of w_i x_i of a linear model, column norms of the tangent
            kernel), in proportion to the size of weights (data-free), or uniform.
        binary: 0/1 masks in place of reweighted ones.
        objective: what is searched for; by default linear-error, and initial-loss for networks.
        steps: how many steps of training are made; by default training-error is that at convergence, and trained-loss
            makes 50.
        step_size: the size of these steps, relative to 1/λ_max for training-error (default 1), Adam's for trained-loss
            (default 0.01).
        density: the fraction of weights that is kept, or drawn.
        masks: how many masks are drawn, such as 1e6.
        best: how many of the best are kept.
        batch: masks between two returns to the host; by default what takes half a second.
        seed: what weights and masks derive from.
        out: the folder of the results and of the checkpoint.
        resume: go on with the search that the folder holds; without it a folder with a checkpoint is refused.
        checkpoint_seconds: time between two checkpoints.
        devices: how many devices are used; by default all, where each core of a CPU is one.
        coordinator: address of process 0, where several processes share the work.
        processes: how many processes share the work.
        process_id: which of them this is, from 0 on.
        cluster: several processes, as the cluster's environment says (Slurm, Open MPI, TPU pods).
        join_timeout: seconds that a process waits for the others.
    """
    _check(masks, best, batch, seed, {"checkpoint-seconds": checkpoint_seconds, "join-timeout": join_timeout})
    several = cluster or any(value is not None for value in (coordinator, processes, process_id))
    goodbye = _join(coordinator, processes, process_id, join_timeout, out) if several else (lambda: None)
    runtime.configure(x64=False, device_per_core=True)
    from sketchprune.search.problems import OBJECTIVES, Setting, completed, problem
    from theory.cli.select import dataset

    chosen = objective or OBJECTIVES[model][0]
    setting = completed(Setting(data, model, law, probabilities, binary, chosen, density, steps, step_size, seed))
    task = _Task(setting, problem(setting, dataset(data)), out)
    options = {"num_best": best, "batch": batch, "checkpoint_seconds": checkpoint_seconds}
    try:
        status = _run(task, int(masks), options, devices=devices, resume=resume)
    except ValueError:  # all processes raise it alike
        goodbye()
        raise
    goodbye()
    return status


@dataclass(frozen=True)
class _Task:
    """What is searched, and where its files go."""

    setting: "Setting"
    problem: "Problem"
    out: Path


def _check(masks: float, best: int, batch: int | None, seed: int, durations: dict[str, float]) -> None:
    """Refuse numbers out of range, before any folder is made."""
    if not 1 <= masks < 2**63 or masks != math.floor(masks):
        raise ValueError(f"masks is {masks:g}; it takes a whole number from 1 to 2^63 - 1")
    if not 1 <= best <= masks:
        raise ValueError(f"best is {best}; it takes 1 to masks = {int(masks)}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; it takes a whole number >= 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; it takes a whole number from 0 to 2^63 - 1")
    for name, seconds in durations.items():
        if not 0 <= seconds < math.inf:
            raise ValueError(f"{name} is {seconds:g}; it takes a finite number >= 0")


def _join(
    coordinator: str | None, processes: int | None, process_id: int | None, timeout: float, out: Path
) -> Callable[[], None]:
    """Join this process to the others; returns what is to be called before it ends."""
    from sketchprune.search import mesh
    from theory.cli import search_folder

    def end(lost: int):
        """End at once: the search waits for the process that is gone, and nothing else can interrupt it."""
        kept = _interrupted(search_folder.masks_done(out))
        print(f"error: process {lost} is gone before the end of the search; {kept}", file=sys.stderr, flush=True)
        os._exit(ExitStatus.UNEXPECTED)

    try:
        return mesh.start(coordinator, processes, process_id, timeout=timeout, on_lost=end)
    except TimeoutError as error:
        raise ValueError(str(error)) from None


def _run(task: _Task, num_masks: int, options: dict[str, Any], *, devices: int | None, resume: bool) -> int:
    """Search, print and write what was found; the exit status."""
    import jax

    from sketchprune import search as library
    from theory.cli import search_folder
    from theory.cli.console import terminal

    first_process = jax.process_index() == 0
    console = terminal(quiet=not first_process)
    if devices is not None and not 1 <= devices <= jax.device_count():
        raise ValueError(f"devices is {devices}; it takes 1 to {jax.device_count()}")
    used = jax.devices()[:devices]
    with ExitStack() as stack:
        done = _open_folder(task, resume, stack)
        console.print(_opening(task, num_masks, used), soft_wrap=True)
        if resume and not done:
            console.print("nothing to resume: starts with the first mask")
        try:
            result = library.best(
                task.problem.objective,
                task.problem.law,
                num_masks,
                key=jax.random.key(task.setting.seed),
                mesh=library.mesh.over(used),
                checkpoint=search_folder.checkpoint_folder(task.out),
                progress=_reporter(console, num_masks, done, stack),
                **options,
            )
        except KeyboardInterrupt:
            if not first_process:
                raise
            raise KeyboardInterrupt(_interrupted(search_folder.masks_done(task.out))) from None
        except OSError as error:  # of the checkpoint
            kept = _interrupted(search_folder.masks_done(task.out))
            reason = f"out is {task.out}, which cannot be written ({error.strerror or error})"
            print(f"error: {reason}; {kept}", file=sys.stderr)
            return ExitStatus.UNEXPECTED
        except RuntimeError:
            if jax.process_count() > 1:
                time.sleep(_NOTICE_S)  # where another process is gone, that is noticed now, and ends this one
            raise
        if first_process:
            _report(console, task, result)
    return ExitStatus.OK


def _open_folder(task: _Task, resume: bool, stack: ExitStack) -> int:
    """Masks done by the checkpoint in the folder, which process 0 opens; what it refuses, all processes refuse.

    The folder is locked until the stack is left.
    """
    from sketchprune.search import mesh
    from theory.cli import search_folder
    from theory.cli.folder import locked

    setting = dataclasses.asdict(task.setting)

    def opened() -> int:
        stack.enter_context(locked(task.out))
        return search_folder.open_folder(task.out, setting, resume=resume)

    return mesh.call_on_process_0(opened)


def _opening(task: _Task, num_masks: int, devices: list[Any]) -> str:
    """What is searched, where."""
    import jax

    setting, problem = task.setting, task.problem
    processes = f"{jax.process_count()} process{'es' if jax.process_count() > 1 else ''}"
    kept = f"{problem.keep:,} of {problem.weights:,} weights, realised density {problem.density:.4g}"
    return (
        f"{setting.objective} of {num_masks:,} {setting.law} masks, {setting.model} on {setting.data}: "
        f"{kept}; {len(devices)} x {devices[0].device_kind}, {processes}"
    )


def _interrupted(done: int) -> str:
    """What is left of a search that was interrupted."""
    if not done:
        return "no checkpoint was written yet; the same command starts again"
    return f"{done:,} masks are kept; the same command with --resume goes on after them"


def _reporter(console: "Console", num_masks: int, done: int, stack: ExitStack) -> Callable[["Progress"], None]:
    """Shows progress: a bar on a terminal, a line at each tenth elsewhere; first what the search goes on after.

    That is said when a batch is done: before, the checkpoint may still be refused.
    """
    from theory.cli.console import progress as bar

    shown = stack.enter_context(bar(console))
    task = shown.add_task("", total=num_masks)
    tenths, goes_on = 0, done > 0

    def report(now: "Progress"):
        nonlocal tenths, goes_on
        if goes_on:
            console.print(f"goes on after {done:,} masks")
            goes_on = False
        line = f"{now.done / num_masks:4.0%}  {now.rate:,.0f} masks/s, {now.seconds_left:.0f} s left"
        shown.update(task, completed=now.done, description=line)
        if not console.is_terminal and 10 * now.done // num_masks > tenths:
            tenths = 10 * now.done // num_masks
            console.print(line)

    return report


def _report(console: "Console", task: _Task, result: "SearchResult") -> None:
    """Write the files, and print what was found."""
    import jax

    from sketchprune.search import problems, report

    problem = task.problem
    rounding = problems.rounding_error(problem, result.masks, result.values)
    direct = problem.direct_masks()
    zero = float(jax.jit(problem.objective)(problem.zero_mask))
    facts = {
        "setting": dataclasses.asdict(task.setting),
        "keep": problem.keep,
        "weights": problem.weights,
        "realised_density": problem.density,
        "float32_error": rounding,
        "versions": runtime.versions(),
    }
    try:
        values = {"theory": problem.theory, "zero_mask": zero, "direct_masks": direct}
        report.write(task.out, result, **values, label=_label(task), facts=facts)
    except OSError as error:
        raise ValueError(f"out is {task.out}: {error.strerror}; it takes a folder that can be written") from None
    for name, said in _lines(result, problem.theory, direct, zero, rounding):
        console.print(f"{name:>20}  {said}", soft_wrap=True)
    console.print(f"{'files':>20}  {task.out}/best.npz, result.json, histogram.png", soft_wrap=True)


def _label(task: _Task) -> str:
    """What the picture shows."""
    setting = task.setting
    law = f"{'0/1 ' if setting.binary else ''}{setting.law}"
    density = f"realised density {task.problem.density:.3g}"
    return f"{setting.objective}, {setting.model} on {setting.data}\n{law} masks, {density}, seed {setting.seed}"


def _lines(
    result: "SearchResult", theory: dict[str, float], direct: Iterable["DirectMask"], zero: float, rounding: float
) -> Iterator[tuple[str, str]]:
    """What the command prints of a result, by name."""
    from sketchprune.search.report import standard_error

    found = len(result.values) > 0
    yield "best", f"{result.values[0]:.6g}, mask {result.indices[0]}" if found else "none"
    yield "mean", f"{result.mean:.6g} ± {standard_error(result):.2g}, deviation {math.sqrt(result.variance):.4g}"
    for name, value in theory.items():
        yield name, f"{value:.6g}"
    for mask in direct:
        known = (
            ""
            if mask.bound is None
            else ", proved to be the best"
            if mask.proved
            else f"; none is below {mask.bound:.6g}"
        )
        yield mask.name, f"{mask.value:.6g}, {mask.kind}{known}"
    worse = not (found and result.values[0] < zero)
    yield "zero mask", f"{zero:.6g}{': no mask found does better' if worse else ''}"
    yield "median", f"{result.quantile(0.5):.4g} to 1.1 %"
    for name, count in (("NaN", result.undefined), ("infinite", result.infinite)):
        if count:
            yield name, f"{count:,}"
    yield "float32", f"within {rounding:.1e} of float64 on the best masks"
    yield "rate", f"{result.rate:,.0f} masks/s, {result.seconds:.1f} s"
