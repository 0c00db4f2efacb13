"""The folder that a command writes into, which belongs to one run at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(out: Path, file: str | None = None) -> Iterator[None]:
    """Make a folder, and keep other runs out of it, or out of one file in it, until this block is left.

    The lock is the operating system's, on the folder or the file itself: it leaves no file of its own, and goes when
    its process dies. Where a file system has no locks, there is none.

    Args:
        out: the folder.
        file: the name of the file that is written, which is made empty where there is none; None for the whole folder.

    Raises:
        ValueError: the folder cannot be made, or another run writes into it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if file is None:
            descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
        else:
            descriptor = os.open(out / file, os.O_RDWR | os.O_CREAT, 0o666)
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
