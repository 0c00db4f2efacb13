"""Checkpoints of a search: what it found so far and which search it is, written atomically by process 0 alone."""

from pathlib import Path
from typing import Any

import jax

from sketchprune.search import mesh


class Checkpoints:
    """The checkpoints in a folder.

    ``identity`` names what makes the search the one it is; a checkpoint of another one is refused.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]):
        self.folder, self.identity = Path(folder).absolute(), identity
        self._manager = _manager(self.folder) if jax.process_index() == 0 else None

    def restored(self) -> dict[str, Any] | None:
        """The newest record, or None in an empty folder.

        ValueError for a checkpoint that cannot be read or belongs to another search; all processes raise it.
        """
        return mesh.answered(self._newest)

    def save(self, record: dict[str, Any]):
        """Write a record; when this returns it is on disk."""
        if self._manager is not None:
            import orbax.checkpoint as ocp

            self._manager.save(record["done"], args=ocp.args.JsonSave({"search": self.identity, "found": record}))
            self._manager.wait_until_finished()

    def close(self):
        """Release what orbax holds."""
        if self._manager is not None:
            self._manager.close()

    def _newest(self) -> dict[str, Any] | None:
        if self._manager is None or (step := self._manager.latest_step()) is None:
            return None
        import orbax.checkpoint as ocp

        try:
            saved = self._manager.restore(step, args=ocp.args.JsonRestore())
            there, record = saved["search"], saved["found"]
            differs = [
                f"{name}: {there.get(name)} there, {self.identity.get(name)} here"
                for name in {**there, **self.identity}
                if there.get(name) != self.identity.get(name)
            ]
        except Exception as error:  # whatever a damaged file makes of the readers
            raise ValueError(
                f"checkpoint {self.folder / str(step)} cannot be read ({type(error).__name__}: {error}); "
                "it takes one that a search wrote, or an empty folder"
            ) from error
        if differs:
            raise ValueError(
                f"checkpoint {self.folder} is of another search ({'; '.join(differs)}); "
                "it takes one of the same search, or an empty folder"
            )
        return record


def _manager(folder: Path) -> Any:
    import orbax.checkpoint as ocp  # slow to import

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint is {folder}: {error.strerror}; it takes a folder that can be written") from None
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="search")
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        create=False,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
        multiprocessing_options=alone,
    )
    return ocp.CheckpointManager(folder, options=options)
