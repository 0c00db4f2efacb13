"""A new .npy file that is written block by block, by several processes too."""

import contextlib
import glob
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np

from sketchprune._processes import call_on_process_0, raised_in_every_process

Write = Callable[[np.ndarray, int, int], None]
"""``write(values, row, column)`` puts a block into the kernel, its first entry at this row and column."""


@contextlib.contextmanager
def new_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[Write]:
    """What writes blocks of a new file, which appears at its path when this block is left and all is written.

    Blocks are written by ordinary writes, not through a memory map: pages of a map would count as the process's
    memory, a full disk would end the process, and on a network file system two processes that write into one page
    would undo each other's work. Every process has to enter with the same arguments.

    Until then the blocks are in a hidden file beside it, of a name that no other call has. A process that is killed
    leaves that file behind. No later call deletes it, since it may be that of a call that still runs; where there is
    too little room, the message names it.

    Args:
        path: the file; what is there stays until the new file is whole.
        shape: of the whole array.
        dtype: of its entries.

    Raises:
        ValueError: the file cannot be made, or there is too little room for it.
        OSError: in every process, when one of them cannot write.
    """
    name, offset = call_on_process_0(lambda: _created(path, shape, dtype))
    part = path.with_name(name)
    try:
        with raised_in_every_process(), _opened(path, part, offset, shape[1]) as write:
            yield write
        call_on_process_0(lambda: os.replace(part, path))
    except BaseException:
        if jax.process_index() == 0:
            part.unlink(missing_ok=True)
        raise


def _created(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> tuple[str, int]:
    """Make the unfinished file, whose entries take no room yet; says its name, and where they start in it."""
    if dtype.kind == "V":
        raise ValueError(f"out is {path} for a kernel in {dtype}, which no .npy file holds; it takes None")
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        size = math.prod(shape) * dtype.itemsize
        _check_room(path, size)
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        with open(part, "xb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            offset = file.tell()
            file.truncate(offset + size)
        return part.name, offset
    except OSError as error:
        raise ValueError(f"out is {path}: {error.strerror}; it takes a file that can be written") from None


def _check_room(path: Path, size: int) -> None:
    """Refuse a file for which there is too little room, and name the unfinished files beside it."""
    free = shutil.disk_usage(path.parent).free
    if size > free:
        unfinished = sorted(part.name for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"))
        beside = f" beside {', '.join(unfinished)}, left by killed calls unless one still runs" if unfinished else ""
        raise OSError(None, f"the kernel takes {size:,} bytes, and {free:,} are free{beside}")


@contextlib.contextmanager
def _opened(path: Path, part: Path, offset: int, columns: int) -> Iterator[Write]:
    """What writes blocks into the unfinished file; errors of doing so name the file that is to be made."""
    with _named(path):
        file = open(part, "r+b")

    def write(values: np.ndarray, row: int, column: int) -> None:
        with _named(path):
            _write(file, offset, columns, values, row, column)

    try:
        yield write
    finally:
        with _named(path):
            file.close()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the operating system, with the name of the file that is to be made."""
    try:
        yield
    except OSError as error:
        raise OSError(f"out is {path}, which cannot be written ({error.strerror or error})") from error


def _write(file: BinaryIO, offset: int, columns: int, values: np.ndarray, row: int, column: int) -> None:
    """Write a block, one row after another."""
    entry = values[0, 0].nbytes
    for number, line in enumerate(values, row):
        file.seek(offset + (number * columns + column) * entry)
        file.write(np.ascontiguousarray(line).data)
