"""``sketchprune search``: random masks of a model by the million, beside what theory says of them.

Whatever imports JAX loads inside the functions, so that help and typing errors come at once.
"""

import dataclasses
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from theory.cli import runtime as backend

if TYPE_CHECKING:
    from rich.console import Console

    from sketchprune.search import Progress, SearchResult
    from sketchprune.search.problems import Problem, Setting

_COUNT = arg(metavar="COUNT")


def search(
    *,
    data: Annotated[str, arg(metavar="digits|PATH")] = "digits",
    model: Literal["linear", "mlp", "lenet"] = "linear",
    law: Literal["multinomial", "poisson", "fixed"] = "multinomial",
    probabilities: Literal["optimal", "data-free", "uniform"] = "optimal",
    binary: bool = False,
    objective: Literal["linear-error", "training-error", "ntk-error", "initial-loss", "trained-loss"] | None = None,
    steps: Annotated[int | None, arg(metavar="COUNT")] = None,
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
        law: how masks are drawn; multinomial and poisson masks are reweighted, fixed ones are 0/1.
        probabilities: optimal for the sketch (a_i of a linear model, column norms of the tangent kernel), in
            proportion to the size of weights (data-free), or uniform.
        binary: 0/1 masks in place of reweighted ones.
        objective: what is searched for; by default linear-error, and initial-loss for networks.
        steps: of training; without it training-error is that at convergence, and trained-loss takes 50.
        step_size: relative to 1/λ_max for training-error (1), Adam's for trained-loss (0.01).
        density: the fraction of weights that is kept, or drawn.
        masks: how many; 1e6 will do.
        best: how many of the best are kept.
        batch: masks between two looks of the host; by default what takes half a second.
        seed: what weights and masks derive from.
        out: the folder of the results and of the checkpoint.
        resume: go on with the search that the folder holds; without it a folder with a checkpoint is refused.
        checkpoint_seconds: between two checkpoints.
        devices: how many devices are used; by default all, where each core of a CPU is one.
        coordinator: address of process 0, where several processes share the work.
        processes: how many processes share the work.
        process_id: which of them this is, from 0 on.
        cluster: several processes, as the cluster's environment says (Slurm, Open MPI, TPU pods).
        join_timeout: seconds until a process that has not come is given up.
    """
    if not 1 <= masks < 2**63 or masks != math.floor(masks):
        raise ValueError(f"masks: got {masks:g}; takes a whole number from 1 to 2^63 - 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}; takes an integer from 0 to 2^63 - 1")
    for name, seconds in (("checkpoint-seconds", checkpoint_seconds), ("join-timeout", join_timeout)):
        if not 0 <= seconds < math.inf:
            raise ValueError(f"{name}: got {seconds:g}; takes a finite number >= 0")
    if cluster or coordinator is not None or processes is not None or process_id is not None:
        from sketchprune.search import mesh

        try:
            mesh.start(coordinator, processes, process_id, timeout=join_timeout)
        except TimeoutError as error:
            raise ValueError(str(error)) from None
    backend.configure(x64=False, device_per_core=True)
    from sketchprune.search.problems import OBJECTIVES, Setting, completed, problem
    from theory.cli.select import dataset

    chosen = objective or OBJECTIVES[model][0]
    setting = completed(Setting(data, model, law, probabilities, binary, chosen, density, steps, step_size, seed))
    return _run(
        setting, problem(setting, dataset(data)), int(masks), best, batch, devices, out, resume, checkpoint_seconds
    )


def _run(
    setting: "Setting",
    problem: "Problem",
    num_masks: int,
    best: int,
    batch: int | None,
    devices: int | None,
    out: Path,
    resume: bool,
    checkpoint_seconds: float,
) -> int:
    import jax

    from sketchprune import search as library
    from sketchprune.search import mesh
    from theory.cli import search_folder
    from theory.cli.console import terminal

    leads = jax.process_index() == 0
    console = terminal(quiet=not leads)
    if devices is not None and not 1 <= devices <= jax.device_count():
        raise ValueError(f"devices: got {devices}; takes 1 to {jax.device_count()}")
    found_devices = jax.devices()[:devices]
    behind = _begin(setting, out, resume)
    console.print(
        f"{setting.objective} of {num_masks:,} {setting.law} masks, {setting.model} on {setting.data}: "
        f"{problem.keep:,} of {problem.weights:,} weights; {len(found_devices)} x {found_devices[0].device_kind}, "
        f"{jax.process_count()} process{'es' if jax.process_count() > 1 else ''}",
        soft_wrap=True,
    )
    if resume:
        console.print(f"goes on after {behind:,} masks" if behind else "nothing to resume: starts with the first mask")
    try:
        with ExitStack() as stack:
            result = library.best(
                problem.objective,
                problem.law,
                jax.random.key(setting.seed),
                num_masks,
                best=best,
                batch=batch,
                mesh=mesh.over(found_devices),
                checkpoint=search_folder.checkpoints(out),
                checkpoint_seconds=checkpoint_seconds,
                progress=_reporter(console, num_masks, stack),
            )
    except KeyboardInterrupt:
        if not leads:
            raise
        raise KeyboardInterrupt(_kept(search_folder.done(out))) from None
    if leads:
        _report(console, setting, problem, result, out)
    return 0


def _begin(setting: "Setting", out: Path, resume: bool) -> int:
    """Masks behind the checkpoint in the folder, which process 0 opens; what it refuses, all processes refuse."""
    from sketchprune.search import mesh
    from theory.cli import search_folder

    return mesh.answered(lambda: search_folder.begin(out, dataclasses.asdict(setting), resume=resume))


def _kept(behind: int) -> str:
    """What is left of a search that was interrupted."""
    if not behind:
        return "no checkpoint was written yet; the same command starts again"
    return f"{behind:,} masks are kept; the same command with --resume goes on after them"


def _reporter(console: "Console", num_masks: int, stack: ExitStack) -> Callable[["Progress"], None]:
    """A bar on a terminal; a line at each tenth elsewhere."""
    from theory.cli.console import progress as bar

    shown = stack.enter_context(bar(console))
    task = shown.add_task("", total=num_masks)
    tenth = 0

    def report(now: "Progress"):
        nonlocal tenth
        line = f"{now.done / num_masks:4.0%}  {now.rate:,.0f} masks/s, {now.seconds_left:.0f} s left"
        shown.update(task, completed=now.done, description=line)
        if not console.is_terminal and 10 * now.done // num_masks > tenth:
            tenth = 10 * now.done // num_masks
            console.print(line)

    return report


def _report(console: "Console", setting: "Setting", problem: "Problem", result: "SearchResult", out: Path):
    import jax

    from sketchprune.search import report as search_report

    rounding = _rounding(problem, result)
    zero = float(jax.jit(problem.objective)(problem.zero_mask))
    facts = {
        "setting": dataclasses.asdict(setting),
        "keep": problem.keep,
        "weights": problem.weights,
        "float32_error": rounding,
        "versions": backend.versions(),
    }
    try:
        search_report.write(out, result, problem.theory, zero, facts, setting.objective)
    except OSError as error:
        raise ValueError(f"out: got {out}: {error.strerror}; takes a folder that can be written") from None
    worse = "" if len(result.values) and result.values[0] < zero else ": no mask found does better"
    mean = f"{result.mean:.6g} ± {search_report.standard_error(result):.2g}"
    lines = [
        ("best", f"{result.values[0]:.6g}, mask {result.indices[0]}" if len(result.values) else "none"),
        ("mean", f"{mean}, deviation {math.sqrt(result.variance):.4g}"),
        *((name, f"{value:.6g}") for name, value in problem.theory.items()),
        ("zero mask", f"{zero:.6g}{worse}"),
        ("median", f"{result.quantile(0.5):.4g} to 1.1 %"),
        *((name, f"{count:,}") for name, count in (("NaN", result.undefined), ("infinite", result.infinite)) if count),
        ("float32", f"within {rounding:.1e} of float64 on the best masks"),
        ("rate", f"{result.rate:,.0f} masks/s, {result.seconds:.1f} s"),
        ("files", f"{out}/best.npz, result.json, histogram.png"),
    ]
    for name, said in lines:
        console.print(f"{name:>20}  {said}", soft_wrap=True)


def _rounding(problem: "Problem", result: "SearchResult") -> float:
    """The largest relative error of the best values against the same objective in float64."""
    import jax
    import numpy as np

    if not len(result.values):
        return math.nan
    with jax.enable_x64(True):
        exact = np.asarray(jax.jit(lambda every: jax.lax.map(problem.exactly, every))(result.masks))
    scale = np.where(exact == 0, 1, np.abs(exact))
    return float(np.max(np.abs(result.values - exact) / scale))
