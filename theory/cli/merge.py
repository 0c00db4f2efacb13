"""``sketchprune merge``: join the folders of all shards of a run into one report.

Whatever imports JAX is imported inside the functions, so that help and wrong usage answer at once.
"""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from theory.cli import runtime
from theory.cli.arguments import JUnit, check_junit
from theory.cli.exit_status import exit_status
from theory.cli.shard import Shard, balanced

if TYPE_CHECKING:
    from theory.report.run import Report
    from theory.report.shards import ShardFolder


def merge(
    folders: Positional[Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]")]],
    *,
    out: Annotated[Path, arg(metavar="DIR")],
    strict: bool = False,
    junit: JUnit = None,
) -> int:
    """Join the folders of all shards of a run into one report, the same as that of the whole run but for times.

    The exit status is that of verify. Refused are shards of another seed, tier, data or version, of a run that is not
    complete, and shards that disagree.

    Args:
        folders: the folders that ``verify --shard i/N`` wrote.
        out: the folder of the report.
        strict: exit status 3 if a claim, an effect or a mutant is undecided and nothing else is amiss.
        junit: a file for a JUnit report, which GitLab, Jenkins and others show.
    """
    if not folders:
        raise ValueError("folder is missing; it takes the folders that verify --shard wrote")
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise ValueError(f"out is {out}, the folder of a shard; it takes another folder")
    check_junit(junit)
    started = time.perf_counter()
    from theory.cli.folder import locked
    from theory.cli.verdict_table import VerdictTable
    from theory.report import journal
    from theory.report.files import write_junit, write_report
    from theory.report.replays import remember
    from theory.report.shards import ShardFolder

    report = _joined([ShardFolder.read(folder) for folder in folders])
    with locked(out):
        journal.begin(out, report.run, resume=False)
        table = VerdictTable(report.run, [item for item, _ in report.verdicts])
        table.begin()
        for item, verdict in report.verdicts:
            journal.append(out, item, verdict)
            remember(out, verdict)
            table.add(item, verdict)
        page = write_report(out, report)
    table.end(report, page, time.perf_counter() - started)
    if junit is not None:
        write_junit(junit, report)
    return exit_status([verdict for _, verdict in report.verdicts], failed=bool(report.failed), strict=strict)


def _joined(shards: "list[ShardFolder]") -> "Report":
    """The report of all shards, with the claims as they are installed here."""
    from theory.catalogue import CATALOGUE
    from theory.cli.select import select
    from theory.report import shards as shard_folders

    run = shard_folders.whole_run(shards)
    here = runtime.source_checksum()
    if run.versions.get("source") != here:
        raise ValueError(
            f"folder is {shards[0].folder}, which is of other claims than those here "
            f"(source {run.versions.get('source')}, not {here}); it takes shards of the version that is installed"
        )
    claims = select(shlex.split(shards[0].run.selection), CATALOGUE)
    of = Shard.parse(shards[0].run.shard).of
    parts = [balanced(claims, Shard(number, of)) for number in range(1, of + 1)]
    return shard_folders.merge(shards, run, parts, [item.argument for item in claims])
