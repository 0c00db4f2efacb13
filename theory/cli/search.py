"""``sketchprune search``: random masks of a model by the million, beside what theory says of them.

Whatever imports JAX loads inside the functions, so that help and typing errors come at once.
"""

import datetime
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from theory.cli import runtime
from theory.cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from etils import epath
    from rich.console import Console

    from sketchprune.search import Progress, SearchResult
    from theory.cli.search_task import Task

_COUNT = arg(metavar="COUNT")
_NOTICE_S = 5.0
"""Time in which it is noticed that another process is gone."""
_PROGRESS_S = 5.0
"""The least time between two lines of progress.jsonl, of which the last batch always has one."""
PROGRESS = "progress.jsonl"
"""The file of the progress of a search."""
_OF_PROBLEM = ("data", "model", "law", "probabilities", "binary", "objective", "density", "steps", "step_size")
"""The options that name a problem; a file with a problem of one's own takes none of them."""


def search(
    problem: Positional[Annotated[str | None, arg(metavar="FILE.py[::NAME]")]] = None,
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
    checkpoint: Annotated[str | None, arg(metavar="DIR|gs://BUCKET/DIR")] = None,
    checkpoint_seconds: float = 60.0,
    devices: int | None = None,
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None,
    processes: int | None = None,
    process_id: int | None = None,
    cluster: bool = False,
    join_timeout: float = 60.0,
) -> int:
    """Search random masks: the best few, a histogram of all, and what theory says of them.

    Writes best.npz, result.json, histogram.png and, as it goes on, progress.jsonl. Results do not depend on batch,
    devices, processes, or kills.

    Args:
        problem: a file of one's own with a sketchprune.search.problems.Problem at its top level, an objective and a
            law. By default the options from data to density name what is searched.
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
        masks: how many masks are drawn, such as 1e6. With resume they may be more than they were.
        best: how many of the best are kept.
        batch: masks between two returns to the host; by default what takes half a second.
        seed: what weights and masks derive from.
        out: the folder of the results and of the checkpoint.
        resume: go on with the search that the folder holds; without it a folder with a checkpoint is refused.
        checkpoint: the folder of the checkpoint; by default checkpoint in the folder of the results.
        checkpoint_seconds: time between two checkpoints.
        devices: how many devices are used; by default all, where each core of a CPU is one.
        coordinator: address of process 0, where several processes share the work.
        processes: how many processes share the work.
        process_id: which of them this is, from 0 on.
        cluster: several processes, as the cluster's environment says (Slurm, Open MPI, TPU pods).
        join_timeout: seconds that a process waits for the others.
    """
    _check(masks, best, batch, seed, {"checkpoint-seconds": checkpoint_seconds, "join-timeout": join_timeout})
    named = {name: value for name, value in locals().items() if name in (*_OF_PROBLEM, "seed")}
    _check_for_own(problem, named)
    from sketchprune._files import folder_path  # of a cloud's storage too

    place = folder_path(out / "checkpoint" if checkpoint is None else checkpoint)
    several = cluster or any(value is not None for value in (coordinator, processes, process_id))
    goodbye = _join(coordinator, processes, process_id, join_timeout, place) if several else (lambda: None)
    runtime.configure(x64=False, device_per_core=True)
    from theory.cli.search_task import named_task, own_task

    task = named_task(named, out, place) if problem is None else own_task(problem, seed, out, place)
    options = {"num_best": best, "batch": batch, "checkpoint_seconds": checkpoint_seconds}
    try:
        status = _run(task, int(masks), options, devices=devices, resume=resume)
    except ValueError:  # all processes raise it alike
        goodbye()
        raise
    goodbye()
    return status


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


def _check_for_own(problem: str | None, named: dict[str, Any]) -> None:
    """Refuse options that a problem of the user's own has no use for."""
    defaults = inspect.signature(search).parameters
    for name in _OF_PROBLEM if problem is not None else ():
        if named[name] != defaults[name].default:
            raise ValueError(
                f"{name.replace('_', '-')} is {named[name]} with {problem}, which says what is searched; "
                "it takes a search without a file"
            )


def _join(
    coordinator: str | None, processes: int | None, process_id: int | None, timeout: float, checkpoint: "epath.Path"
) -> Callable[[], None]:
    """Join this process to the others; returns what is to be called before it ends."""
    from sketchprune.search import mesh
    from theory.cli import search_folder

    def end(lost: int):
        """End at once: the search waits for the process that is gone, and nothing else can interrupt it."""
        kept = _interrupted(search_folder.masks_done(checkpoint))
        print(f"error: process {lost} is gone before the end of the search; {kept}", file=sys.stderr, flush=True)
        os._exit(ExitStatus.UNEXPECTED)

    try:
        return mesh.start(coordinator, processes, process_id, timeout=timeout, on_lost=end)
    except TimeoutError as error:
        raise ValueError(str(error)) from None


def _run(task: "Task", num_masks: int, options: dict[str, Any], *, devices: int | None, resume: bool) -> int:
    """Search, print and write what was found; the exit status."""
    import jax

    from theory.cli import search_folder
    from theory.cli.console import terminal
    from theory.cli.search_report import report_result

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
        options["progress"] = _reporter(console, task, num_masks, done, stack)
        try:
            result = _searched(task, num_masks, used, options)
        except OSError as error:  # of the checkpoint
            kept = _interrupted(search_folder.masks_done(task.checkpoint))
            reason = f"out is {task.out}, which cannot be written ({error.strerror or error})"
            print(f"error: {reason}; {kept}", file=sys.stderr)
            return ExitStatus.UNEXPECTED
        if first_process:
            report_result(console, task, result)
    return ExitStatus.OK


def _searched(task: "Task", num_masks: int, devices: list[Any], options: dict[str, Any]) -> "SearchResult":
    """What the search finds; when it is interrupted, process 0 says how many masks are kept."""
    import jax

    from sketchprune import search as library
    from theory.cli import search_folder

    try:
        return library.best(
            task.problem.objective,
            task.problem.law,
            num_masks,
            key=jax.random.key(task.seed),
            mesh=library.mesh.over(devices),
            checkpoint=task.checkpoint,
            **options,
        )
    except KeyboardInterrupt:
        if jax.process_index() != 0:
            raise
        raise KeyboardInterrupt(_interrupted(search_folder.masks_done(task.checkpoint))) from None
    except RuntimeError:
        if jax.process_count() > 1:
            time.sleep(_NOTICE_S)  # where another process is gone, that is noticed now, and ends this one
        raise


def _open_folder(task: "Task", resume: bool, stack: ExitStack) -> int:
    """Masks done by the checkpoint in the folder, which process 0 opens; what it refuses, all processes refuse.

    The folder is locked until the stack is left.
    """
    from sketchprune.search import mesh
    from theory.cli import search_folder
    from theory.cli.folder import locked

    def opened() -> int:
        stack.enter_context(locked(task.out))
        done = search_folder.open_folder(task.out, task.checkpoint, task.setting, resume=resume)
        if not done:  # the progress of a search whose checkpoint is gone
            (task.out / PROGRESS).unlink(missing_ok=True)
        return done

    return mesh.call_on_process_0(opened)


def _opening(task: "Task", num_masks: int, devices: list[Any]) -> str:
    """What is searched, where."""
    import jax

    problem = task.problem
    processes = f"{jax.process_count()} process{'es' if jax.process_count() > 1 else ''}"
    kept = ""
    if problem.keep is not None and problem.weights is not None:
        kept = f"{problem.keep:,} of {problem.weights:,} weights, "
    kept += "" if problem.density is None else f"realised density {problem.density:.4g}; "
    used = f"{len(devices)} x {devices[0].device_kind}, {processes}"
    return f"{task.objective} of {num_masks:,} {task.law} masks, {task.subject}: {kept}{used}"


def _interrupted(done: int) -> str:
    """What is left of a search that was interrupted."""
    if not done:
        return "no checkpoint was written yet; the same command starts again"
    return f"{done:,} masks are kept; the same command with --resume goes on after them"


def _reporter(
    console: "Console", task: "Task", num_masks: int, done: int, stack: ExitStack
) -> Callable[["Progress"], None]:
    """Shows progress: a bar on a terminal, a line at each tenth elsewhere; first what the search goes on after.

    That is said when a batch is done: before, the checkpoint may still be refused. The first process also writes it to
    progress.jsonl.
    """
    from theory.cli.console import progress as bar

    shown = stack.enter_context(bar(console))
    shown_task = shown.add_task("", total=num_masks)
    tenths, goes_on = 0, done > 0
    written_at = -math.inf

    def report(now: "Progress"):
        nonlocal tenths, goes_on, written_at
        if goes_on:
            console.print(f"goes on after {done:,} masks")
            goes_on = False
        line = f"{100 * now.done // num_masks:3}%  {now.rate:,.0f} masks/s, {now.seconds_left:.0f} s left"
        shown.update(shown_task, completed=now.done, description=line)
        if not console.is_terminal and 10 * now.done // num_masks > tenths:
            tenths = 10 * now.done // num_masks
            console.print(line)
        if not console.quiet and (time.monotonic() - written_at >= _PROGRESS_S or now.done == num_masks):
            written_at = time.monotonic()
            _write_progress(task.out / PROGRESS, now)

    return report


def _write_progress(file: Path, now: "Progress") -> None:
    """Add a line to the file: time, masks done, rate, and the best objective so far."""
    from sketchprune._files import strict_json

    line = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")} | vars(now)
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(json.dumps(strict_json(line), allow_nan=False) + "\n")
