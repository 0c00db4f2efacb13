"""Checkpoints of a search: what it found so far and which search it is, written atomically by process 0 alone."""

import os
import time
from typing import TYPE_CHECKING, Any

import jax

from sketchprune._files import folder_path
from sketchprune.search import mesh
from sketchprune.search._summary import SearchSummary

if TYPE_CHECKING:
    from etils import epath


class Checkpoints:
    """The checkpoints in a folder; without a folder nothing is kept.

    ``identity`` names what makes the search the one it is; a checkpoint of another search is refused. A checkpoint is
    written every ``interval_s`` seconds. Used as a context, it releases what orbax holds, and writes one more
    checkpoint when it is left by Ctrl-C.
    """

    def __init__(self, folder: str | os.PathLike | None, identity: dict[str, Any], interval_s: int | float):
        self._folder = None if folder is None else folder_path(folder)
        self._identity = identity
        self._interval_s = interval_s
        self._manager = None
        if self._folder is not None and jax.process_index() == 0:
            self._manager = _manager(self._folder)
        self._latest: SearchSummary | None = None
        self._saved_masks = 0
        self._saved_at = time.monotonic()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self._latest is not None:
            self._save(self._latest)
        if self._manager is not None:
            self._manager.close()

    def restored(self) -> SearchSummary | None:
        """The newest checkpoint, or None where there is none.

        ValueError, in all processes, for a checkpoint that cannot be read or belongs to another search.
        """
        record = None if self._folder is None else mesh.call_on_process_0(self._newest)
        self._saved_at = time.monotonic()
        if record is None:
            return None
        summary = SearchSummary.restored(record)
        self._saved_masks = summary.done
        return summary

    def update(self, summary: SearchSummary, *, last: bool) -> None:
        """Write a checkpoint if one is due, as it is at the end of the search; when this returns it is on disk."""
        self._latest = summary
        if last or time.monotonic() - self._saved_at >= self._interval_s:
            self._save(summary)

    def _save(self, summary: SearchSummary) -> None:
        if self._manager is not None and summary.done > self._saved_masks:
            import orbax.checkpoint as ocp

            content = {"search": self._identity, "found": summary.record()}
            self._manager.save(summary.done, args=ocp.args.JsonSave(content))
            self._manager.wait_until_finished()
        self._saved_masks = summary.done
        self._saved_at = time.monotonic()

    def _newest(self) -> dict[str, Any] | None:
        if self._manager is None or (step := self._manager.latest_step()) is None:
            return None
        import orbax.checkpoint as ocp

        try:
            saved = self._manager.restore(step, args=ocp.args.JsonRestore())
            there = saved["search"]
            differences = [
                f"{name}: {there.get(name)} there, {self._identity.get(name)} here"
                for name in {**there, **self._identity}
                if there.get(name) != self._identity.get(name)
            ]
            if not differences:
                return saved["found"]
        except Exception as error:  # a damaged file makes the readers raise anything
            raise ValueError(
                f"checkpoint {self._folder}/{step} cannot be read ({type(error).__name__}: {error}); "
                "it takes one that a search wrote, or an empty folder"
            ) from error
        raise ValueError(
            f"checkpoint {self._folder} is of another search ({'; '.join(differences)}); "
            "it takes one of the same search, or an empty folder"
        )


def _manager(folder: "epath.Path") -> Any:
    import orbax.checkpoint as ocp  # slow to import

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ImportError) as error:  # a package that a cloud's storage takes
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"checkpoint is {folder}: {reason}; it takes a folder that can be written") from None
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="search")
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        create=False,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
        multiprocessing_options=alone,
    )
    return ocp.CheckpointManager(folder, options=options)
