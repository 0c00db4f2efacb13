"""Data: the embedded digits, files of one's own, synthetic samples, and their preparation."""

import gzip
import zipfile
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from sketchprune._boundary import checked
from sketchprune.types import Key

MAX_CLASSES = 2**15
"""The most classes of a data set: one-hot targets have a column for each."""


@struct.dataclass(eq=False)
class Dataset:
    """Labelled samples on the host: NumPy arrays, so that loading runs no JAX operation.

    A pytree of its two arrays. Two data sets are equal when they are the same object.

    Attributes:
        x: Samples [n, d], images flattened.
        y: Labels [n], 0 to num_classes − 1.
        name: What reports call it.
        num_classes: The number of classes.
        image_shape: (height, width, channels) of the images, or () for plain features.
    """

    x: np.ndarray | Array
    y: np.ndarray | Array
    name: str = struct.field(pytree_node=False)
    num_classes: int = struct.field(pytree_node=False)
    image_shape: tuple[int, ...] = struct.field(pytree_node=False, default=())

    @property
    def images(self) -> Float[Array | np.ndarray, "n h w c"]:
        """The samples as images. Raises ValueError when they are not images."""
        if not self.image_shape:
            raise ValueError(f"{self.name} holds plain features; images takes a data set of images")
        return self.x.reshape(len(self.x), *self.image_shape)


def load(source: str | Path = "digits") -> Dataset:
    """A data set: the embedded digits, an .npz file, or a folder of MNIST or CIFAR binary files.

    - "digits": scikit-learn's 1,797 images of 8x8 pixels with values 0 to 16, in float64; nothing is downloaded.
    - An .npz file: an array ``x`` of numbers, [n, d], [n, h, w] or [n, h, w, c], and ``y`` with n labels 0, 1, ….
      Floating dtypes are kept; whole numbers become float64.
    - A folder with the training files of MNIST (train-images and train-labels in IDX form, plain or .gz), CIFAR-10
      (data_batch_1.bin to data_batch_5.bin) or CIFAR-100 (train.bin, fine labels): pixels 0 to 255 in float32.

    Args:
        source: "digits" or a path.

    Returns:
        The data set, named after the file or folder.

    Raises:
        ValueError: Something is missing, unreadable or malformed; the message names the file.

    Example:
        >>> load().x.shape, load().num_classes, load().images.shape
        ((1797, 64), 10, (1797, 8, 8, 1))
    """
    if source == "digits":
        from sklearn.datasets import load_digits  # slow to import

        pixels, labels = load_digits(return_X_y=True)
        return Dataset(pixels, labels, "digits", 10, (8, 8, 1))
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise ValueError(f"source is {str(source)!r}; it takes 'digits', an .npz file or a folder that exist")
    return _npz(path)


@checked
def gaussian(key: Key, n: int, d: int) -> Float[Array, "n d"]:
    """Samples of independent standard normal features, in JAX's default floating dtype.

    Args:
        key: The key.
        n: The number of samples.
        d: The number of features.

    Example:
        >>> gaussian(jax.random.key(0), 3, 2).shape
        (3, 2)
    """
    return jax.random.normal(key, (n, d))


@checked
def standardise(x: Float[Array | np.ndarray, "n d"]) -> Float[Array, "n d"]:
    """Columns of mean 0 and variance 1, so of norm √n.

    (x − mean)/√(mean of squares of x − mean), whatever the size of the numbers: no square overflows or underflows.
    Constant columns become zero columns, exactly.

    Cost:
        n d.

    Example:
        >>> standardise(jnp.array([[1.0, 0.1], [3.0, 0.1]])).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    constant = x.max(0) == x.min(0)
    centred = jnp.where(constant, 0, x - x.mean(0))
    centred = centred / jnp.where(constant, 1, abs(centred).max(0))  # first, so that squares are of the order of 1
    return centred / jnp.where(constant, 1, jnp.sqrt(jnp.mean(centred**2, 0)))


@checked
def one_hot(y: Int[Array | np.ndarray, "n"], num_classes: int) -> Float[Array, "n num_classes"]:
    """Targets 1 in the column of the label and 0 elsewhere.

    Args:
        y: Labels [n].
        num_classes: The number of columns.

    Example:
        >>> one_hot(jnp.array([1, 0]), 2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    return jax.nn.one_hot(y, num_classes)


@checked
def one_vs_rest(y: Int[Array | np.ndarray, "n"], label: int | Int[Array, ""]) -> Float[Array, "n"]:
    """Targets +1 where the label is the given one and −1 elsewhere.

    Args:
        y: Labels [n].
        label: The one that gets +1.

    Example:
        >>> one_vs_rest(jnp.array([1, 0, 2]), 1).tolist()
        [1.0, -1.0, -1.0]
    """
    return jnp.where(jnp.asarray(y) == label, jnp.ones(()), -1)


def _npz(path: Path) -> Dataset:
    """A data set from an .npz file, with everything that can be wrong in one named."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz archive or cannot be read; it takes a file written by numpy.savez")
    x, y = _arrays(path)
    x = _checked_samples(path, x)
    if y.ndim != 1:
        raise ValueError(f"y of {path} has shape {y.shape}; it takes one label for each sample, [n]")
    if len(x) != len(y):
        raise ValueError(f"x of {path} has {len(x)} samples and y has {len(y)} labels; it takes as many of each")
    labels = _checked_labels(path, y)
    image_shape = () if x.ndim == 2 else (*x.shape[1:], 1)[:3]
    return Dataset(x.reshape(len(x), -1), labels, path.stem, int(labels.max()) + 1, image_shape)


def _checked_samples(path: Path, x: np.ndarray) -> np.ndarray:
    """The samples as floating numbers. Raises ValueError for what is no array of finite numbers."""
    if not np.issubdtype(x.dtype, np.floating):
        if not (np.issubdtype(x.dtype, np.integer) or x.dtype == bool):
            raise ValueError(f"x of {path} has dtype {x.dtype}; it takes real numbers")
        x = x.astype(np.float64)
    if x.ndim not in (2, 3, 4):
        raise ValueError(f"x of {path} has shape {x.shape}; it takes [n, d], [n, h, w] or [n, h, w, c]")
    if not x.size:
        raise ValueError(f"x of {path} has shape {x.shape} and is empty; it takes at least one number")
    if not np.isfinite(x).all():
        raise ValueError(f"x of {path} has {(~np.isfinite(x)).sum()} NaN or infinite entries; it takes finite numbers")
    return x


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays x and y of an .npz file."""
    name = "archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {}
            for name in ("x", "y"):
                if name in archive.files:
                    arrays[name] = archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{name} of {path} cannot be read ({error}); it takes a rectangular array of numbers"
        ) from error
    for name in ("x", "y"):
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}; it takes arrays x and y")
    return arrays["x"], arrays["y"]


def _checked_labels(path: Path, y: np.ndarray) -> np.ndarray:
    """The labels as int64. Raises ValueError for what are no whole numbers >= 0."""
    takes = "it takes the labels 0, 1, …"
    if not (np.issubdtype(y.dtype, np.integer) or np.issubdtype(y.dtype, np.floating)):
        raise ValueError(f"y of {path} has dtype {y.dtype}; {takes}")
    wrong = y[~((y >= 0) & (y < MAX_CLASSES) & (y == np.floor(y)))]
    if wrong.size:
        raise ValueError(f"y of {path} has the entry {wrong[0]}; {takes}, below {MAX_CLASSES}")
    return y.astype(np.int64)


def _folder(path: Path) -> Dataset:
    """A data set from a folder of binary files, whose names say which one it is."""
    if images := sorted(path.glob("train-images*idx3-ubyte*")):
        labels = sorted(path.glob("train-labels*idx1-ubyte*"))
        if not labels:
            raise ValueError(f"{path} has {images[0].name} and no train-labels; it takes both files")
        return _mnist(path.name, images[0], labels[0])
    if (path / "data_batch_1.bin").exists():
        return _cifar(path.name, [path / f"data_batch_{part}.bin" for part in range(1, 6)], 1, 10)
    if (path / "train.bin").exists():
        return _cifar(path.name, [path / "train.bin"], 2, 100)
    raise ValueError(
        f"{path} holds no data set; it takes a folder with MNIST's train-images-idx3-ubyte, CIFAR-10's "
        f"data_batch_1.bin or CIFAR-100's train.bin"
    )


def _mnist(name: str, images: Path, labels: Path) -> Dataset:
    """A data set from IDX files of images and labels."""
    x, y = _idx(images, 3), _idx(labels, 1)
    if len(x) != len(y):
        raise ValueError(f"{images} has {len(x)} images, {labels} has {len(y)} labels; it takes as many of each")
    flat = x.reshape(len(x), -1).astype(np.float32)
    return Dataset(flat, y.astype(np.int64), name, int(y.max()) + 1, (*x.shape[1:], 1))


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
