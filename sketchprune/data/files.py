"""Data sets in files: .npz archives, and the binary files of MNIST and CIFAR."""

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sketchprune.data.arrays import TEST_NAMES, from_arrays, like_training, training_names
from sketchprune.data.dataset import Dataset

_CIFAR_TESTS = ("test_batch.bin", "test.bin")
_UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading an .npz file may raise."""
_PICKLES = (
    "Reading a pickle runs any code that is in it. Where you trust it, read it once yourself, and write the arrays "
    "with numpy.savez('mine.npz', x=x, y=y)."
)


def training_set(path: Path) -> Dataset:
    """The training files of a folder, or the training arrays of an .npz file.

    Args:
        path: A folder or a file that exists.

    Returns:
        The data set, named after the file or folder.

    Raises:
        ValueError: Something is missing, unreadable or malformed; the message names the file.
    """
    return _folder(path) if path.is_dir() else _npz(path)


def has_test_set(path: Path) -> bool:
    """Whether a test set comes with the data: its files in a folder, or its arrays in an .npz file.

    Args:
        path: What :func:`training_set` has read.

    Returns:
        A boolean.
    """
    if not path.is_dir():
        return bool(set(TEST_NAMES) & _names(path))
    return any(path.glob("t10k-images*idx3-ubyte*")) or any((path / name).exists() for name in _CIFAR_TESTS)


def test_set(path: Path, training: Dataset) -> Dataset:
    """The test files of a folder, or ``x_test`` and ``y_test`` of an .npz file.

    Args:
        path: A folder, or a file with a test set.
        training: What :func:`training_set` has read.

    Returns:
        The data set, with the name, dtype and classes of the training set.

    Raises:
        ValueError: As :func:`training_set`; and for samples of another shape, and labels that are not among the classes
            of the training set.
    """
    found = _folder(path, test=True) if path.is_dir() else _npz(path, test=True)
    names = ("the test set", "the test set") if path.is_dir() else TEST_NAMES
    return like_training(found, training, str(path), names)


# --- .npz files


def _npz(path: Path, *, test: bool = False) -> Dataset:
    """The training or test set in an .npz file, with everything that can be wrong in one named."""
    if not zipfile.is_zipfile(path):
        _refuse_pickles(path)
        raise ValueError(f"{path} is no .npz archive or cannot be read; it takes a file written by numpy.savez")
    names = TEST_NAMES if test else training_names(_names(path))
    return from_arrays(str(path), names, _arrays(path, names), path.stem)


def _names(path: Path) -> set[str]:
    """The names of the arrays in an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return set(archive.files)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read ({error}); it takes a file written by numpy.savez") from error


def _arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names in an .npz file, as far as they are there."""
    name = "archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {}
            for name in names:
                if name in archive.files:
                    arrays[name] = archive[name]
    except _UNREADABLE as error:
        why = f". Objects are pickled, and {_PICKLES}" if "pickle" in str(error) else ""
        raise ValueError(
            f"{name} of {path} cannot be read ({error}); it takes a rectangular array of numbers{why}"
        ) from error
    return arrays


def _refuse_pickles(path: Path) -> None:
    """Refuses a pickle by its first byte, or by its name; nothing of it is loaded."""
    with path.open("rb") as file:
        pickled = file.read(1) == b"\x80"
    if pickled or {".pkl", ".pickle", ".joblib"} & set(path.suffixes):
        raise ValueError(f"{path} is a pickle; it takes an .npz file. {_PICKLES}")


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
    if any((path / name).exists() for name in ("data_batch_1", "batches.meta", "meta")):
        raise ValueError(f"{path} holds pickles; it takes the binary version of CIFAR. {_PICKLES}")
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
