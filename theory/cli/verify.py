"""``sketchprune verify``: verify claims and write a report.

Whatever imports JAX is imported inside the functions, so that help and wrong usage answer at once.
"""

import functools
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from theory.cli import runtime
from theory.cli.arguments import Data, JUnit, Selection, check_junit, check_seed
from theory.cli.exit_status import ExitStatus, exit_status
from theory.cli.shard import Shard, ShardText, balanced

if TYPE_CHECKING:
    from sketchprune.data import Dataset
    from theory.cli.verdict_table import VerdictTable
    from theory.report.journal import ClaimKey
    from theory.report.run import Report, Run, Selected
    from theory.verdict import Verdict


def verify(
    selection: Selection = (),
    *,
    tier: Literal["quick", "standard", "full"] = "standard",
    seed: int = 0,
    data: Data = "digits",
    out: Annotated[Path, arg(metavar="DIR")] = Path("report"),
    resume: bool = False,
    strict: bool = False,
    shard: ShardText = "1/1",
    junit: JUnit = None,
) -> int:
    """Verify claims and write a report.

    Exit status 0: every verdict is the expected one and every mutant is refuted; 1: not so, or a claim could not be
    verified; 2: wrong usage; 3: undecided, with --strict.

    Args:
        selection: claims, patterns such as 'sketch/*', Python files that define claims.
        tier: how much work is done.
        seed: the seed that all random keys derive from.
        data: the digits images, or a path: an .npz with x [samples, ...] and y [samples] (classes 0, 1, ...), or a
            folder of MNIST's or CIFAR's own files.
        out: the folder of index.html, verdicts.json, verdicts.csv and the counterexamples.
        resume: go on with the run that the folder holds.
        strict: exit status 3 if a claim, an effect or a mutant is undecided and nothing else is amiss.
        shard: with i/N only the i-th of N parts of the claims, which take about as long as each other. Each part has
            a folder of its own, and ``sketchprune merge`` joins the folders.
        junit: a file for a JUnit report, which GitLab, Jenkins and others show.
    """
    part = Shard.parse(shard)
    check_seed(seed)
    check_junit(junit)
    started = time.perf_counter()
    runtime.configure()
    from sketchprune._checksums import checksum
    from theory.catalogue import CATALOGUE
    from theory.cli.folder import locked
    from theory.cli.select import dataset, select, with_earlier
    from theory.cli.verdict_table import VerdictTable
    from theory.report import journal
    from theory.report.files import write_junit, write_report
    from theory.report.run import Report, Run

    chosen = balanced(select(selection, CATALOGUE), part)
    samples = dataset(data)
    whole = shlex.join(selection or ["*"]) if part.of > 1 else ""
    run = Run(seed, tier, data, checksum(samples), runtime.versions(), shard=str(part), selection=whole)
    report = Report(run)
    with locked(out):
        earlier = journal.begin(out, report.run, resume=resume)
        chosen = with_earlier(chosen, earlier, CATALOGUE)
        table = VerdictTable(report.run, chosen)
        table.begin()
        try:
            with closing(_verdicts(chosen, report.run, samples, earlier, table, out)) as results:
                _collect(results, report, earlier, table, out)
            page = write_report(out, report)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(report, len(chosen), selection, out)) from None
        except OSError as error:
            reason = f"out is {out}, which cannot be written ({error.strerror or error})"
            print(f"error: {reason}; {_kept(report, len(chosen), selection, out)}", file=sys.stderr)
            return ExitStatus.UNEXPECTED
    table.end(report, page, time.perf_counter() - started)
    if junit is not None:
        write_junit(junit, report)
    return exit_status([verdict for _, verdict in report.verdicts], failed=bool(report.failed), strict=strict)


def _verdicts(
    chosen: "Sequence[Selected]",
    run: "Run",
    samples: "Dataset",
    earlier: "Mapping[ClaimKey, Verdict]",
    table: "VerdictTable",
    out: Path,
) -> "Generator[tuple[Selected, Callable[[], Verdict]], None, None]":
    """Each claim with a function that waits for its verdict, which an earlier run may have reached."""
    from theory.cli.ordered_map import ordered_map
    from theory.report import journal
    from theory.report.replays import recall
    from theory.verification import verify as verdict_on

    def verdict(item: "Selected") -> "Verdict":
        if (known := earlier.get(journal.key(item))) is not None:
            return known
        remembered, ignored = recall(out, item, samples)
        if ignored:
            print(f"note: {item.argument}: {ignored}", file=sys.stderr)
        memory = {} if remembered is None else {"remembered": remembered}
        progress = functools.partial(table.working, item)
        return verdict_on(item.claim, tier=run.tier, seed=run.seed, data=samples, progress=progress, **memory)

    return table.tracked(ordered_map(verdict, chosen, threads=runtime.THREADS))


def _kept(report: "Report", num_claims: int, selection: "Sequence[str]", out: Path) -> str:
    """What is left of a run that ended early, and how to go on."""
    from theory.report import journal
    from theory.report.run import WHOLE

    if not (out / journal.NAME).exists():
        return "nothing is kept, since the folder was deleted during the run"
    shard = f" --shard {report.run.shard}" if report.run.shard != WHOLE else ""
    command = f"{report.run.command(*selection)}{shard} --out {shlex.quote(str(out))} --resume"
    return f"{len(report.verdicts)} of {num_claims} verdicts are kept; go on with {command}"


def _collect(
    results: "Iterable[tuple[Selected, Callable[[], Verdict]]]",
    report: "Report",
    earlier: Container[tuple[str, int | None]],
    table: "VerdictTable",
    out: Path,
):
    """Add each verdict to the report, the journal (unless an earlier run did) and the table, as its turn comes."""
    from theory.report import journal
    from theory.report.replays import remember

    for item, result in results:
        try:
            verdict = result()
        except (Exception, SystemExit) as error:  # a trial may call sys.exit
            report.failed[item.argument] = _describe_failure(item, error, out, number=len(report.failed) + 1)
            print(f"error: {item.argument}: {report.failed[item.argument]}", file=sys.stderr)
            continue
        if journal.key(item) not in earlier:
            journal.append(out, item, verdict)
            remember(out, verdict)
        report.verdicts.append((item, verdict))
        table.add(item, verdict)


def _describe_failure(item: "Selected", error: BaseException, out: Path, *, number: int) -> str:
    """Write the traceback of a claim that could not be verified, and say in one line why it could not."""
    from sketchprune._files import write_atomically
    from theory.cli.select import reason

    path, in_file, _ = item.argument.partition("::")
    trace = out / f"traceback-{number}.txt"
    write_atomically(trace, "".join(traceback.format_exception(error)))
    return f"verification failed with {reason(error, path if in_file else None)}; the traceback is in {trace}"
