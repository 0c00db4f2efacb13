"""Data sets in files: .npz archives, and the binary files of MNIST and CIFAR."""

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sketchprune.data.dataset import Dataset

MAX_CLASSES = 2**15
"""The most classes of a data set: one-hot targets have a column for each."""
_CIFAR_TESTS = ("test_batch.bin", "test.bin")
_UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading an .npz file may raise."""


def training_set(path: Path) -> Dataset:
    """The training files of a folder, or ``x`` and ``y`` of an .npz file.

    Args:
        path: A folder or a file that exists.

    Raises:
        ValueError: Something is missing, unreadable or malformed; the message names the file.
    """
    return _folder(path) if path.is_dir() else _npz(path)


def has_test_set(path: Path) -> bool:
    """Whether a test set comes with the data: its files in a folder, or its arrays in an .npz file.

    Args:
        path: What :func:`training_set` has read.
    """
    if not path.is_dir():
        return bool({"x_test", "y_test"} & _names(path))
    return any(path.glob("t10k-images*idx3-ubyte*")) or any((path / name).exists() for name in _CIFAR_TESTS)


def test_set(path: Path, training: Dataset) -> Dataset:
    """The test files of a folder, or ``x_test`` and ``y_test`` of an .npz file.

    Args:
        path: A folder, or a file with a test set.
        training: What :func:`training_set` has read.

    Raises:
        ValueError: As :func:`training_set`; and for samples of another shape, and labels that are not among the classes
            of the training set.
    """
    found = _folder(path, test=True) if path.is_dir() else _npz(path, "_test")
    x_name, y_name = ("the test set", "the test set") if path.is_dir() else ("x_test", "y_test")
    if found.x.shape[1:] != training.x.shape[1:] or found.image_shape != training.image_shape:
        shapes = [tuple(each.image_shape or each.x.shape[1:]) for each in (found, training)]
        raise ValueError(
            f"{x_name} of {path} has samples of shape {shapes[0]}; it takes {shapes[1]}, as the training set has"
        )
    if (largest := int(found.y.max())) >= training.num_classes:
        raise ValueError(
            f"{y_name} of {path} has the label {largest}; "
            f"it takes 0 to {training.num_classes - 1}, the classes of the training set"
        )
    x = np.asarray(found.x, training.x.dtype)
    return Dataset(x, found.y, training.name, training.num_classes, training.image_shape)


# --- .npz files


def _npz(path: Path, suffix: str = "") -> Dataset:
    """A data set from an .npz file, with everything that can be wrong in one named."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz archive or cannot be read; it takes a file written by numpy.savez")
    names = "x" + suffix, "y" + suffix
    x, y = _arrays(path, names)
    x = _checked_samples(path, names[0], x)
    if y.ndim != 1:
        raise ValueError(f"{names[1]} of {path} has shape {y.shape}; it takes one label for each sample, [n]")
    if len(x) != len(y):
        raise ValueError(
            f"{names[0]} of {path} has {len(x)} samples and {names[1]} has {len(y)} labels; it takes as many of each"
        )
    labels = _checked_labels(path, names[1], y)
    image_shape = () if x.ndim == 2 else (*x.shape[1:], 1)[:3]
    return Dataset(x.reshape(len(x), -1), labels, path.stem, int(labels.max()) + 1, image_shape)


def _names(path: Path) -> set[str]:
    """The names of the arrays in an .npz file that was read before."""
    with np.load(path, allow_pickle=False) as archive:
        return set(archive.files)


def _arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """The arrays of these names in an .npz file."""
    name = "archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {}
            for name in names:
                if name in archive.files:
                    arrays[name] = archive[name]
    except _UNREADABLE as error:
        raise ValueError(
            f"{name} of {path} cannot be read ({error}); it takes a rectangular array of numbers"
        ) from error
    for name in names:
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}; it takes arrays {' and '.join(names)}")
    return [arrays[name] for name in names]


def _checked_samples(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    """The samples as floating numbers. Raises ValueError for what is no array of finite numbers."""
    if not np.issubdtype(x.dtype, np.floating):
        if not (np.issubdtype(x.dtype, np.integer) or x.dtype == bool):
            raise ValueError(f"{name} of {path} has dtype {x.dtype}; it takes real numbers")
        x = x.astype(np.float64)
    if x.ndim not in (2, 3, 4):
        raise ValueError(f"{name} of {path} has shape {x.shape}; it takes [n, d], [n, h, w] or [n, h, w, c]")
    if not x.size:
        raise ValueError(f"{name} of {path} has shape {x.shape} and is empty; it takes at least one number")
    if not np.isfinite(x).all():
        wrong = (~np.isfinite(x)).sum()
        raise ValueError(f"{name} of {path} has {wrong} NaN or infinite entries; it takes finite numbers")
    return x


def _checked_labels(path: Path, name: str, y: np.ndarray) -> np.ndarray:
    """The labels as int64. Raises ValueError for what are no whole numbers >= 0."""
    takes = "it takes the labels 0, 1, …"
    if not (np.issubdtype(y.dtype, np.integer) or np.issubdtype(y.dtype, np.floating)):
        raise ValueError(f"{name} of {path} has dtype {y.dtype}; {takes}")
    wrong = y[~((y >= 0) & (y < MAX_CLASSES) & (y == np.floor(y)))]
    if wrong.size:
        raise ValueError(f"{name} of {path} has the entry {wrong[0]}; {takes}, below {MAX_CLASSES}")
    return y.astype(np.int64)


# --- Folders of binary files


def _folder(path: Path, *, test: bool = False) -> Dataset:
    """The training or test set in a folder of binary files, whose names say which data set it is."""
    if sorted(path.glob("train-images*idx3-ubyte*")):
        return _mnist(path, "t10k" if test else "train")
    if (path / "data_batch_1.bin").exists():
        names = ["test_batch.bin"] if test else [f"data_batch_{part}.bin" for part in range(1, 6)]
        return _cifar(path.name, [path / name for name in names], 1, 10)
    if (path / "train.bin").exists():
        return _cifar(path.name, [path / ("test.bin" if test else "train.bin")], 2, 100)
    raise ValueError(
        f"{path} holds no data set; it takes a folder with MNIST's train-images-idx3-ubyte, CIFAR-10's "
        f"data_batch_1.bin or CIFAR-100's train.bin"
    )


def _mnist(path: Path, part: str) -> Dataset:
    """A data set from IDX files of images and labels whose names start with "train" or "t10k"."""
    images = sorted(path.glob(f"{part}-images*idx3-ubyte*"))
    if not images:
        raise ValueError(f"{path} has no {part}-images-idx3-ubyte; it takes a folder with MNIST's test images")
    labels = sorted(path.glob(f"{part}-labels*idx1-ubyte*"))
    if not labels:
        raise ValueError(f"{path} has {images[0].name} and no {part}-labels; it takes both files")
    x, y = _idx(images[0], 3), _idx(labels[0], 1)
    if len(x) != len(y):
        raise ValueError(f"{images[0]} has {len(x)} images, {labels[0]} has {len(y)} labels; it takes as many of each")
    flat = x.reshape(len(x), -1).astype(np.float32)
    return Dataset(flat, y.astype(np.int64), path.name, int(y.max()) + 1, (*x.shape[1:], 1))


def _idx(path: Path, ndim: int) -> np.ndarray:
    """The array in an IDX file of bytes: two zeros, the type 8, the number of axes, their lengths, the entries."""
    content = np.frombuffer(_content(path), np.uint8)
    head = 4 + 4 * ndim
    if content[:4].tolist() != [0, 0, 8, ndim]:
        raise ValueError(f"{path} starts with {content[:4].tolist()}; it takes an IDX file of bytes with {ndim} axes")
    shape = tuple(content[4:head].view(">u4").tolist()) if content.size >= head else ()
    if not shape or not np.prod(shape) or content.size != head + np.prod(shape):
        raise ValueError(f"{path} has {content.size} bytes for the shape {shape}; it takes a whole IDX file")
    return content[head:].reshape(shape)


def _cifar(name: str, files: list[Path], label_bytes: int, num_classes: int) -> Dataset:
    """A data set from records of 3 x 32 x 32 pixels, each after its label bytes, of which the last one counts."""
    length = label_bytes + 3 * 32 * 32
    parts = []
    for file in files:
        content = np.frombuffer(_content(file), np.uint8)
        if not content.size or content.size % length:
            raise ValueError(f"{file} has {content.size} bytes; it takes a positive multiple of {length}")
        parts.append(content.reshape(-1, length))
    records = np.concatenate(parts)
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= num_classes:
        raise ValueError(f"{files[0].parent} has the label {labels.max()}; it takes 0 to {num_classes - 1}")
    x = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).reshape(len(records), -1)
    return Dataset(x.astype(np.float32), labels, name, num_classes, (32, 32, 3))


def _content(path: Path) -> bytes:
    """The bytes of a file, decompressed if it is a .gz file."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
