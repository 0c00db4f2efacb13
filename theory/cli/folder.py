"""The folder that a command writes into, which belongs to one run at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make a folder, and keep other runs out of it until this block is left.

    The lock is the operating system's, on the folder itself: it leaves no file, and goes when its process dies. Where
    a file system has no locks, there is none.

    Args:
        out: the folder.

    Raises:
        ValueError: the folder cannot be made, or another run writes into it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ValueError(
            f"out is {out}, which cannot be written ({error.strerror}); it takes a folder that can be written"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"out is {out}, into which another run is writing; it takes another --out, or a start after that run"
            ) from None
        except OSError:
            pass  # no locks on this file system
        yield
    finally:
        os.close(descriptor)
