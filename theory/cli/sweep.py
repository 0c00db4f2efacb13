"""``sketchprune sweep``: many pruned networks, trained and tested on held-out data, to a table and a picture.

Whatever imports JAX loads inside the functions, so that help and typing errors come at once.
"""

import io
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from theory.cli import runtime
from theory.cli.arguments import Data
from theory.cli.exit_status import ExitStatus
from theory.cli.shard import Shard, ShardText

if TYPE_CHECKING:
    from rich.console import Console

    from sketchprune.sweep import Method, Problem, Row, Run

_PICTURES = ("accuracy.pdf", "accuracy.png")
_Count = Annotated[int, arg(metavar="COUNT")]


def sweep(
    *,
    data: Data = "digits",
    network: Literal["mlp", "lenet", "vgg11", "vgg16", "resnet20"] = "mlp",
    scores: Annotated[tuple[str, ...], arg(metavar="[NAME|FILE.py::SCORE ...]")] = ("magnitude", "snip", "synflow"),
    samplers: tuple[Literal["top", "proportional"], ...] = ("top",),
    rounds: Annotated[tuple[int, ...], arg(metavar="[COUNT ...]")] = (1,),
    densities: Annotated[tuple[float, ...], arg(metavar="[DENSITY ...]")] = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01),
    seeds: _Count = 5,
    seed: int = 0,
    samples: Annotated[int | None, arg(metavar="COUNT")] = None,
    steps: _Count = 1000,
    learning_rate: float = 0.1,
    batch_size: _Count = 128,
    out: Annotated[Path, arg(metavar="DIR")] = Path("sweep"),
    resume: bool = False,
    shard: ShardText = "1/1",
) -> int:
    """Prune, train and test networks: every score, sampler, number of rounds, density and seed.

    Writes runs.csv with a row for each run, in groups of up to 32 as they end, accuracy.pdf and accuracy.png, and
    prints a table of the means over seeds. The dense network is trained once for each seed. Training is SGD with
    momentum 0.9 and a step size that falls to 0 along a cosine.

    Args:
        data: the digits images, or a path, whose test set is tested on. Of the digits, and of an .npz file without a
            test set, a fifth is held out.
        network: what is pruned. mlp: two hidden layers of 100; lenet: LeNet-5; vgg11, vgg16 and resnet20 have batch
            normalisation, and are for accelerators.
        scores: names of the library's scores, and functions with their signature in files of one's own.
        samplers: top: the highest scores; proportional: drawn in proportion to them.
        rounds: in how many rounds a network is pruned; 1 is at once.
        densities: the parts of the weights that are kept.
        seeds: how many seeds.
        seed: the first of them; the others follow it. A seed decides the initial weights, the order of the batches and
            the chance of masks.
        samples: how many training samples are used, all classes alike; by default all.
        steps: how many steps each network is trained for.
        learning_rate: the first step size.
        batch_size: how many samples a step sees.
        out: the folder of the table and the picture.
        resume: go on with the runs that the folder holds. Scores, samplers, rounds, densities and seeds may be added.
        shard: with i/N only every N-th seed from the i-th on, into a table of its own. The last shard to end joins the
            tables of all shards in the folder.
    """
    from theory.cli.sweep_folder import seeds_of

    part = Shard.parse(shard)
    _check(seeds, seed, samples, rounds, samplers)
    chosen = seeds_of(part, seed, seeds)
    runtime.configure(x64=False)
    from sketchprune.sweep import Training

    training = Training(steps, learning_rate, batch_size)
    problem, setting = _problem(data, network, samples, training)
    methods, files = _methods(scores, samplers, rounds)
    task = _Task(problem, methods, densities, chosen, data, out, part, setting | files)
    return _run(task, resume=resume)


@dataclass(frozen=True)
class _Task:
    """What is done, and where its files go.

    Attributes:
        problem: the network and its data.
        methods: the ways to prune.
        densities: the densities.
        seeds: the seeds of this process.
        data: the name of the data.
        out: the folder.
        shard: which part of the seeds this is.
        setting: what all runs in the folder share.
    """

    problem: "Problem"
    methods: "tuple[Method, ...]"
    densities: tuple[float, ...]
    seeds: list[int]
    data: str
    out: Path
    shard: Shard
    setting: dict[str, Any]

    def runs(self) -> "list[Run]":
        """All runs of this process."""
        from sketchprune.sweep import runs

        return runs(self.problem, self.methods, self.densities, self.seeds)


def _check(seeds: int, seed: int, samples: int | None, rounds: tuple[int, ...], samplers: tuple[str, ...]) -> None:
    """Refuse numbers out of range, before any folder is made."""
    for name, value in ("seeds", seeds), ("samples", samples), *(("rounds", value) for value in rounds):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it takes a whole number >= 1")
    if not 0 <= seed <= 2**63 - seeds:
        raise ValueError(f"seed is {seed}; it takes a whole number from 0 to 2^63 - seeds")
    for name, values in ("samplers", samplers), ("rounds", rounds):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is {' '.join(map(str, values)) or 'empty'}; it takes some values that differ")


def _problem(data: str, network: str, samples: int | None, training: Any) -> "tuple[Problem, dict[str, Any]]":
    """The network with its data, and what identifies both in the folder."""
    import sketchprune
    from sketchprune._checksums import checksum
    from sketchprune.data import subset
    from sketchprune.sweep import problem
    from theory.cli.select import dataset

    train, test = dataset(data, "train"), dataset(data, "test")
    if samples is not None:
        if samples > len(train.x):
            raise ValueError(f"samples is {samples}; it takes at most {len(train.x)}, the training samples of {data}")
        train = subset(train, samples)
    setting = {
        "data": train.name,
        "checksum of the data": checksum((train, test)),
        "network": network,
        "samples": len(train.x),
        "steps": training.steps,
        "learning rate": training.learning_rate,
        "batch size": training.batch_size,
        "version": sketchprune.__version__,
    }
    return problem(network, train, test, training), setting


def _methods(
    words: Sequence[str], samplers: Sequence[str], rounds: Sequence[int]
) -> "tuple[tuple[Method, ...], dict[str, Any]]":
    """Every score with every sampler and number of rounds, and the checksums of the files that scores come from."""
    from sketchprune.sweep import scored
    from theory.cli.named_scores import named_scores

    found = named_scores(words)
    methods = tuple(
        scored(each.name, each.score, sampler=sampler, rounds=number)
        for each in found
        for sampler in samplers
        for number in rounds
    )
    files = {f"file of the score {each.name}": each.file_crc32 for each in found if each.file_crc32 is not None}
    return methods, files


def _run(task: _Task, *, resume: bool) -> int:
    """Do the runs that are missing, and show what the folder then holds; the exit status."""
    from sketchprune import sweep as library
    from theory.cli import sweep_folder
    from theory.cli.console import terminal
    from theory.cli.folder import locked

    console = terminal()
    wanted = task.runs()
    path = task.out / sweep_folder.table_name(task.shard)
    with ExitStack() as stack:
        stack.enter_context(locked(task.out, sweep_folder.table_name(task.shard)))
        there = sweep_folder.open_folder(task.out, task.shard, task.setting, resume=resume)
        done = {row.run for row in there} & set(wanted)
        console.print(_opening(task, len(wanted), len(done)), soft_wrap=True)
        report = _reporter(console, len(wanted), len(done), stack)
        try:
            groups = library.run(task.problem, task.methods, task.densities, task.seeds, done=done)
            for rows in groups:
                library.append(path, rows)
                done |= {row.run for row in rows}
                report(len(done))
            _show(console, task, sweep_folder.rows(task.out))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(task)) from None
        except OSError as error:
            reason = f"out is {task.out}, which cannot be written ({error.strerror or error})"
            print(f"error: {reason}; {_kept(task)}", file=sys.stderr)
            return ExitStatus.UNEXPECTED
        except (Exception, SystemExit) as error:  # of a score in a user's file
            print(f"error: {_described(error, task.out)}; {_kept(task)}", file=sys.stderr)
            return ExitStatus.UNEXPECTED
    return ExitStatus.OK


def _opening(task: _Task, wanted: int, done: int) -> str:
    """What is done, and with what."""
    import jax

    training = task.problem.training
    known = f", {done:,} of them done" if done else ""
    shard = "" if task.shard.of == 1 else f", shard {task.shard.number} of {task.shard.of}"
    return (
        f"{wanted:,} runs{known}{shard}: {task.problem.network} on {task.data}, "
        f"{len(task.problem.train[0]):,} samples to train and {len(task.problem.test[0]):,} to test on, "
        f"{training.steps:,} steps; jax on {jax.default_backend()}"
    )


def _kept(task: _Task) -> str:
    """What is left of a sweep that ended early."""
    from theory.cli import sweep_folder

    wanted = set(task.runs())
    done = len(wanted & {row.run for row in sweep_folder.rows(task.out)})
    if not done:
        return "no run is kept; the same command starts again"
    return f"{done:,} of {len(wanted):,} runs are kept; the same command with --resume goes on after them"


def _described(error: BaseException, out: Path) -> str:
    """Write the traceback of an error, and say in one line what it was."""
    from sketchprune._files import write_atomically
    from theory.cli.select import reason

    write_atomically(out / "traceback.txt", "".join(traceback.format_exception(error)))
    return f"a run failed with {reason(error)}; the traceback is in {out}/traceback.txt"


def _reporter(console: "Console", wanted: int, before: int, stack: ExitStack) -> Callable[[int], None]:
    """Shows how many runs are done: a bar on a terminal, a line at each tenth elsewhere."""
    from theory.cli.console import progress as bar

    shown = stack.enter_context(bar(console))
    task = shown.add_task("runs", total=wanted, completed=before)
    started = time.perf_counter()
    tenths = 10 * before // wanted

    def report(done: int) -> None:
        nonlocal tenths
        rate = (done - before) / (time.perf_counter() - started)
        line = f"{done:,} of {wanted:,} runs, {rate:.2g} runs/s, {(wanted - done) / rate:,.0f} s left"
        shown.update(task, completed=done, description=line)
        if not console.is_terminal and 10 * done // wanted > tenths:
            tenths = 10 * done // wanted
            console.print(line)

    return report


def _show(console: "Console", task: _Task, rows: "list[Row]") -> None:
    """Print the table of means, and write the picture."""
    from sketchprune._files import write_atomically
    from sketchprune.sweep import picture, summarise
    from theory.cli.sweep_folder import table_name
    from theory.cli.sweep_table import lines

    found = summarise(rows)
    for line in lines(found):
        console.print(line, soft_wrap=True)
    steps, seeds = task.problem.training.steps, len({row.seed for row in rows})
    bands = f"; bands: 95 % intervals over {seeds} seeds" if seeds > 1 else ""
    figure = picture(found, f"{task.problem.network} on {Path(task.data).name}, {steps:,} steps{bands}")
    for name in _PICTURES:
        content = io.BytesIO()
        figure.savefig(content, format=Path(name).suffix[1:], dpi=200)
        write_atomically(task.out / name, content.getvalue())
    console.print(f"files: {task.out}/{table_name(task.shard)}, {', '.join(_PICTURES)}", soft_wrap=True)
