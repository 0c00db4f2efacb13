"""A new .npy file that is written block by block, by several processes too."""

import contextlib
import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np

from sketchprune._processes import allgather_text, call_on_process_0

Write = Callable[[np.ndarray, int, int], None]
"""``write(values, row, column)`` puts a block into the kernel, its first entry at this row and column."""


@contextlib.contextmanager
def new_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[Write]:
    """What writes blocks of a new file, which appears at its path when this block is left and all is written.

    Blocks are written by ordinary writes, not through a memory map: pages of a map would count as the process's
    memory, a full disk would end the process, and on a network file system two processes that write into one page
    would undo each other's work. Every process has to enter with the same arguments.

    Args:
        path: the file; what is there stays until the new file is whole.
        shape: of the whole array.
        dtype: of its entries.

    Raises:
        ValueError: the file cannot be made, or there is too little room for it.
        OSError: in every process, when one of them cannot write.
    """
    part = path.with_name(f".{path.name}.part")
    offset = call_on_process_0(lambda: _created(path, part, shape, dtype))
    try:
        failure = ""
        try:
            with open(part, "r+b") as file:
                yield functools.partial(_write, file, offset, shape[1])
        except OSError as error:
            failure = f"{error.strerror or error}, in process {jax.process_index()}"
        if failures := list(filter(None, allgather_text(failure))):
            raise OSError(f"out is {path}, which cannot be written ({'; '.join(failures)})")
        call_on_process_0(lambda: os.replace(part, path))
    except BaseException:
        if jax.process_index() == 0:
            part.unlink(missing_ok=True)
        raise


def _created(path: Path, part: Path, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Make the unfinished file, whose entries take no room yet; says where they start in it."""
    if dtype.kind == "V":
        raise ValueError(f"out is {path} for a kernel in {dtype}, which no .npy file holds; it takes None")
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        size, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(path.parent).free
        if size > free:
            raise OSError(None, f"the kernel takes {size:,} bytes, and {free:,} are free")
        return np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape).offset
    except OSError as error:
        raise ValueError(f"out is {path}: {error.strerror}; it takes a file that can be written") from None


def _write(file: BinaryIO, offset: int, columns: int, values: np.ndarray, row: int, column: int) -> None:
    """Write a block, one row after another."""
    entry = values[0, 0].nbytes
    for number, line in enumerate(values, row):
        file.seek(offset + (number * columns + column) * entry)
        file.write(np.ascontiguousarray(line).data)
