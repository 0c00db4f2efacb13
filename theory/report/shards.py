"""Joins the folders of all shards of a run into its report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from theory.report import journal
from theory.report.journal import ClaimKey
from theory.report.run import WHOLE, Report, Run, Selected
from theory.report.tables import read_failed
from theory.verdict import Verdict


@dataclass(frozen=True)
class ShardFolder:
    """What the folder of one shard holds.

    Attributes:
        folder: where it is.
        run: the settings of the shard.
        verdicts: the verdicts that it reached.
        failed: the argument of each claim that it could not verify, with the reason.
    """

    folder: Path
    run: Run
    verdicts: dict[ClaimKey, Verdict]
    failed: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> "ShardFolder":
        """Read a folder that ``verify --shard`` wrote.

        Raises:
            ValueError: it is no such folder, or cannot be read.
        """
        run, verdicts = journal.read(folder)
        if run.shard == WHOLE:
            raise ValueError(f"folder is {folder}, which holds a whole run; it takes one that verify --shard wrote")
        return cls(folder, run, verdicts, read_failed(folder))

    @property
    def number(self) -> int:
        """Which of the shards it is."""
        return int(self.run.shard.partition("/")[0])


def whole_run(shards: Sequence[ShardFolder]) -> Run:
    """The settings of the run that all shards are parts of.

    Args:
        shards: at least one.

    Raises:
        ValueError: they are parts of different runs, or one of them is missing.
    """
    first = shards[0]
    of = first.run.shard.partition("/")[2]
    for shard in shards[1:]:
        same_part = replace(shard.run, shard=f"{first.number}/{shard.run.shard.partition('/')[2]}")
        if differences := journal.setting_differences(first.run, asdict(same_part)):
            raise ValueError(
                f"folder is {shard.folder}, which holds a shard of another run than {first.folder} "
                f"({'; '.join(differences)}); it takes shards of one run"
            )
    if missing := sorted(set(range(1, int(of) + 1)) - {shard.number for shard in shards}):
        names = ", ".join(f"{number}/{of}" for number in missing)
        raise ValueError(f"folder has no shard {names}; it takes the folders of all shards")
    return replace(first.run, shard=WHOLE, selection="")


def merge(shards: Sequence[ShardFolder], run: Run, parts: Sequence[Sequence[Selected]], order: Sequence[str]) -> Report:
    """One report of the verdicts of all shards.

    Args:
        shards: the folders.
        run: of :func:`whole_run`.
        parts: the claims of each shard, by the number of the shard.
        order: the arguments of all claims in the order in which they were selected.

    Raises:
        ValueError: a shard lacks a verdict, or two of them disagree.
    """
    found: dict[str, tuple[ShardFolder, Selected, Verdict | str]] = {}
    for shard in shards:
        for item in parts[shard.number - 1]:
            result = _result(shard, item)
            other = found.setdefault(item.argument, (shard, item, result))
            if not _agree(other[2], result):
                raise ValueError(
                    f"folder is {shard.folder}, which disagrees with {other[0].folder} on {item.argument}; "
                    "it takes each shard once"
                )
    report = Report(run)
    for argument in order:
        _, item, result = found[argument]
        if isinstance(result, Verdict):
            report.verdicts.append((item, result))
        else:
            report.failed[argument] = result
    return report


def _result(shard: ShardFolder, item: Selected) -> Verdict | str:
    """The verdict of a shard on one of its claims, or why it has none."""
    verdict = shard.verdicts.get(journal.key(item))
    if verdict is not None:
        return verdict
    if item.argument in shard.failed:
        return shard.failed[item.argument]
    if any(argument == item.argument for argument, _ in shard.verdicts):
        raise ValueError(
            f"folder is {shard.folder}, which has a verdict on another text of {item.argument.partition('::')[0]}; "
            "it takes shards of the file as it is now"
        )
    raise ValueError(
        f"folder is {shard.folder}, which has no verdict on {item.argument} yet; "
        "it takes a shard that has ended, and --resume goes on with one"
    )


def _agree(first: Verdict | str, second: Verdict | str) -> bool:
    """Whether two results are the same, but for the seconds that they took and for where a traceback is."""
    return first == second or (isinstance(first, str) and isinstance(second, str))
