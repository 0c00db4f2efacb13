"""Loading of data sets, and their training and test parts, which never overlap."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.data import files
from sketchprune.data.arrays import TEST_NAMES, from_arrays, like_training, training_names
from sketchprune.data.dataset import Dataset

TEST_FRACTION = 0.2
"""The part that is held out of a data set without a test set."""


def load(source: str | Path | Mapping[str, Any] = "digits", split: Literal["train", "test"] | None = None) -> Dataset:
    """A data set: the embedded digits, an .npz file, arrays by name, or a folder of MNIST or CIFAR binary files.

    - "digits": scikit-learn's 1,797 images of 8x8 pixels, 0 to 16 in float64. Nothing is downloaded.
    - An .npz file: ``x`` [n, d], [n, h, w] or [n, h, w, c], and ``y``, n labels 0, 1, …; perhaps ``x_test`` and
      ``y_test``. Floating dtypes are kept, whole numbers become float64. The names of Keras's mnist.npz (``x_train``,
      ``y_train``) and of scikit-learn (``data`` or ``images``, ``target``) work too.
    - A mapping of such arrays, such as a scikit-learn Bunch. For tables see :func:`from_table`.
    - A folder: MNIST (train-images and train-labels in IDX form, plain or .gz), CIFAR-10 (data_batch_1.bin to
      data_batch_5.bin) or CIFAR-100 (train.bin, fine labels), with the test sets t10k-images and t10k-labels,
      test_batch.bin and test.bin. Pixels are 0 to 255 in float32.

    The parts "train" and "test" have no sample in common. A test set that comes with the data is the test part;
    otherwise :func:`hold_out` divides the data, always in the same way. Pickles are not read: they would run any code
    that is in them.

    Args:
        source: "digits", a path, or arrays by name.
        split: "train" or "test" for a part; None for all samples but those of a test set.

    Returns:
        The data set, named after the file or folder, or "arrays". Both parts have the classes of the training labels.

    Raises:
        ValueError: Something is missing, unreadable or malformed; the message names the file.

    Example:
        >>> load().x.shape, load().num_classes, load().images.shape
        ((1797, 64), 10, (1797, 8, 8, 1))
        >>> len(load("digits", "train").x), len(load("digits", "test").x)
        (1438, 359)
    """
    if split not in (None, "train", "test"):
        raise ValueError(f"split is {split!r}; it takes 'train', 'test' or None")
    if isinstance(source, Mapping):
        whole = from_arrays("source", training_names(source), source, "arrays")
    else:
        whole = _digits() if source == "digits" else files.training_set(_existing(source))
    if split is None:
        return whole
    folder = not isinstance(source, Mapping) and Path(source).is_dir()
    if not (folder or has_test_set(source)):
        return hold_out(whole)[split == "test"]
    if split == "train":
        return whole
    if isinstance(source, Mapping):
        return like_training(from_arrays("source", TEST_NAMES, source, "arrays"), whole, "source", TEST_NAMES)
    return files.test_set(Path(source), whole)


def has_test_set(source: str | Path | Mapping[str, Any]) -> bool:
    """Whether a test set comes with a data set that :func:`load` reads; otherwise a part has to be held out.

    Args:
        source: "digits", a path, or arrays by name.

    Returns:
        A boolean.

    Example:
        >>> has_test_set("digits")
        False
    """
    if isinstance(source, Mapping):
        return bool(set(TEST_NAMES) & set(source))
    return source != "digits" and files.has_test_set(Path(source))


@checked
def hold_out(dataset: Dataset, fraction: float = TEST_FRACTION, *, seed: int = 0) -> tuple[Dataset, Dataset]:
    """A training set and a test set without a sample in common, which together are the data set.

    The test set is a stratified sample: of the n_k samples of class k it takes n_k · fraction, rounded up or down so
    that their sum is n · fraction, rounded. Both parts keep the order of the samples.

    Args:
        dataset: The samples.
        fraction: The part that is held out, in (0, 1).
        seed: What the choice depends on, beside the labels.

    Returns:
        The training set and the test set.

    Raises:
        ValueError: A fraction that leaves one of them without a sample.

    Example:
        >>> few = Dataset(np.arange(10.0)[:, None], np.array([0] * 5 + [1] * 5), "few", 2)
        >>> train, test = hold_out(few, 0.4)
        >>> np.bincount(train.y).tolist(), np.bincount(test.y).tolist()
        ([3, 3], [2, 2])
    """
    samples = len(dataset.x)
    count = round(fraction * samples) if 0 < fraction < 1 else 0
    if not 0 < count < samples:
        raise ValueError(
            f"fraction is {fraction:g} of {samples} samples; it takes a number in (0, 1) that leaves both parts samples"
        )
    held_out = _stratified(np.asarray(dataset.y), count, seed)
    return _part(dataset, ~held_out), _part(dataset, held_out)


@checked
def subset(dataset: Dataset, count: int, *, seed: int = 0) -> Dataset:
    """A stratified sample of a data set: of each class the same part, to rounding, as of all.

    Args:
        dataset: The samples.
        count: How many are taken.
        seed: What the choice depends on, beside the labels.

    Returns:
        The chosen samples, in their order.

    Raises:
        ValueError: A count below 1 or above the number of samples.

    Example:
        >>> np.bincount(subset(load(), 100).y).tolist()
        [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    _checks.whole("count", count, least=1)
    if count > len(dataset.x):
        raise ValueError(
            f"count is {count}; it takes at most {len(dataset.x)}, the number of samples of {dataset.name}"
        )
    return _part(dataset, _stratified(np.asarray(dataset.y), count, seed))


def _stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which samples a stratified choice of this size takes; classes get whole numbers by largest remainders."""
    classes, sizes = np.unique(labels, return_counts=True)
    exact = count * sizes / len(labels)
    quotas = np.floor(exact + 1e-9).astype(int)
    for place in np.argsort(quotas - exact, kind="stable")[: count - quotas.sum()]:
        quotas[place] += 1
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        chosen[rng.permutation(np.flatnonzero(labels == label))[:quota]] = True
    return chosen


def _part(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """The chosen samples."""
    return dataclasses.replace(dataset, x=dataset.x[chosen], y=dataset.y[chosen])


def _digits() -> Dataset:
    """Scikit-learn's digits, in arrays of the caller's own."""
    pixels, labels = _digit_arrays()
    return Dataset(pixels.copy(), labels.copy(), "digits", 10, (8, 8, 1))


@functools.cache
def _digit_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels; their text file is parsed once."""
    from sklearn.datasets import load_digits  # slow to import

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels), np.asarray(labels)


def _existing(source: str | Path) -> Path:
    """The path of a file or folder that exists."""
    path = Path(source)
    if not path.is_dir() and not path.is_file():
        raise ValueError(f"source is {str(source)!r}; it takes 'digits', an .npz file or a folder that exist")
    return path
