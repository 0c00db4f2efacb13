"""``sketchprune verify``: verify claims and write a report.

Whatever imports JAX is imported inside the functions, so that help and wrong usage answer at once.
"""

import shlex
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from theory.cli import runtime
from theory.cli.arguments import Data, Selection, check_seed
from theory.cli.exit_status import ExitStatus, exit_status

if TYPE_CHECKING:
    from theory.cli.verdict_table import VerdictTable
    from theory.report.run import Report, Selected
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
    """
    check_seed(seed)
    started = time.perf_counter()
    runtime.configure()
    from theory.catalogue import CATALOGUE
    from theory.cli.ordered_map import ordered_map
    from theory.cli.select import dataset, select
    from theory.cli.verdict_table import VerdictTable
    from theory.report import journal
    from theory.report.files import write_report
    from theory.report.replays import recall
    from theory.report.run import Report, Run
    from theory.verification import verify as verdict_on

    chosen = select(selection, CATALOGUE)
    samples = dataset(data)
    report = Report(Run(seed, tier, data, journal.fingerprint(samples), runtime.versions()))
    earlier = journal.begin(out, report.run, resume=resume)
    table = VerdictTable(report.run, chosen)

    def verdict(item: "Selected") -> "Verdict":
        if (known := earlier.get(journal.key(item))) is not None:
            return known
        remembered, ignored = recall(out, item, samples)
        if ignored:
            print(f"note: {item.argument}: {ignored}", file=sys.stderr)
        return verdict_on(item.claim, tier=tier, seed=seed, data=samples, remembered=remembered)

    table.begin()
    try:
        with closing(table.tracked(ordered_map(verdict, chosen, threads=runtime.THREADS))) as results:
            _collect(results, report, earlier, table, out)
    except KeyboardInterrupt:
        kept = f"{len(report.verdicts)} of {len(chosen)} verdicts are kept"
        command = f"{report.run.command(*selection)} --out {shlex.quote(str(out))} --resume"
        raise KeyboardInterrupt(f"{kept}; go on with {command}") from None
    page = write_report(out, report)
    table.end(report, page, time.perf_counter() - started)
    if report.failed:
        return ExitStatus.UNEXPECTED
    return exit_status([verdict for _, verdict in report.verdicts], strict=strict)


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
        except Exception as error:
            report.failed[item.argument] = _describe_failure(item, error, out, number=len(report.failed) + 1)
            print(f"error: {item.argument}: {report.failed[item.argument]}", file=sys.stderr)
            continue
        if journal.key(item) not in earlier:
            journal.append(out, item, verdict)
            remember(out, verdict)
        report.verdicts.append((item, verdict))
        table.add(item, verdict)


def _describe_failure(item: "Selected", error: Exception, out: Path, *, number: int) -> str:
    """Write the traceback of a claim that could not be verified, and say in one line why it could not."""
    from sketchprune._files import write_atomically
    from theory.cli.select import reason

    path, in_file, _ = item.argument.partition("::")
    trace = out / f"traceback-{number}.txt"
    write_atomically(trace, "".join(traceback.format_exception(error)))
    return f"verification failed with {reason(error, path if in_file else None)}; the traceback is in {trace}"
