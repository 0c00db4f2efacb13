"""The ``sketchprune`` command.

Whatever imports JAX loads inside the functions, so that help and typing errors come at once.
"""

import io
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from theory.cli import runtime as backend
from theory.cli.search import search
from theory.verdict import INCONCLUSIVE, REFUTED, Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from theory.cli.select import Selected

OK, UNEXPECTED, USAGE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses."""
_SELECTION = arg(metavar="[CLAIM|PATTERN|FILE.py[::CLAIM] ...]", help_behavior_hint="(default: the whole catalogue)")


def verify(
    selection: Positional[Annotated[tuple[str, ...], _SELECTION]] = (),
    *,
    tier: Literal["quick", "standard", "full"] = "standard",
    seed: int = 0,
    data: Annotated[str, arg(metavar="digits|PATH")] = "digits",
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
        seed: what all random keys derive from.
        data: the digits images, or a path: an .npz with x [samples, ...] and y [samples] (classes 0, 1, ...), or a
            folder of MNIST's or CIFAR's own files.
        out: the folder of index.html, verdicts.json and verdicts.csv.
        resume: go on with the run that the folder holds.
        strict: exit status 3 where a claim, an effect or a mutant is undecided and nothing else is amiss.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}; takes an integer from 0 to 2^63 - 1")
    started = time.perf_counter()
    backend.configure()
    from theory.catalogue import CATALOGUE
    from theory.cli import console as table
    from theory.cli.ordered_map import in_order
    from theory.cli.select import dataset, select
    from theory.report import files as report
    from theory.report import journal
    from theory.verification import verify as verdict_on

    chosen = select(selection, CATALOGUE)
    images = dataset(data)
    run = journal.Run(seed, tier, data, journal.fingerprint(images), backend.versions())
    known = journal.begin(out, run, resume=resume)
    console = table.terminal()
    layout = table.layout(chosen, console)
    _say(console, table.opening(run, chosen, layout))
    verified: list[Selected] = []
    verdicts: list[Verdict] = []
    failed: dict[str, str] = {}
    try:
        with table.progress(console) as progress:
            task = progress.add_task("", total=len(chosen))

            def measured(item: "Selected") -> Verdict:
                again = known.get((item.argument, item.file_crc32))
                return again or verdict_on(item.claim, tier=tier, seed=seed, data=images)

            for item, outcome in in_order(measured, chosen, threads=backend.THREADS):
                progress.update(task, description=item.argument, refresh=True)
                try:
                    verdict = outcome()
                except Exception as error:
                    failed[item.argument] = _failure(item, error, out, len(failed) + 1)
                    print(f"error: {item.argument}: {failed[item.argument]}", file=sys.stderr)
                    progress.advance(task)
                    continue
                if (item.argument, item.file_crc32) not in known:
                    journal.append(out, item, verdict)
                verified.append(item)
                verdicts.append(verdict)
                _say(console, table.row(item, verdict, run, layout))
                progress.advance(task)
    except KeyboardInterrupt:
        again = f"{run.command(*selection)} --out {shlex.quote(str(out))} --resume"
        kept = f"{len(verdicts)} of {len(chosen)} verdicts are kept"
        raise KeyboardInterrupt(f"{kept}; go on with {again}") from None
    index = report.write_report(out, run, verified, verdicts, failed)
    _say(console, table.closing(verdicts, failed, index, time.perf_counter() - started))
    return UNEXPECTED if failed else status(verdicts, strict=strict)


def list_claims(selection: Positional[Annotated[tuple[str, ...], _SELECTION]] = ()) -> int:
    """List claims: those of the catalogue, of patterns, of files.

    Args:
        selection: claims, patterns such as 'sketch/*', Python files that define claims.
    """
    from theory.catalogue import CATALOGUE
    from theory.cli import console as table
    from theory.cli.select import select

    _say(table.terminal(), table.listing([item.claim for item in select(selection, CATALOGUE)]))
    return OK


def show(claim: Positional[Annotated[str, arg(metavar="CLAIM|FILE.py::CLAIM")]]) -> int:
    """Show a claim: its statement, sources, cases and mutants.

    Args:
        claim: its id, or a pattern.
    """
    from theory.catalogue import CATALOGUE
    from theory.cli import console as table
    from theory.cli.select import select

    console = table.terminal()
    for number, item in enumerate(select([claim], CATALOGUE)):
        _say(console, [""] * bool(number))
        _say(console, table.description(item))
    return OK


def falsify(
    claim: Positional[Annotated[str, arg(metavar="CLAIM|PATTERN|FILE.py[::CLAIM]")]],
    *,
    steps: int = 500,
    seed: int = 0,
    data: Annotated[str, arg(metavar="digits|PATH")] = "digits",
) -> int:
    """Search for counterexamples to a bound, longer than verify does, and show how close they come.

    Gradient ascent on the instances, within the hypotheses. Exit status 0: none was found; 1: one was; 2: wrong usage.

    Args:
        claim: its id, or a pattern; of several claims, those whose instances can be moved.
        steps: gradient steps from each of 128 instances of a case.
        seed: what all random keys derive from.
        data: the digits images, or a file with data of one's own.
    """
    if steps < 0 or not 0 <= seed < 2**63:
        raise ValueError(f"steps, seed: got {steps}, {seed}; takes integers >= 0, the seed below 2^63")
    backend.configure()
    from theory import falsify as searches
    from theory.catalogue import CATALOGUE
    from theory.cli import console as table
    from theory.cli.select import dataset, select

    chosen = [item for item in select([claim], CATALOGUE) if searches.searchable(item.claim)]
    if not chosen:
        raise ValueError(f"claim: got {claim}; takes a bound with fields that a search may move (Bound(search=…))")
    images, console, refuted = dataset(data), table.terminal(), False
    for item in chosen:
        _say(console, table.search_opening(item))
        found = []
        for closest in searches.falsify(item.claim, steps=steps, seed=seed, data=images):
            found.append(closest)
            _say(console, [table.search_row(closest)])
        _say(console, table.search_closing(found))
        refuted |= any(closest.refutes for closest in found)
    return UNEXPECTED if refuted else OK


def devices() -> int:
    """Show the devices that JAX finds, and versions."""
    backend.configure()
    import jax

    for device in jax.devices():
        memory = device.memory_stats() or {}
        size = f", {memory['bytes_limit'] / 2**30:.1f} GiB" if "bytes_limit" in memory else ""
        print(f"{device.id}: {' '.join(dict.fromkeys((device.platform, device.device_kind)))}{size}")
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"host: {os.cpu_count()} cores, {host:.1f} GiB")
    print(*(f"{name} {version}" for name, version in backend.versions().items()), sep="\n")
    return OK


def status(verdicts: Iterable[Verdict], *, strict: bool = False) -> int:
    """The exit status that verdicts deserve."""
    verdicts = tuple(verdicts)
    undecided = [
        verdict
        for verdict in verdicts
        if verdict.undecided
        and verdict.verdict in (verdict.expected or verdict.verdict, INCONCLUSIVE)
        and set(verdict.mutants.values()) <= {REFUTED, INCONCLUSIVE}
    ]
    if any(not verdict.as_expected and verdict not in undecided for verdict in verdicts):
        return UNEXPECTED
    if strict and undecided:
        return UNDECIDED
    return OK if all(verdict.as_expected for verdict in verdicts) else UNEXPECTED


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no "✓" shows "?"
    commands: dict[str, Any] = {
        "verify": verify,
        "list": list_claims,
        "show": show,
        "falsify": falsify,
        "search": search,
        "devices": devices,
    }
    try:
        return tyro.extras.subcommand_cli_from_dict(
            commands,
            args=args,
            prog="sketchprune",
            description="Measure theorems about pruning neural networks at initialisation.",
            config=(FlagCreatePairsOff,),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt as interrupt:
        print(": ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return INTERRUPTED


def entry():
    """Run the command and leave at once: work ahead in other threads is not waited for."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failure(item: "Selected", error: Exception, out: Path, number: int) -> str:
    from sketchprune._files import write_atomically
    from theory.cli.select import reason

    path, colons, _ = item.argument.partition("::")
    trace = out / f"traceback-{number}.txt"
    write_atomically(trace, "".join(traceback.format_exception(error)))
    return f"verification failed with {reason(error, path if colons else None)}; the traceback is in {trace}"


def _say(console: "Console", lines: Iterable[Any]):
    for line in lines:
        console.print(line, soft_wrap=True)
